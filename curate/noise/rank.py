"""Where a pair stands among all pairs of the corpus: an order that holds for near misses too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.noise.similarity import Floats

Doubles = NDArray[np.float64]

KNOTS = 1000


@dataclass(frozen=True)
class Rank:
    """Share of the sample that scores higher, i.e. seems cleaner; strictly decreasing in the score.

    Of pairs with equal scores half count as higher, so that the mean rank is .5 whatever the scores are.

    Attributes:
        scores: knots at equal steps of the sample's distribution, increasing, float64 [k].
        ranks: share of the sample above each knot, decreasing inside (0, 1), float64 [k].
    """

    scores: Doubles
    ranks: Doubles

    def __call__(self, scores: Floats) -> Floats:
        """float32 [n] in [0, 1], higher is noisier; beyond the outer knots it approaches 0 and 1 exponentially."""
        exact = scores.astype(np.float64)
        inside = np.interp(exact, self.scores, self.ranks)
        spread = max(float(self.scores[-1] - self.scores[0]), 1e-12) / 4
        above = np.exp(-np.maximum(exact - self.scores[-1], 0) / spread)
        below = np.exp(-np.maximum(self.scores[0] - exact, 0) / spread)
        ranked: Floats = np.where(exact < self.scores[0], 1 - (1 - inside) * below, inside * above).astype(np.float32)
        return ranked


def fit_rank(scores: Floats) -> Rank:
    """The empirical distribution of a sample's scores, float32 [n], at up to 1,001 knots."""
    steps = (np.arange(KNOTS) + 0.5) / KNOTS
    knots, first, equal = np.unique(
        np.quantile(scores.astype(np.float64), steps), return_index=True, return_counts=True
    )
    return Rank(knots, 1 - 0.5 * (steps[first] + steps[first + equal - 1]))
