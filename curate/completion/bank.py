"""The trusted pairs that captions are borrowed from, and who of them is near to a picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from curate.completion.ngrams import NgramLikeness, fit_ngrams
from curate.noise.similarity import Floats, largest, padded, padded_chunks

Positions = NDArray[np.intp]

TEMPERATURE = np.float32(0.1)
# Cosine above which two pictures are the same one: a trusted pair must not vouch for itself.
SAME_PICTURE = np.float32(0.9999)


@dataclass(frozen=True)
class CaptionBank:
    """Trusted pairs, a bounded sample of them.

    Attributes:
        captions: as they came.
        image: image features, unit rows, float32 [b, q].
        text: caption embeddings, unit rows, float32 [b, d].
        trust: 1 - noise_prob, float32 [b].
    """

    captions: tuple[str, ...]
    image: Floats
    text: Floats
    trust: Floats

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def first(self) -> dict[str, int]:
        """Where each different caption stands first."""
        return {caption: len(self) - 1 - back for back, caption in enumerate(reversed(self.captions))}

    @cached_property
    def ngrams(self) -> NgramLikeness:
        """Likeness by shared words, with the bank's idf."""
        return fit_ngrams(self.captions)

    def occurrences(self, caption: str) -> int:
        """How many pairs of the bank have this caption; 1 where none has."""
        return int(self.count[self.first[caption]]) if caption in self.first else 1

    @cached_property
    def count(self) -> Floats:
        """How often each pair's caption occurs in the bank, float32 [b]."""
        count = Counter(self.captions)
        return np.array([count[caption] for caption in self.captions], dtype=np.float32)


@dataclass(frozen=True)
class Neighbours:
    """The bank's pairs with the most similar pictures, best first.

    Attributes:
        rows: positions in the bank, [n, k].
        cosine: of the pictures, float32 [n, k].
        weight: trust times softmax(cosine / .1), sums to 1, float32 [n, k].
    """

    rows: Positions
    cosine: Floats
    weight: Floats

    def captions(self, bank: CaptionBank, row: int) -> list[tuple[str, float]]:
        """Captions of one picture's neighbours with their weights; equal ones are added up, best first."""
        held: dict[str, float] = {}
        for place, weight in zip(self.rows[row].tolist(), self.weight[row].tolist(), strict=True):
            held[bank.captions[place]] = held.get(bank.captions[place], 0.0) + weight
        return list(held.items())


def nearest(bank: CaptionBank, image: Floats, count: int, others_only: bool = False) -> Neighbours:
    """See `Neighbours`. A row's result does not depend on the rows beside it. O(n b q) time, O(CHUNK b) memory.

    Args:
        bank: pairs to look among.
        image: unit features, float32 [n, q].
        count: how many, at most.
        others_only: leave out the very same picture, for rows that stand in the bank themselves.
    """
    count = min(count, len(bank))
    rows, cosine = np.empty((len(image), count), dtype=np.intp), np.empty((len(image), count), dtype=np.float32)
    for part in padded_chunks(len(image)):
        similar = (padded(image[part]) @ bank.image.T)[: part.stop - part.start]
        if others_only:
            similar[similar > SAME_PICTURE] = -1
        found = np.sort(largest(similar, count), axis=1)
        values = np.take_along_axis(similar, found, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[part], cosine[part] = np.take_along_axis(found, order, 1), np.take_along_axis(values, order, 1)
    weight = bank.trust[rows] * np.exp((cosine - cosine[:, :1]) / TEMPERATURE)
    return Neighbours(rows, cosine, weight / np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-12)))
