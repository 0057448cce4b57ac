"""Minimum Bayes risk: of many candidates the one that the others agree with most and that agrees with the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.noise.similarity import Floats


@dataclass(frozen=True)
class Pool:
    """Candidates for one picture.

    Attributes:
        captions: different ones.
        text: their embeddings, unit rows, float32 [c, d].
        shared: how alike they are by shared words, row: candidate, column: witness; in [0, 1], float32 [c, c].
        support: how much each counts as a witness, >= 0, float32 [c].
        merit: what speaks for each whatever the others say, in likeness, float32 [c].
    """

    captions: Sequence[str]
    text: Floats
    shared: Floats
    support: Floats
    merit: Floats


def minimum_risk(pool: Pool, word_share: float, own_witness: float) -> int:
    """The candidate with the largest expected likeness to the truth; the first of equal ones. O(c^2 d).

    Risk as in Kumar & Byrne (NAACL 2004). Utility: `word_share` times CIDEr-D and the rest times the cosine of the
    captions' embeddings, expected under the support, plus the merit.

    Args:
        pool: the candidates.
        word_share: in [0, 1].
        own_witness: how much a candidate counts as a witness for itself, in [0, 1]. With 1 every candidate of much
            support vouches for itself, and one neighbour's caption outweighs what all of the others agree on.
    """
    likeness = (1 - word_share) * (pool.text @ pool.text.T) + word_share * pool.shared
    np.fill_diagonal(likeness, own_witness)
    expected = likeness @ (pool.support / max(float(pool.support.sum()), 1e-12))
    return int(np.argmax(expected + pool.merit))
