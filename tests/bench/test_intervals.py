"""Intervals: against values of a textbook's table, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from curate.bench.intervals import Estimate, mean_estimate, ratio_estimate


def test_a_mean_and_its_interval():
    # Student's t of 4 degrees of freedom: 2.776.
    found = mean_estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.value == 3
    assert found.high - found.value == pytest.approx(2.776 * np.sqrt(2.5 / 5), abs=1e-3)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_one_value_has_no_interval():
    assert mean_estimate([2.0]) == Estimate(2.0, None, None)
    assert ratio_estimate([1.0], [2.0]) is None
    with pytest.raises(ValueError, match="needs a value"):
        mean_estimate([])


def test_a_ratio_to_what_does_not_vary_is_a_scaled_mean():
    above = [1.0, 2.0, 3.0, 4.0, 5.0]
    found, mean = ratio_estimate(above, [2.0] * 5), mean_estimate(above)
    assert (found.value, found.low, found.high) == pytest.approx((mean.value / 2, mean.low / 2, mean.high / 2))


def test_pairs_that_vary_together_have_a_sharp_ratio():
    below = [1.0, 2.0, 3.0, 2.0, 1.5]
    found = ratio_estimate([0.6 * value for value in below], below)
    assert (found.value, found.low, found.high) == pytest.approx((0.6, 0.6, 0.6))


@pytest.mark.parametrize("below", [[0.0] * 5, [-1.0] * 5, [1.0, -1.0, 2.0, -2.0, 0.5]])
def test_nothing_to_recover_has_no_ratio(below: list[float]):
    assert ratio_estimate([1.0, 2.0, 1.0, 2.0, 1.0], below) is None


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    draws = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        below = draws.normal(1, 0.5, 5)
        found.append(ratio_estimate((0.6 * below + draws.normal(0, 0.3, 5)).tolist(), below.tolist()))
    known = [estimate for estimate in found if estimate is not None]
    assert len(known) > 800
    assert np.mean([each.low <= 0.6 <= each.high for each in known]) == pytest.approx(0.95, abs=0.02)


def test_pairs_are_needed():
    with pytest.raises(ValueError, match="2 values above, 1 below"):
        ratio_estimate([1.0, 2.0], [1.0])
