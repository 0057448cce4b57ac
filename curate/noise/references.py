"""Pairs that a pair is compared with, and the comparison itself, which several noise signals share.

`compare` makes every matrix product that more than one signal needs, once per chunk of rows. A signal is then a
function `of_chunk` of one `Compared`; whoever wants several at once walks over the chunks once and calls each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.noise.grouping import near
from curate.noise.similarity import NEAR_TEXT_COSINE, Bools, Floats, padded, padded_chunks

Positions = NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Pairs to be scored.

    Attributes:
        image, text: features within each modality, float32 [n, dv], [n, dt], unit rows. Centred image features (or
            their PCA) and centred caption embeddings compare better than raw ones.
        joint_image, joint_text: projections into a space where image . text is the similarity of a pair, float32
            [n, j], unit rows: the towers' own if they were trained together (CLIP), else the cross-fitted one.
        sketch: fingerprint of the picture (`grouping.Sketch`), float32 [n, s].
        caption: caption embedding as the text tower gave it, unit rows, float32 [n, d].
    """

    image: Floats
    text: Floats
    joint_image: Floats
    joint_text: Floats
    sketch: Floats
    caption: Floats

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: slice | NDArray[np.intp]) -> Batch:
        """Some of the pairs, whole ones."""
        return Batch(
            image=self.image[rows],
            text=self.text[rows],
            joint_image=self.joint_image[rows],
            joint_text=self.joint_text[rows],
            sketch=self.sketch[rows],
            caption=self.caption[rows],
        )

    def arrays(self) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
        """All of the above, in that order."""
        return self.image, self.text, self.joint_image, self.joint_text, self.sketch, self.caption

    def similarity(self) -> Floats:
        """Cosine of every pair's own image and text in the joint space, float32 [n]."""
        cosine: Floats = (self.joint_image * self.joint_text).sum(axis=1)
        return cosine


@dataclass(frozen=True)
class References(Batch):
    """Pairs that others are compared with: at least one, some thousand at most, in the same spaces as the batch.

    Attributes:
        agreement: each reference pair's own similarity in the joint space, in [-1, 1], float32 [m].
        weight: how clean it is believed to be, in [0, 1], float32 [m].
    """

    agreement: Floats
    weight: Floats


@dataclass(frozen=True)
class Compared:
    """At most CHUNK pairs against all m references; float32 [rows, m] unless noted, -inf where `twin`.

    Attributes:
        pairs: the pairs themselves.
        own: similarity of their own image and text in the joint space, float32 [rows].
        image: cosine of their image features with those of the references.
        text: cosine of their text features with those of the references.
        to_texts: similarity of their images with the references' texts, in the joint space.
        to_images: similarity of their texts with the references' images, in the joint space.
        twin: whether the reference has (nearly) the same picture or (nearly) the same caption (cosine > .98), so that
            it could vouch for the pair only by repeating it; bool [rows, m]. A pair that stands in the references is
            its own twin.
    """

    pairs: Batch
    own: Floats
    image: Floats
    text: Floats
    to_texts: Floats
    to_images: Floats
    twin: Bools


def compare(batch: Batch, references: References) -> Iterator[tuple[slice, Compared]]:
    """The batch against the references, chunk by chunk; a row's result does not depend on the rows beside it.

    O(n m (dv + dt + 2 j + s + d)) time, O(CHUNK m) memory.
    """
    for part in padded_chunks(len(batch)):
        yield part, _compare_chunk(batch.take(part), references)


def map_compared(of_chunk: Callable[[Compared], Floats], batch: Batch, references: References) -> Floats:
    """One signal over a whole batch, float32 [n]."""
    scores = np.empty(len(batch), dtype=np.float32)
    for part, compared in compare(batch, references):
        scores[part] = of_chunk(compared)
    return scores


def _compare_chunk(pairs: Batch, references: References) -> Compared:
    count = len(pairs)
    same_caption = padded(pairs.caption) @ references.caption.T > NEAR_TEXT_COSINE
    twin = (near(padded(pairs.sketch), references.sketch) | same_caption)[:count]

    def cosines(rows: Floats, others: Floats) -> Floats:
        cosine: Floats = (padded(rows) @ others.T)[:count]
        cosine[twin] = -np.inf
        return cosine

    return Compared(
        pairs=pairs,
        own=pairs.similarity(),
        image=cosines(pairs.image, references.image),
        text=cosines(pairs.text, references.text),
        to_texts=cosines(pairs.joint_image, references.joint_text),
        to_images=cosines(pairs.joint_text, references.joint_image),
        twin=twin,
    )
