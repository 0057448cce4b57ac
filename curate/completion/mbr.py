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
        support: how much each counts as a witness for the others, >= 0, float32 [c].
        agreement: with the picture, in standard deviations of shuffled pairs, float32 [c].
    """

    captions: Sequence[str]
    text: Floats
    support: Floats
    agreement: Floats


def minimum_risk(pool: Pool, alignment: float) -> int:
    """The candidate with the largest expected likeness to the truth; the first of equal ones. O(c^2 d).

    Risk as in Kumar & Byrne (NAACL 2004) with utility cos(c, c'): expected utility under the support, plus `alignment`
    times the agreement with the picture. A candidate is its own witness too, as far as it was written more than once.
    """
    likeness = pool.text @ pool.text.T
    expected = likeness @ (pool.support / max(float(pool.support.sum()), 1e-12))
    return int(np.argmax(expected + np.float32(alignment) * pool.agreement))
