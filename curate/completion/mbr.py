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
        support: how much each counts as a witness for the others, >= 0, float32 [c].
        agreement: with the picture, in standard deviations of shuffled pairs, float32 [c].
    """

    captions: Sequence[str]
    text: Floats
    shared: Floats
    support: Floats
    agreement: Floats


def minimum_risk(pool: Pool, word_share: float, alignment: float) -> int:
    """The candidate with the largest expected likeness to the truth; the first of equal ones. O(c^2 d).

    Risk as in Kumar & Byrne (NAACL 2004). Utility: cosine of the captions' embeddings and CIDEr-D, `word_share` of it
    the latter; expected under the support of the *other* candidates, plus `alignment` times the agreement with the
    picture. No candidate is its own witness: else every one would vouch for itself with a likeness of 1, by as much
    as it has support already, and one neighbour's caption would outweigh what all of the others agree on.
    """
    likeness = (1 - word_share) * (pool.text @ pool.text.T) + word_share * pool.shared
    np.fill_diagonal(likeness, 0)
    expected = likeness @ (pool.support / max(float(pool.support.sum()), 1e-12))
    return int(np.argmax(expected + np.float32(alignment) * pool.agreement))
