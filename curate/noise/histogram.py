"""Scores as counts in fixed bins: of any number of pairs the same small thing, and merged without loss.

A fit that reads histograms costs the same for a thousand pairs and for a billion, and parts can be counted anywhere
and in any order: counts are whole numbers in float64, so that adding them is exact up to 2^53 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError

Doubles = NDArray[np.float64]
AnyFloats = NDArray[np.float32] | NDArray[np.float64]

BINS = 4096
# Scores are counted so many at a time, which bounds the copies that counting needs.
_SCORES_AT_ONCE = 2**18
MARGIN = 0.05
# A score farther than this many interquartile ranges from the middle half would cost the others their resolution and
# rule their variance: it is counted in the end bin instead. An interquartile range has at least BINS / 23 = 178 bins.
FARTHEST_IQRS = 10.0
_LEAST_MARGIN = 1e-9


@dataclass(frozen=True)
class Histogram:
    """Counts of scores in bins of equal width; the first and the last also hold what lies beyond the range.

    Within a bin, scores count as evenly spread.

    Attributes:
        lowest, highest: the range that the bins divide.
        counts: scores (or their weights) per bin, >= 0, float64 [bins].

    Raises:
        CurateError: the range is empty, not finite, or too narrow for floating point.
    """

    lowest: float
    highest: float
    counts: Doubles

    def __post_init__(self) -> None:
        with np.errstate(all="ignore"):
            bins_per_unit = np.float64(len(self.counts)) / np.float64(self.highest - self.lowest)
        if not (self.highest > self.lowest and np.isfinite(bins_per_unit) and bins_per_unit > 0):
            raise CurateError(f"a histogram can't divide the range {self.lowest} to {self.highest} into bins")

    @classmethod
    def of(
        cls, scores: AnyFloats, lowest: float, highest: float, weights: AnyFloats | None = None, bins: int = BINS
    ) -> Histogram:
        """Count scores. O(n) time, O(bins) memory beside the scores.

        Args:
            scores: in any order, float32 or float64 [n]; an infinite one lies beyond the range like any other.
            lowest, highest: see `common_range`; histograms that meet in one fit share it.
            weights: what each score counts, finite and >= 0, float [n]; None: one each. Sums of weights are rounded,
                so their last bits depend on the order, unlike those of counts.
            bins: how many.

        Raises:
            CurateError: a score is NaN, or weights do not fit.
        """
        divided, counts = cls(lowest, highest, np.zeros(bins)), np.zeros(bins)
        if weights is not None and weights.shape != scores.shape:
            raise CurateError(f"{len(scores)} scores cannot be counted with {len(weights)} weights")
        for start in range(0, len(scores), _SCORES_AT_ONCE):
            part = slice(start, start + _SCORES_AT_ONCE)
            missing = np.flatnonzero(np.isnan(scores[part]))
            if len(missing):
                raise CurateError(f"score {start + int(missing[0])} of {len(scores)} is NaN and cannot be counted")
            weight = None if weights is None else _checked(weights[part])
            counts += np.bincount(divided.bin_of(scores[part]), weight, minlength=bins)
        return cls(lowest, highest, counts)

    def bin_of(self, scores: AnyFloats) -> NDArray[np.intp]:
        """Number of the bin that each score falls into; intp [n]."""
        place = (scores.astype(np.float64) - self.lowest) / self.width
        return np.clip(place, 0, len(self.counts) - 1).astype(np.intp)

    def merge(self, other: Histogram) -> Histogram:
        """Both together. Exact for counts, so that neither order nor grouping of many merges changes a bit.

        Raises:
            CurateError: their bins are not the same.
        """
        self.check_same_bins(other)
        return Histogram(self.lowest, self.highest, self.counts + other.counts)

    __add__ = merge

    def check_same_bins(self, other: Histogram) -> None:
        """Raises CurateError unless both have the same bins."""
        mine, others = self._bins(), other._bins()
        if mine != others:
            raise CurateError(
                f"histograms of different bins cannot be put together: {mine[2]} over {mine[0]} to {mine[1]} "
                f"and {others[2]} over {others[0]} to {others[1]}"
            )

    def _bins(self) -> tuple[float, float, int]:
        return self.lowest, self.highest, len(self.counts)

    @property
    def width(self) -> float:
        """Of one bin."""
        return (self.highest - self.lowest) / len(self.counts)

    @property
    def centres(self) -> Doubles:
        """Middle of every bin, float64 [bins]."""
        return self.lowest + self.width * (np.arange(len(self.counts), dtype=np.float64) + 0.5)

    @property
    def total(self) -> float:
        """Number of scores, or sum of their weights."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of the scores, each taken for the middle of its bin; NaN for an empty histogram."""
        return float((self.counts * self.centres).sum() / self.total) if self.total else float("nan")

    @property
    def variance(self) -> float:
        """Of the scores, each taken for the middle of its bin; NaN for an empty histogram."""
        return (
            float((self.counts * (self.centres - self.mean) ** 2).sum() / self.total) if self.total else float("nan")
        )

    @property
    def occupied(self) -> NDArray[np.intp]:
        """Numbers of the bins that hold anything, increasing."""
        return np.flatnonzero(self.counts)

    def cdf(self, score: float) -> float:
        """Share of the scores below `score`, in [0, 1]; NaN for an empty histogram."""
        if not self.total:
            return float("nan")
        edges = self.lowest + self.width * np.arange(len(self.counts) + 1)
        return float(np.interp(score, edges, np.concatenate([[0.0], np.cumsum(self.counts)])) / self.total)

    def quantile(self, share: float) -> float:
        """The score that a share of all scores in [0, 1] lies below: the inverse of `cdf`; NaN if empty."""
        occupied = self.occupied
        if not len(occupied):
            return float("nan")
        up_to = np.cumsum(self.counts[occupied])
        place = min(int(np.searchsorted(up_to, share * up_to[-1])), len(occupied) - 1)
        held = self.counts[occupied[place]]
        inside = (share * up_to[-1] - (up_to[place] - held)) / held
        return float(self.lowest + self.width * (occupied[place] + np.clip(inside, 0.0, 1.0)))

    def resampled(self, rng: np.random.Generator) -> Histogram:
        """As many scores drawn from these with replacement (a bootstrap sample), which takes O(bins)."""
        drawn = rng.multinomial(round(self.total), self.counts / self.total) if self.total else self.counts
        return Histogram(self.lowest, self.highest, drawn.astype(np.float64))


def _checked(weights: AnyFloats) -> AnyFloats:
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise CurateError("weights of scores must be finite and not negative")
    return weights


def common_range(*distributions: AnyFloats) -> tuple[float, float]:
    """A range for the histograms of several distributions: all their finite scores and a margin of 5 %.

    Scores farther than 10 interquartile ranges from the middle half of their own distribution are left outside, or a
    single wild one would put all others into one bin.

    Args:
        distributions: observed scores, shuffled pairs' scores...: each as a whole or a fair sample, in any order,
            float [n]. The range of all is the union of the ranges of each.

    Raises:
        CurateError: no score is finite.
    """
    finite = [scores[np.isfinite(scores)].astype(np.float64) for scores in distributions]
    ranges = [_range(scores) for scores in finite if len(scores)]
    if not ranges:
        raise CurateError("not one score is finite: there is nothing to count")
    return min(lowest for lowest, _ in ranges), max(highest for _, highest in ranges)


def _range(scores: Doubles) -> tuple[float, float]:
    lowest, first, third, highest = (float(q) for q in np.quantile(scores, [0, 0.25, 0.75, 1]))
    reach = FARTHEST_IQRS * (third - first)
    if reach > 0:
        lowest, highest = max(lowest, first - reach), min(highest, third + reach)
    margin = max(MARGIN * (highest - lowest), _LEAST_MARGIN * max(abs(lowest), abs(highest))) or 1.0
    return lowest - margin, highest + margin
