"""OSA: how far a pair's similarity lies above that of images and texts which have nothing to do with each other."""

from __future__ import annotations

import numpy as np

from curate.noise.references import Batch, Compared, References, compare
from curate.noise.similarity import Floats


def osa(batch: Batch, boundary: float) -> Floats:
    """osa_i = max(0, s_i - beta): similarity above the shifted orthogonal boundary beta.

    "One-step Noisy Label Mitigation" (arXiv 2410.01944), section on the orthogonal boundary. Published: beta is the
    mean similarity of random-noise images and random token strings. Here: of shuffled pairs (`shuffled_boundary`),
    which frozen embeddings can tell. The released code then weighs a pair by -x^2 (x - 1)(x + 1) with x the score over
    the batch's maximum; that is zero at x = 1, for the best pair of all, and depends on the batch: not used.

    Space: the towers' own if they were trained together, else the cross-fitted one (where beta is near 0). float32
    [n], in [0, 1 - beta], higher is cleaner; O(n j).
    """
    return _above(batch.similarity(), boundary)


def of_chunk(compared: Compared, boundary: float) -> Floats:
    """`osa` of compared pairs, float32 [rows]."""
    return _above(compared.own, boundary)


def shuffled_boundary(references: References) -> float:
    """beta: mean similarity over all images and texts of different reference pairs that are no twins; in [-1, 1].

    This is what shuffling the captions gives on average, without drawing. 0 if all references are twins. O(m^2 d).
    """
    total, count = 0.0, 0
    for _, compared in compare(references, references):
        others = ~compared.twin
        total += float(compared.to_texts[others].sum(dtype=np.float64))
        count += int(others.sum())
    return total / max(count, 1)


def _above(similarity: Floats, boundary: float) -> Floats:
    above: Floats = np.maximum(similarity - np.float32(boundary), np.float32(0))
    return above
