from __future__ import annotations

import math

import numpy as np
import pytest

from curate.errors import CurateError
from curate.noise.histogram import BINS, Histogram, common_range


def normal(rows, seed=0):
    return np.random.default_rng(seed).standard_normal(rows)


def slow_counts(scores, lowest, highest, bins, weights=None):
    counts = [0.0] * bins
    for row, score in enumerate(scores):
        place = (float(score) - lowest) / (highest - lowest) * bins
        number = min(max(math.floor(place) if math.isfinite(place) else (0 if place < 0 else bins), 0), bins - 1)
        counts[number] += 1 if weights is None else float(weights[row])
    return counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_agree_with_a_slow_reference(dtype):
    scores = np.concatenate([normal(300), [-9, 9, 2.0, -2.0, np.inf, -np.inf]]).astype(dtype)
    histogram = Histogram.of(scores, -2.0, 2.0, bins=16)
    assert histogram.counts.tolist() == slow_counts(scores, -2.0, 2.0, 16)
    assert histogram.total == len(scores)


def test_weights_are_what_a_score_counts():
    scores, weights = normal(300), np.random.default_rng(1).random(300)
    histogram = Histogram.of(scores, -2.0, 2.0, weights, bins=16)
    np.testing.assert_allclose(histogram.counts, slow_counts(scores, -2.0, 2.0, 16, weights), rtol=1e-12)


def test_merging_changes_no_bit_in_any_order_or_grouping():
    scores = normal(700_000)
    whole = Histogram.of(scores, -4.0, 4.0)
    parts = [Histogram.of(part, -4.0, 4.0) for part in np.array_split(scores, [1, 5, 300_000, 300_007, 699_999])]
    forwards = sum(parts[1:], parts[0])
    backwards = parts[-1]
    for part in parts[-2::-1]:
        backwards = part.merge(backwards)
    paired = (parts[0] + parts[3]) + ((parts[5] + parts[1]) + (parts[2] + parts[4]))
    shuffled = Histogram.of(np.random.default_rng(1).permutation(scores), -4.0, 4.0)
    for other in (forwards, backwards, paired, shuffled):
        assert other.counts.tobytes() == whole.counts.tobytes()
    assert whole.total == 700_000


def test_merging_leaves_both_as_they_were():
    one, two = Histogram.of(normal(10), -1.0, 1.0, bins=4), Histogram.of(normal(20, 1), -1.0, 1.0, bins=4)
    one.merge(two)
    assert (one.total, two.total) == (10, 20)


@pytest.mark.parametrize(("lowest", "highest", "bins"), [(-1.0, 1.5, 8), (-1.5, 1.0, 8), (-1.0, 1.0, 9)])
def test_other_bins_are_not_merged(lowest, highest, bins):
    with pytest.raises(CurateError, match="different bins"):
        Histogram.of(normal(5), -1.0, 1.0, bins=8) + Histogram.of(normal(5), lowest, highest, bins=bins)


@pytest.mark.parametrize("row", [0, 3, 299_999])
def test_nan_is_refused_with_its_place(row):
    scores = normal(300_000).astype(np.float32)
    scores[row] = np.nan
    with pytest.raises(CurateError, match=f"score {row} of 300000 is NaN"):
        Histogram.of(scores, -1.0, 1.0)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_weights_that_count_nothing_sensible_are_refused(weight):
    with pytest.raises(CurateError, match="weights"):
        Histogram.of(normal(3), -1.0, 1.0, np.array([1.0, weight, 1.0]))


def test_weights_of_other_rows_are_refused():
    with pytest.raises(CurateError, match="3 scores cannot be counted with 2 weights"):
        Histogram.of(normal(3), -1.0, 1.0, np.ones(2))


@pytest.mark.parametrize(
    ("lowest", "highest"), [(1.0, 1.0), (1.0, 0.0), (np.nan, 1.0), (0.0, np.inf), (-1e308, 1e308), (0.0, 5e-324)]
)
def test_a_range_that_cannot_be_divided_is_refused(lowest, highest):
    with pytest.raises(CurateError, match="can't divide the range"):
        Histogram.of(normal(3), lowest, highest)


def test_quantiles_moments_and_shares_are_those_of_the_scores_but_for_a_bin():
    scores = np.random.default_rng(0).gamma(2.0, 1.5, 5000)
    histogram = Histogram.of(scores, *common_range(scores))
    for share in (0.0, 0.01, 0.15, 0.5, 0.9, 1.0):
        assert histogram.quantile(share) == pytest.approx(np.quantile(scores, share), abs=2 * histogram.width)
    for score in (-1.0, 0.3, 2.0, 7.0, 99.0):
        near = np.mean(scores <= score - histogram.width), np.mean(scores <= score + histogram.width)
        assert near[0] <= histogram.cdf(score) <= near[1]
    assert histogram.mean == pytest.approx(scores.mean(), abs=histogram.width)
    assert histogram.variance == pytest.approx(scores.var(), rel=1e-3)


def test_quantile_is_the_inverse_of_the_share_below():
    scores = np.concatenate([normal(400), 20 + normal(400)])
    histogram = Histogram.of(scores, *common_range(scores), bins=64)
    shares = np.linspace(0, 1, 201)
    quantiles = [histogram.quantile(share) for share in shares]
    assert (np.diff(quantiles) >= 0).all()
    np.testing.assert_allclose([histogram.cdf(q) for q in quantiles], shares, atol=1e-12)


def test_nothing_counted_has_no_moments():
    empty = Histogram.of(np.empty(0), -1.0, 1.0)
    assert (empty.total, len(empty.occupied), empty.counts.shape) == (0.0, 0, (BINS,))
    assert all(math.isnan(value) for value in (empty.mean, empty.variance, empty.quantile(0.5), empty.cdf(0.0)))
    scores = Histogram.of(normal(5), -1.0, 1.0)
    assert (empty + scores).counts.tobytes() == scores.counts.tobytes()


def test_resampling_keeps_the_number_and_draws_in_proportion():
    histogram = Histogram.of(normal(2000), -3.0, 3.0, bins=12)
    rng = np.random.default_rng(0)
    drawn = [histogram.resampled(rng) for _ in range(200)]
    assert {sample.total for sample in drawn} == {2000.0}
    counts = np.array([sample.counts for sample in drawn])
    expected = histogram.counts * (1 - histogram.counts / 2000)
    np.testing.assert_allclose(counts.mean(axis=0), histogram.counts, atol=5 * np.sqrt(expected.max() / 200))
    np.testing.assert_allclose(counts.var(axis=0).sum(), expected.sum(), rtol=0.1)
    again = histogram.resampled(np.random.default_rng(0))
    assert again.counts.tobytes() == drawn[0].counts.tobytes()


def test_the_range_covers_all_finite_scores_with_a_margin():
    scores = np.concatenate([normal(500), [5.0, -6.0, np.nan, np.inf, -np.inf]]).astype(np.float32)
    lowest, highest = common_range(scores)
    assert lowest == pytest.approx(-6 - 0.05 * 11)
    assert highest == pytest.approx(5 + 0.05 * 11)


def test_the_range_of_several_is_that_of_each():
    one, two = normal(500), 30 + normal(50, 1)
    ranges = [common_range(one), common_range(two)]
    assert common_range(one, two) == (ranges[0][0], ranges[1][1])
    assert common_range(two, one, np.empty(0), np.array([np.nan])) == common_range(one, two)
    assert common_range(np.random.default_rng(0).permutation(one)) == common_range(one)


def test_a_wild_score_does_not_take_the_others_their_bins():
    scores = np.concatenate([normal(1000), [1e30, -1e12]])
    histogram = Histogram.of(scores, *common_range(scores))
    assert len(histogram.occupied) > 300
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 1)


@pytest.mark.parametrize("value", [0.0, 1.0, -3e-9, 1e12])
def test_a_constant_has_a_range(value):
    constant = np.full(7, value)
    histogram = Histogram.of(constant, *common_range(constant))
    assert histogram.counts.max() == 7
    assert 0 < histogram.occupied[0] < BINS - 1


def test_a_range_needs_a_finite_score():
    with pytest.raises(CurateError, match="not one score is finite"):
        common_range(np.array([np.nan, np.inf]), np.empty(0))
