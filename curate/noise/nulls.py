"""Mismatched pairs made on purpose from pairs of a bank: what a wrong caption looks like, for any model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.noise.features import Features
from curate.noise.grouping import NEAR_IMAGE_DISTANCE, near
from curate.noise.similarity import NEAR_TEXT_COSINE

Positions = NDArray[np.intp]

DRAWS = 3
# A hard mismatch takes its caption from these ranks of the captions most like the pair's own.
HARD_RANKS = (1, 11)
_BLOCK = 1024


@dataclass(frozen=True)
class Mismatches:
    """Pairs of the image of one bank pair and the caption of another; positions in the bank, [n]."""

    image: Positions
    text: Positions

    def __len__(self) -> int:
        return len(self.image)


def random_mismatches(bank: Features, rng: np.random.Generator) -> Mismatches:
    """Captions permuted three times. Mates with (nearly) the same caption or the same picture are left out.

    Where a picture has several captions, each of them matches it: they are no mismatch.
    """
    image = np.tile(np.arange(len(bank)), DRAWS)
    text = np.concatenate([rng.permutation(len(bank)) for _ in range(DRAWS)])
    cosine = (bank.caption[image] * bank.caption[text]).sum(axis=1)
    apart = bank.sketch[image] - bank.sketch[text]
    same_picture = (apart * apart).sum(axis=1) < NEAR_IMAGE_DISTANCE
    kept = (cosine <= NEAR_TEXT_COSINE) & ~same_picture
    return Mismatches(image[kept], text[kept])


def hard_mismatches(bank: Features, rng: np.random.Generator) -> Mismatches:
    """Three captions of ranks 2 to 11 among those most like the pair's own, twins left out as above."""
    first, last = HARD_RANKS
    images, texts = [], []
    for start in range(0, len(bank), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(bank)))
        cosine = bank.caption[rows] @ bank.caption.T
        cosine[(cosine > NEAR_TEXT_COSINE) | near(bank.sketch[rows], bank.sketch)] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, first:last]
        for _ in range(DRAWS if order.shape[1] else 0):
            chosen = np.take_along_axis(order, rng.integers(0, order.shape[1], (len(rows), 1)), axis=1)
            kept = np.isfinite(np.take_along_axis(cosine, chosen, axis=1)[:, 0])
            images.append(rows[kept])
            texts.append(chosen[kept, 0])
    empty = np.empty(0, dtype=np.intp)
    return Mismatches(np.concatenate([empty, *images]), np.concatenate([empty, *texts]))
