"""What the models see of a pair: embeddings centred, scaled to unit length and, for images, reduced by PCA.

Means and directions come from images and captions each on their own, never from who belongs to whom. They are
therefore fitted once, on the whole sample: no fold can leak a correspondence through them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curate.noise.grouping import Sketch, leading_directions
from curate.noise.similarity import Floats, centred_unit_rows, half, map_rows, padded, padded_chunks, unit_rows

Rows = NDArray[np.intp]
_BLOCK = 4096


@dataclass(frozen=True)
class Features:
    """Pairs as the models see them; float32, image and caption of a row need not belong together.

    Attributes:
        image: PCA of the centred unit image embeddings, [n, q].
        image_unit: the same rows scaled to unit length, [n, q].
        text: centred unit caption embeddings, [n, dt].
        raw_image: unit image embeddings as the tower gave them, [n, dv].
        caption: unit caption embeddings as the tower gave them, [n, dt].
        sketch: fingerprints of the pictures (`grouping.Sketch`), [n, s].
    """

    image: Floats
    image_unit: Floats
    text: Floats
    raw_image: Floats
    caption: Floats
    sketch: Floats

    stored_in_half: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.image)

    def map(self, function: Callable[[Floats], Floats]) -> Features:
        """Each of the arrays by itself."""
        return Features(
            image=function(self.image),
            image_unit=function(self.image_unit),
            text=function(self.text),
            raw_image=function(self.raw_image),
            caption=function(self.caption),
            sketch=function(self.sketch),
        )

    def take(self, rows: Rows | slice) -> Features:
        """Some of the rows."""
        return self.map(lambda array: array[rows])

    def without_raw_images(self) -> Features:
        """The same, for towers whose own space means nothing: no view reads them, and they are the widest."""
        return replace(self, raw_image=self.raw_image[:, :0])

    def rounded(self) -> Features:
        """The same with values that half precision holds exactly, which is how they are stored."""
        return self.map(half)


@dataclass(frozen=True)
class Reducer:
    """From embeddings to features.

    Attributes:
        image_mean, text_mean: of the L2-normalised sample, float32 [dv], [dt].
        basis: principal directions of the centred unit image embeddings, float32 [dv, q].
        sketch: for fingerprints of pictures.
    """

    image_mean: Floats
    text_mean: Floats
    basis: Floats
    sketch: Sketch

    def __call__(self, image: Floats, text: Floats) -> Features:
        """Features of embeddings, float32 [n, dv] and [n, dt], whatever rows stand beside each. O(n dv (q + s))."""
        made = [self._of_chunk(padded(image[part]), padded(text[part])) for part in padded_chunks(len(image))]
        return concatenated(made or [self._of_chunk(padded(image), padded(text))]).take(slice(0, len(image)))

    def _of_chunk(self, image: Floats, text: Floats) -> Features:
        centred = centred_unit_rows(image, self.image_mean)
        reduced = centred @ self.basis
        return Features(
            image=reduced,
            image_unit=unit_rows(reduced),
            text=centred_unit_rows(text, self.text_mean),
            raw_image=unit_rows(image),
            caption=unit_rows(text),
            sketch=self.sketch.of_features(centred),
        )


def sketches(sketch: Sketch, image: Floats) -> Floats:
    """Fingerprints of pictures from their embeddings, float32 [n, dv] -> float32 [n, s]."""
    return map_rows(lambda chunk: sketch.of_features(centred_unit_rows(chunk, sketch.mean)), image)


def concatenated(pieces: Sequence[Features]) -> Features:
    """All rows of some features, in order."""
    return Features(*(np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(Features)))


def fit_reducer(image: Floats, text: Floats, dimensions: int, sketch_dimensions: int) -> Reducer:
    """Means, and PCA of the images to min(dimensions, n / 4) directions. O(n dv^2 + dv^3) time, O(dv^2) memory."""
    image_mean, text_mean = mean_of_unit_rows(image), mean_of_unit_rows(text)
    second, first = np.zeros((image.shape[1], image.shape[1])), np.zeros(image.shape[1])
    for block in blocks(len(image)):
        centred = centred_unit_rows(image[block], image_mean)
        second += centred.T @ centred
        first += centred.sum(axis=0, dtype=np.float64)
    first /= len(image)
    covariance = second / len(image) - np.outer(first, first)
    kept = max(1, min(dimensions, len(image) // 4, image.shape[1]))
    directions = leading_directions(covariance, max(kept, min(sketch_dimensions, image.shape[1])))
    directions = directions.astype(np.float32)
    sketch = Sketch(image_mean, np.ascontiguousarray(directions[:, :sketch_dimensions]))
    return Reducer(image_mean, text_mean, np.ascontiguousarray(directions[:, :kept]), sketch)


def blocks(rows: int) -> list[slice]:
    """Slices of rows small enough to hold what is computed of them in memory."""
    return [slice(start, min(start + _BLOCK, rows)) for start in range(0, rows, _BLOCK)]


def mean_of_unit_rows(embeddings: Floats) -> Floats:
    """Mean of L2-normalised embeddings, summed in float64; float32 [d]."""
    total = np.zeros(embeddings.shape[1])
    for block in blocks(len(embeddings)):
        total += unit_rows(embeddings[block].astype(np.float32, copy=False)).sum(axis=0, dtype=np.float64)
    return (total / len(embeddings)).astype(np.float32)
