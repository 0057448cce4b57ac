"""NLIP's way: how similar an image is to the name of a concept, in a space that images and texts share.

That is the towers' own space where they were trained together, else the cross-fitted CCA of the image's fold. The name
stands for itself through the mean embedding of a few prompts ("a photo of a {}"; CLIP, ICML 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.concepts.vocabulary import Vocabulary
from curate.noise.crossfit import Cca
from curate.noise.features import Features
from curate.noise.similarity import Floats, centred_unit_rows, half, unit_rows

Encode = Callable[[Sequence[str]], NDArray[Any]]

_NAMES_AT_ONCE = 2048
_PLACED_AT_ONCE = 65_536
INDEX_CANDIDATES = 256
_CENTROIDS = 1024
_PROBES = 64
_POINTS_PER_CENTROID = 40
_ROUNDS = 10


def name_embeddings(vocabulary: Vocabulary, templates: Sequence[str], encode: Encode) -> Floats:
    """Mean of the unit embeddings of each name's prompts, scaled to unit length; values that half precision holds.

    Args:
        vocabulary: names with their own prompts, if any.
        templates: prompts for all others, each with one {}.
        encode: texts -> unit embeddings [n, d].

    Returns:
        float32 [names, d].
    """
    blocks = [
        half(unit_rows(np.stack([row.mean(axis=0) for row in _embedded(prompts, encode)])))
        for prompts in _prompt_blocks(vocabulary, templates)
    ]
    return np.concatenate(blocks)


def _prompt_blocks(vocabulary: Vocabulary, templates: Sequence[str]) -> Iterator[list[list[str]]]:
    for start in range(0, len(vocabulary), _NAMES_AT_ONCE):
        block = slice(start, start + _NAMES_AT_ONCE)
        yield [
            list(prompts) or [template.replace("{}", name) for template in templates]
            for name, prompts in zip(vocabulary.names[block], vocabulary.prompts[block], strict=True)
        ]


def _embedded(prompts: list[list[str]], encode: Encode) -> list[Floats]:
    flat = encode([prompt for each in prompts for prompt in each]).astype(np.float32)
    return np.split(flat, np.cumsum([len(each) for each in prompts])[:-1])


@dataclass(frozen=True)
class NameSpace:
    """Names and images in the space of one fold.

    Attributes:
        names: unit embeddings of the names, as the text tower gave them, float32 [v, dt].
        text_mean: of the captions, float32 [dt].
        cca: of the fold; None: the towers have a space of their own.
    """

    names: Floats
    text_mean: Floats
    cca: Cca | None

    @cached_property
    def placed(self) -> Floats:
        """The names, unit rows, float32 [v, j]. O(v j) memory: what lies between has many more dimensions."""
        if self.cca is None:
            return self.names
        starts = range(0, max(1, len(self.names)), _PLACED_AT_ONCE)
        return np.concatenate([self._in_cca(self.cca, slice(start, start + _PLACED_AT_ONCE)) for start in starts])

    def _in_cca(self, cca: Cca, rows: slice) -> Floats:
        text = centred_unit_rows(self.names[rows], self.text_mean)
        nothing = np.empty((len(text), 0), dtype=np.float32)
        return cca.text(Features(nothing, nothing, text, nothing, nothing, nothing))

    def images(self, features: Features) -> Floats:
        """Images, unit rows, float32 [n, j]."""
        return features.raw_image if self.cca is None else self.cca.image(features)


class NameIndex:
    """The most similar among many names, approximately: inverted lists of 8-bit codes (faiss), v j bytes of memory.

    Args:
        names: unit rows, float32 [v, j].
    """

    def __init__(self, names: Floats) -> None:
        import faiss

        lists = min(_CENTROIDS, max(1, len(names) // 40))
        quantizer = faiss.IndexFlatIP(names.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, names.shape[1], lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.max_points_per_centroid, index.cp.niter = _POINTS_PER_CENTROID, _ROUNDS
        index.train(names)
        index.add(names)
        index.nprobe = min(_PROBES, lists)
        # The quantizer is not kept alive by the index that uses it.
        self._index, self._quantizer, self._count = index, quantizer, len(names)

    def search(self, images: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Similarities and positions of about the 256 most similar names of every image, by position; -inf and 0 where
        fewer were found. float32 [n, c], int64 [n, c]; n is fixed if bytes are not to depend on it."""
        similarity, found = self._index.search(images, min(INDEX_CANDIDATES, self._count))
        order = np.argsort(found, axis=1, kind="stable")
        place, near = np.take_along_axis(found, order, axis=1), np.take_along_axis(similarity, order, axis=1)
        return np.where(place < 0, np.float32(-np.inf), near), np.maximum(place, 0)
