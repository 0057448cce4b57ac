"""Means over seeds with 95 % confidence intervals by Student's t, and ratios of such means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its confidence interval; low and high are None where one seed says nothing about it."""

    value: float
    low: float | None
    high: float | None


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of values that are independent and about normal.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a mean needs a value")
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None)
    reach = _quantile(len(values)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach)


def ratio_estimate(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
    """mean(above) / mean(below) of paired values; None where the mean below is not significantly above 0.

    Fieller's interval (Fieller, JRSS B 16, 1954), which is exact for normal values and bounded just then.

    Raises:
        ValueError: there are not as many values above as below.
    """
    if len(above) != len(below):
        raise ValueError(f"pairs are needed: {len(above)} values above, {len(below)} below")
    count = len(below)
    if count < 2:
        return None
    covariance = np.cov(above, below, ddof=1) / count
    top, bottom = float(np.mean(above)), float(np.mean(below))
    if bottom <= 0:
        return None
    squared = (_quantile(count) / bottom) ** 2
    tail = squared * covariance[1, 1]
    if not tail < 1:
        return None
    ratio = top / bottom
    centre = ratio - squared * covariance[0, 1]
    spread = (
        covariance[0, 0]
        - 2 * ratio * covariance[0, 1]
        + ratio**2 * covariance[1, 1]
        - squared * (covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2)
    )
    reach = math.sqrt(squared * max(float(spread), 0.0))
    return Estimate(ratio, float((centre - reach) / (1 - tail)), float((centre + reach) / (1 - tail)))


def _quantile(count: int) -> float:
    """Student's t that a share CONFIDENCE of the values lies within, for a mean of so many."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
