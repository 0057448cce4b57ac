from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import isotonic_regression
from sklearn.mixture import GaussianMixture

from curate.errors import CurateError
from curate.noise.histogram import Histogram, common_range
from curate.noise.mixture import (
    MIN_PAIRS,
    Gaussians,
    better_than_shuffled,
    failed_guards,
    fit_betas,
    fit_gaussians,
    fit_mixture,
    fit_strata,
    null_posterior,
    published_betas,
    separation_from_null,
    sloped_posterior,
    storey_hard_share,
    storey_share,
    verdict,
)
from tests.noise.synthetic import auroc, calibration_error


def test_a_posterior_can_be_gone_back_through():
    posterior = sloped_posterior(np.array([0.0, 1.0, 3.0]), np.array([4.0, 4.0, -5.0]), spread=1.5)
    scores = np.linspace(-4, 7, 50)
    np.testing.assert_allclose(posterior.inverse(posterior(scores)), scores, atol=1e-2)
    assert np.isfinite(posterior.inverse(np.array([0.0, 1.0]))).all()


def two_heaps(rows=4000, share=0.4, clean_mean=3.0, clean_sd=0.7, seed=0):
    """Scores of mismatches (standard normal) and matches, the truth, and shuffled pairs' scores."""
    rng = np.random.default_rng(seed)
    noisy = rng.random(rows) < share
    clean = clean_mean + clean_sd * rng.standard_normal(rows)
    scores = np.where(noisy, rng.standard_normal(rows), clean)
    return scores.astype(np.float32), noisy, rng.standard_normal(3 * rows).astype(np.float32)


def skewed_heaps(rows=6000, share=0.3, seed=0):
    """Clean scores with a long left tail, as measured on clipart."""
    rng = np.random.default_rng(seed)
    noisy = rng.random(rows) < share
    clean = 4.0 - rng.gamma(2.0, 0.5, rows)
    scores = np.where(noisy, rng.standard_normal(rows), clean)
    return scores.astype(np.float32), noisy, rng.standard_normal(3 * rows).astype(np.float32)


def three_heaps(random=0.2, near=0.2, rows=6000, seed=0):
    """Gross mismatches, near misses and matches; scores, the truth, and both nulls' scores."""
    rng = np.random.default_rng(seed)
    drawn = rng.random(rows)
    middle, clean = 2 + 0.8 * rng.standard_normal(rows), 4 + 0.7 * rng.standard_normal(rows)
    scores = np.where(drawn < random, rng.standard_normal(rows), np.where(drawn < random + near, middle, clean))
    return scores, drawn < random + near, rng.standard_normal(3 * rows), 2 + 0.8 * rng.standard_normal(3 * rows)


def counted(*scores):
    """A histogram of each, in the same bins."""
    lowest, highest = common_range(*scores)
    return [Histogram.of(each, lowest, highest) for each in scores]


def fit(scores, null, kind="default", hard=None, seed=0, draws=20, **options):
    """`fit_mixture` of scores; `hard` and `null` may be None."""
    given = [each for each in (scores, null, hard) if each is not None and len(each)]
    lowest, highest = common_range(*given)
    histograms = [None if each is None else Histogram.of(each, lowest, highest) for each in (scores, null, hard)]
    rng = np.random.default_rng(seed)
    return fit_mixture(histograms[0], histograms[1], kind, hard=histograms[2], rng=rng, draws=draws, **options)


# --- calibration and order


@pytest.mark.parametrize("kind", ["default", "gmm", "null", "beta"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
def test_probabilities_are_calibrated(kind, share):
    scores, noisy, null = two_heaps(share=share)
    mixture = fit(scores, null, kind)
    assert calibration_error(mixture.posterior(scores), noisy) < 0.03
    assert mixture.noise_share == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_the_default_is_calibrated_where_clean_scores_are_skewed(share):
    scores, noisy, null = skewed_heaps(share=share)
    assert calibration_error(fit(scores, null).posterior(scores), noisy) < 0.04


@pytest.mark.parametrize(("kind", "guarded"), [("default", True), ("gmm", True), ("gmm", False), ("beta", False)])
@pytest.mark.parametrize("heaps", [two_heaps, skewed_heaps])
def test_posterior_falls_strictly_with_the_score_and_keeps_the_ranking(kind, guarded, heaps):
    scores, noisy, null = heaps(share=0.4)
    posterior = fit(scores, null, kind, guarded=guarded).posterior
    line = np.linspace(-6, 8, 400, dtype=np.float32)
    assert (np.diff(posterior(line)) < 0).all()
    probability = posterior(scores)
    assert auroc(noisy, probability) == pytest.approx(auroc(noisy, -scores), abs=1e-3)
    far = posterior(np.array([-1e6, 1e6], np.float32))
    assert 0 <= far[1] < 0.01 < 0.9 < far[0] <= 1


@pytest.mark.parametrize("kind", ["null", "gmm"])
def test_posterior_falls_strictly_on_the_scale_of_cosines(kind):
    scores, _, null = two_heaps()
    posterior = fit(0.17 + 0.04 * scores, 0.17 + 0.04 * null, kind).posterior
    assert (np.diff(posterior(np.linspace(-0.07, 0.49, 400, dtype=np.float32))) < 0).all()


@pytest.mark.parametrize("kind", ["null", "gmm", "beta"])
@pytest.mark.parametrize(("unit", "origin"), [(0.04, 0.17), (1e-5, 0.0), (1e3, -5e4)])
def test_the_scale_of_the_scores_does_not_matter(kind, unit, origin):
    scores, _, null = (np.asarray(values, np.float64) for values in two_heaps(share=0.6))
    plain, scaled = fit(scores, null, kind), fit(origin + unit * scores, origin + unit * null, kind)
    assert (plain.method, plain.separable) == (scaled.method, scaled.separable)
    assert plain.method == kind
    np.testing.assert_allclose(scaled.posterior(origin + unit * scores), plain.posterior(scores), atol=0.02)
    assert scaled.components.separation == pytest.approx(plain.components.separation, rel=1e-3)
    assert scaled.null_separation == pytest.approx(plain.null_separation, rel=1e-3)


# --- histograms instead of scores


def test_gaussians_agree_with_a_fit_to_the_scores_themselves():
    scores, _, _ = two_heaps()
    column = scores.astype(np.float64)[:, None]
    reference = GaussianMixture(2, tol=1e-9, max_iter=5000, reg_covar=1e-9, means_init=[[0], [3]]).fit(column)
    (histogram,) = counted(scores)
    found = fit_gaussians(histogram)
    np.testing.assert_allclose(found.means, reference.means_[:, 0], atol=0.01)
    np.testing.assert_allclose(found.weights, reference.weights_, atol=0.005)
    np.testing.assert_allclose(found.sds, np.sqrt(reference.covariances_[:, 0, 0]), atol=0.01)
    assert found.bic(len(scores)) == pytest.approx(reference.bic(column), abs=2)
    expected = reference.predict_proba(column)[:, 0]
    assert np.abs(fit(scores, None, "gmm", guarded=False).posterior(scores) - expected).mean() < 0.005


def exact_null_posterior(scores, null, share):
    """Isotonic regression of "is a shuffled pair" on the scores themselves, read off at every score."""
    pooled = np.concatenate([scores, null])
    order = np.argsort(pooled, kind="stable")
    q = isotonic_regression((order >= len(scores)).astype(float), increasing=False)
    ratio = share * q / np.maximum(1 - q, 1e-9) * len(scores) / len(null)
    at_scores = np.empty(len(pooled))
    at_scores[order] = np.minimum(ratio, 1)
    return at_scores[: len(scores)]


@pytest.mark.parametrize("heaps", [two_heaps, skewed_heaps])
def test_the_density_ratio_agrees_with_one_of_the_scores_themselves(heaps):
    scores, _, null = heaps()
    found = null_posterior(*counted(scores, null), 0.4)(scores)
    expected = exact_null_posterior(scores.astype(np.float64), null.astype(np.float64), 0.4)
    assert np.abs(found - expected).mean() < 0.01


def test_storeys_share_agrees_with_one_of_the_scores_themselves():
    scores, _, null = two_heaps()
    shares = []
    for a in (0.15, 0.2, 0.3, 0.4, 0.5):
        below = ((scores <= np.quantile(null, a)).sum() + 1) / (len(scores) + 1)
        variance = below * (1 - below) / len(scores) + (below / a) ** 2 * a * (1 - a) / len(null)
        shares.append((below + np.sqrt(variance)) / a)
    assert storey_share(*counted(scores, null)) == pytest.approx(min(shares), abs=1e-3)


def test_the_same_counts_give_the_same_bytes():
    scores, _, null = two_heaps()
    lowest, highest = common_range(scores, null)
    pieces = [Histogram.of(part, lowest, highest) for part in np.array_split(scores[::-1], 7)]
    merged = pieces[3] + pieces[0] + (pieces[6] + pieces[5]) + pieces[1] + (pieces[2] + pieces[4])
    nulls = Histogram.of(null, lowest, highest)
    for kind in ("null", "gmm", "beta"):
        fits = [
            fit_mixture(histogram, nulls, kind, rng=np.random.default_rng(3), draws=5)
            for histogram in (Histogram.of(scores, lowest, highest), merged)
        ]
        assert fits[0].posterior.logits.tobytes() == fits[1].posterior.logits.tobytes()
        assert fits[0].posterior.scores.tobytes() == fits[1].posterior.scores.tobytes()
        assert fits[0].diagnostics() == fits[1].diagnostics()


def test_a_billion_scores_are_fitted_like_a_thousand():
    few, null = counted(*two_heaps(rows=4000)[::2])
    many = replace(few, counts=few.counts * 250_000)
    one, other = (fit_mixture(scores, null, "gmm", rng=np.random.default_rng(0), draws=5) for scores in (few, many))
    assert other.pairs == 1_000_000_000
    np.testing.assert_allclose(other.posterior.logits, one.posterior.logits, atol=1e-6)
    low, high = other.noise_share_interval
    assert 0 < high - low < 1e-4


# --- components


def test_a_wide_noise_component_does_not_claim_the_best_scores():
    """With unequal spreads Bayes' posterior turns back in the far tail: the best scores would be noise."""
    scores, _, null = two_heaps(clean_sd=0.3)
    mixture = fit(scores, null, "gmm")
    assert mixture.method == "gmm"
    assert mixture.components.log_odds(np.array([9.0]))[0] > 0
    assert mixture.posterior(np.array([9.0], np.float32))[0] < 0.01


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_the_clean_component_is_the_higher_one_whatever_its_weight(share):
    gaussians = fit_gaussians(*counted(two_heaps(share=share)[0]))
    assert gaussians.means[0] == pytest.approx(0, abs=0.4)
    assert gaussians.means[1] == pytest.approx(3, abs=0.4)
    assert gaussians.weights[0] == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("heaps", [1, 2, 3])
def test_bic_prefers_as_many_components_as_there_are_heaps(heaps):
    rng = np.random.default_rng(0)
    scores = 4.0 * rng.integers(0, heaps, 6000) + rng.standard_normal(6000)
    null = rng.standard_normal(2000)
    bic = fit(scores, null).diagnostics()["bic"]
    assert min(bic, key=bic.get) == str(heaps)
    (histogram,) = counted(scores)
    np.testing.assert_allclose(fit_gaussians(histogram, heaps).means, 4.0 * np.arange(heaps), atol=0.15)


def beta_heaps(rows=20_000, seed=0):
    rng = np.random.default_rng(seed)
    noisy = rng.random(rows) < 0.3
    return np.where(noisy, rng.beta(3, 12, rows), rng.beta(14, 4, rows)), noisy


def test_betas_find_the_betas_that_scores_were_drawn_from():
    scores, noisy = beta_heaps()
    found = fit_betas(*counted(scores))
    assert found.weights[0] == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(found.means, [3 / 15, 14 / 18], atol=0.02)
    np.testing.assert_allclose(found.sds, [stats.beta(3, 12).std(), stats.beta(14, 4).std()], rtol=0.1)
    mixture = fit(scores, None, "beta")
    assert (mixture.method, mixture.separable) == ("beta", "yes")
    assert calibration_error(mixture.posterior(scores), noisy) < 0.02


def slow_published_betas(scores):
    """Ten steps on the scores themselves, with scipy's density."""
    x = np.clip((scores - scores.min()) / (scores.max() - scores.min()), 1e-3, 1 - 1e-3)
    weights, alphas, betas = [0.5, 0.5], [1, 2], [2, 1]
    for _ in range(10):
        density = np.array([w * stats.beta.pdf(x, a, b) for w, a, b in zip(weights, alphas, betas, strict=True)])
        responsibility = density / density.sum(axis=0)
        weights, alphas, betas = responsibility.mean(axis=1), [], []
        for r in responsibility:
            mean = np.average(x, weights=r)
            concentration = mean * (1 - mean) / np.average((x - mean) ** 2, weights=r) - 1
            alphas.append(mean * concentration)
            betas.append((1 - mean) * concentration)
    density = [stats.beta.logpdf(x, a, b) + np.log(w) for w, a, b in zip(weights, alphas, betas, strict=True)]
    return weights, density[0] - density[1]


def test_published_betas_agree_with_a_slow_reference():
    scores = two_heaps(rows=2000)[0].astype(np.float64)
    weights, log_odds = slow_published_betas(scores)
    found = published_betas(*counted(scores))
    np.testing.assert_allclose(found.weights, weights, atol=2e-3)
    np.testing.assert_allclose(found.log_odds(scores), log_odds, rtol=0.01, atol=0.01)


def test_published_betas_are_not_run_to_their_end():
    scores, _, null = two_heaps(share=0.4)
    published, ours = fit(scores, null, "beta", guarded=False), fit_betas(*counted(scores))
    assert published.method == "beta"
    assert abs(published.components.weights[0] - ours.weights[0]) > 0.05


# --- guards and verdicts


@pytest.mark.parametrize("kind", ["gmm", "beta"])
def test_one_heap_falls_back_to_the_null(kind):
    rng = np.random.default_rng(0)
    clean = (3 + 0.7 * rng.standard_normal(3000)).astype(np.float32)
    null = rng.standard_normal(9000).astype(np.float32)
    mixture = fit(clean, null, kind)
    assert mixture.method == "null"
    assert mixture.separable == "weak", "no second heap to tell from the first"
    assert mixture.noise_share < 0.02
    assert mixture.posterior(clean).mean() < 0.02


def test_a_tiny_component_falls_back_to_the_null():
    scores, _, null = two_heaps(clean_mean=8.0, clean_sd=0.2, share=0.003)
    mixture = fit(scores, null, "gmm")
    assert mixture.components.weights[0] < 0.01
    assert mixture.method == "null"
    assert "less than 0.01" in mixture.reason


def test_components_are_not_taken_where_shuffled_pairs_score_alike():
    scores, null = two_heaps(share=0.96, clean_mean=5.0)[0], two_heaps(share=0.96, clean_mean=5.0, seed=1)[0]
    mixture = fit(scores, null, "gmm")
    assert mixture.components.separation > 2
    assert undecided(mixture, scores[:100])


@pytest.mark.parametrize(
    ("weight", "mean", "log_likelihood", "null_share", "said"),
    [
        (0.3, 3.0, -900.0, 0.3, []),
        (0.3, 3.0, -900.0, None, []),
        (0.009, 3.0, -900.0, 0.01, ["a component weighs 0.0090"]),
        (0.995, 3.0, -900.0, 0.99, ["a component weighs 0.0050"]),
        (0.3, 3.0, -995.0, 0.3, ["BIC prefers one"]),
        (0.3, 2.0, -900.0, 0.3, ["d' is 1.41"]),
        (0.3, 3.0, -900.0, 0.41, ["weighs 0.30, shuffled pairs say 0.41"]),
        (0.3, 2.0, -995.0, 0.1, ["BIC prefers one", "d' is 1.41", "shuffled pairs say 0.10"]),
    ],
)
def test_guards(weight, mean, log_likelihood, null_share, said):
    one = Gaussians((1.0,), (0.0,), (1.0,), -1000.0)
    two = Gaussians((weight, 1 - weight), (0.0, mean), (1.0, 1.0), log_likelihood)
    failed = failed_guards(one, two, 1000, null_share)
    assert len(failed) == len(said)
    assert all(expected in found for expected, found in zip(said, failed, strict=True))


def test_components_that_disagree_with_the_null_fall_back():
    rng = np.random.default_rng(0)
    clean = np.concatenate([2 + 0.5 * rng.standard_normal(1000), 6 + 0.5 * rng.standard_normal(3000)])
    mixture = fit(clean.astype(np.float32), rng.standard_normal(12000).astype(np.float32), "gmm")
    assert mixture.method == "null"
    assert "shuffled pairs say" in mixture.reason
    assert mixture.posterior(clean.astype(np.float32)).mean() < 0.1


@pytest.mark.parametrize("kind", ["gmm", "beta"])
def test_without_a_null_heaps_that_pass_the_guards_are_taken(kind):
    scores, noisy, _ = two_heaps(share=0.6)
    mixture = fit(scores, None, kind)
    assert (mixture.method, mixture.separable) == (kind, "yes")
    assert (mixture.null_share, mixture.hard_share, mixture.null_separation) == (None, None, None)
    assert calibration_error(mixture.posterior(scores), noisy) < 0.03


@pytest.mark.parametrize("kind", ["gmm", "beta"])
@pytest.mark.parametrize("seed", range(3))
def test_without_a_null_one_heap_is_undecided(kind, seed):
    scores = 3 + np.random.default_rng(seed).standard_normal(3000)
    mixture = fit(scores, None, kind)
    assert (mixture.method, mixture.separable, mixture.noise_share) == ("none", "no", 1.0)
    assert "nothing can be said" in mixture.reason
    assert ((mixture.posterior(scores) > 0.3) & (mixture.posterior(scores) < 0.7)).all()


@pytest.mark.parametrize("kind", ["gmm", "beta"])
def test_unguarded_fits_are_taken_as_published(kind):
    clean = 3 + np.random.default_rng(0).standard_normal(3000)
    null = np.random.default_rng(1).standard_normal(3000)
    for given in (null, None):
        mixture = fit(clean, given, kind, guarded=False)
        assert mixture.method == kind
        assert "published" in mixture.reason
        assert mixture.components.separation < 1.5
        middle = np.array([np.mean(mixture.components.means)])
        odds = mixture.components.log_odds(middle)
        assert mixture.posterior(middle) == pytest.approx(1 / (1 + np.exp(-odds)), abs=0.02)
        assert mixture.noise_share == pytest.approx(mixture.posterior(clean).mean(), abs=1e-3)


@pytest.mark.parametrize("kind", ["default", "null"])
def test_a_ratio_needs_a_null(kind):
    with pytest.raises(CurateError, match="needs the scores of shuffled pairs"):
        fit(two_heaps()[0], None, kind)


def test_near_misses_need_a_null():
    with pytest.raises(CurateError, match="needs the scores of shuffled pairs"):
        fit(two_heaps()[0], None, "gmm", hard=two_heaps()[0])


@pytest.mark.parametrize("other", ["null", "hard"])
def test_histograms_of_other_bins_are_refused(other):
    scores, null, hard = counted(*three_heaps()[::2], three_heaps()[3])
    histograms = {"null": null, "hard": hard}
    histograms[other] = replace(histograms[other], highest=histograms[other].highest + 1)
    with pytest.raises(CurateError, match="different bins"):
        fit_mixture(scores, histograms["null"], "null", hard=histograms["hard"], rng=np.random.default_rng(0))


def test_verdict():
    assert [verdict(False, 9.0), verdict(True, 1.49), verdict(True, 1.5)] == ["no", "weak", "yes"]


@pytest.mark.parametrize(("clean_mean", "separable"), [(3.0, "yes"), (1.0, "weak")])
def test_separation_from_the_null_is_that_of_the_heaps(clean_mean, separable):
    scores, noisy, null = two_heaps(share=0.3, clean_mean=clean_mean)
    clean = scores[~noisy].astype(np.float64)
    expected = (clean.mean() - null.mean()) / np.hypot(clean.std(), null.std())
    assert separation_from_null(*counted(scores, null), 0.3) == pytest.approx(expected, abs=0.2)
    assert fit(scores, null).separable == separable


def test_wild_scores_do_not_spoil_the_verdict():
    scores, noisy, null = two_heaps()
    wild = np.concatenate([scores, np.array([1e30, -1e30], np.float32)])
    mixture = fit(wild, null)
    assert mixture.separable == "yes"
    assert calibration_error(mixture.posterior(scores), noisy) < 0.03


# --- shares


def test_the_share_of_noise_is_not_systematically_too_small():
    estimates = []
    for seed in range(40):
        scores, _, null = two_heaps(rows=1000, share=0.6, seed=seed)
        estimates.append(storey_share(*counted(scores, null)))
    assert np.mean(estimates) == pytest.approx(0.6, abs=0.025)


def test_a_clean_sample_does_not_prove_that_there_is_no_mismatch():
    rng = np.random.default_rng(0)
    clean, null = (6 + rng.standard_normal(1000)).astype(np.float32), rng.standard_normal(3000).astype(np.float32)
    mixture = fit(clean, null)
    assert 0 < mixture.null_share < 0.03
    assert mixture.posterior(clean).max() < 0.3
    assert mixture.posterior(np.array([-2.0], np.float32))[0] > 0.7


def test_better_than_shuffled_needs_more_than_chance():
    rng = np.random.default_rng(0)
    null = rng.standard_normal(6000)
    chance = [better_than_shuffled(*counted(rng.standard_normal(2000), null)) for _ in range(20)]
    assert not any(chance)
    assert better_than_shuffled(*counted(0.5 + rng.standard_normal(2000), null))


def test_twenty_pairs_of_each_picture_say_no_more_than_one():
    """Without the design effect, what pictures have by chance would pass for correspondence."""
    rng = np.random.default_rng(0)
    null = rng.standard_normal(6000)
    drawn = [np.repeat(rng.standard_normal(100), 20) for _ in range(20)]
    assert any(better_than_shuffled(*counted(scores, null)) for scores in drawn)
    assert not any(better_than_shuffled(*counted(scores, null), design_effect=20) for scores in drawn)


@pytest.mark.parametrize("kind", ["null", "gmm"])
def test_the_interval_holds_the_true_share(kind):
    held, above = [], []
    for seed in range(15):
        scores, noisy, null = two_heaps(rows=2000, share=0.4, seed=seed)
        mixture = fit(scores, null, kind, seed=seed, draws=40)
        low, high = mixture.noise_share_interval
        assert 0 <= low <= mixture.noise_share <= high <= 1
        held.append(low <= noisy.mean() <= high)
        above.append((high - mixture.noise_share) / (high - low))
    assert np.mean(held) >= 0.8
    assert np.mean(above) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("kind", ["null", "gmm"])
def test_the_interval_narrows_with_the_square_root_of_the_pairs(kind):
    widths = []
    for rows in (1000, 16_000):
        scores, _, null = two_heaps(rows=rows, share=0.4)
        low, high = fit(scores, null, kind, draws=100).noise_share_interval
        widths.append(high - low)
    assert 2 < widths[0] / widths[1] < 8


def test_the_interval_comes_from_the_generator_alone():
    scores, _, null = two_heaps()
    intervals = [fit(scores, null, seed=seed).noise_share_interval for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


# --- near misses


def slow_hard_share(scores, null, hard, share):
    estimates = []
    for a in (0.15, 0.2, 0.3, 0.4, 0.5):
        edge = np.quantile(hard, a)
        below, random = (scores <= edge).mean(), (null <= edge).mean()
        left = (below - share * random) / a
        variance = (
            below * (1 - below) / len(scores)
            + share**2 * random * (1 - random) / len(null)
            + left**2 * a * (1 - a) / len(hard)
        )
        estimates.append((left, np.sqrt(variance) / a))
    left, error = min(estimates, key=lambda estimate: estimate[0] + estimate[1])
    return min(max(left - error, 0), 1 - share)


@pytest.mark.parametrize(("random", "near"), [(0.2, 0.2), (0.05, 0.4), (0.6, 0.0)])
def test_the_share_of_near_misses_agrees_with_a_slow_reference(random, near):
    scores, _, null, hard = three_heaps(random, near)
    found = storey_hard_share(*counted(scores, null, hard), random)
    assert found == pytest.approx(slow_hard_share(scores, null, hard, random), abs=2e-3)
    assert max(0.0, near - 0.08) <= found <= near + 0.03


def test_shares_never_exceed_all():
    rng = np.random.default_rng(0)
    null, hard = rng.standard_normal(3000), 2 + rng.standard_normal(3000)
    assert storey_hard_share(*counted(rng.standard_normal(3000), null, hard), 0.9) <= 0.1
    assert storey_hard_share(*counted(5 + rng.standard_normal(3000), null, hard), 0.0) == 0


@pytest.mark.parametrize(("random", "near"), [(0.2, 0.2), (0.05, 0.4), (0.4, 0.3)])
def test_a_second_null_makes_near_misses_count(random, near):
    scores, noisy, null, hard = three_heaps(random, near)
    one, both = fit(scores, null), fit(scores, null, hard=hard)
    errors = [calibration_error(mixture.posterior(scores), noisy) for mixture in (one, both)]
    assert errors[1] < 0.075 < 0.15 < errors[0]
    assert both.hard_share == pytest.approx(near, abs=0.08)
    assert both.noise_share == pytest.approx(random + near, abs=0.08)
    assert (one.hard_share, one.null_share) == (None, both.null_share)
    assert (np.diff(both.posterior(np.linspace(-6, 9, 400))) < 0).all()


def test_a_second_null_changes_nothing_where_there_are_no_near_misses():
    scores, noisy, null, hard = three_heaps(0.3, 0.0)
    mixture = fit(scores, null, hard=hard)
    assert mixture.hard_share == 0
    assert calibration_error(mixture.posterior(scores), noisy) < 0.03


def test_too_few_near_misses_are_left_out():
    scores, _, null, hard = three_heaps()
    mixture = fit(scores, null, hard=hard[: MIN_PAIRS - 1])
    assert (mixture.method, mixture.hard_share) == ("null", None)


# --- input that says nothing


def undecided(mixture, scores):
    probability = mixture.posterior(np.asarray(scores, np.float64))
    assert (mixture.separable, mixture.method, mixture.noise_share_interval) == ("no", "none", (0.0, 1.0))
    assert ((probability > 0.3) & (probability < 0.7)).all()
    assert "nothing can be said" in mixture.reason
    json.dumps(mixture.diagnostics(), allow_nan=False)
    return True


def test_scores_like_shuffled_ones_are_undecided():
    rng = np.random.default_rng(0)
    scores, null = rng.standard_normal(2000).astype(np.float32), rng.standard_normal(6000).astype(np.float32)
    mixture = fit(scores, null)
    assert undecided(mixture, scores)
    assert len(np.unique(mixture.posterior(scores))) > 1900


NULL = np.random.default_rng(0).standard_normal(3000)
CLEAN = 4 + 0.7 * np.random.default_rng(1).standard_normal(1000)


@pytest.mark.parametrize("kind", ["default", "gmm", "beta"])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    ("scores", "null"),
    [
        (np.ones(200), np.ones(600)),
        (np.full(500, 3.0), NULL),
        (CLEAN[:10], NULL),
        (np.empty(0), NULL),
        (CLEAN, np.empty(0)),
        (CLEAN, NULL[:10]),
        (np.concatenate([np.full(950, 3.0), CLEAN[:50]]), NULL),
    ],
    ids=["all constant", "constant", "10 pairs", "empty", "no shuffled", "10 shuffled", "one bin"],
)
def test_nothing_is_invented(kind, guarded, scores, null):
    mixture = fit(scores, null, kind, guarded=guarded)
    assert undecided(mixture, scores)
    assert (mixture.noise_share, mixture.pairs) == (1.0, len(scores))


@pytest.mark.parametrize("kind", ["default", "gmm", "beta"])
def test_three_noisy_among_a_thousand_clean(kind):
    scores = np.concatenate([CLEAN, [-1.0, 0.0, 0.5]])
    mixture = fit(scores, NULL, kind)
    assert mixture.separable == "weak"
    assert 0 < mixture.noise_share < 0.02
    assert mixture.posterior(CLEAN).mean() < 0.02
    assert mixture.posterior(np.array([-1.0]))[0] > 0.5


@pytest.mark.parametrize("kind", ["default", "gmm", "beta"])
def test_three_clean_among_a_thousand_noisy(kind):
    scores = np.concatenate([np.random.default_rng(2).standard_normal(1000), CLEAN[:3]])
    mixture = fit(scores, NULL, kind)
    assert undecided(mixture, scores)
    assert mixture.noise_share > 0.9


# --- diagnostics


@pytest.mark.parametrize(
    ("kind", "with_null"), [("default", True), ("gmm", True), ("gmm", False), ("beta", True), ("beta", False)]
)
def test_diagnostics_are_json(kind, with_null):
    scores, _, null = two_heaps(share=0.6)
    mixture = fit(scores, null if with_null else None, kind)
    said = json.loads(json.dumps(mixture.diagnostics(), allow_nan=False))
    assert set(said) == {
        "method",
        "reason",
        "separable",
        "noise_share",
        "noise_share_interval",
        "null_share",
        "hard_share",
        "null_separation",
        "bic",
        "weights",
        "means",
        "sds",
        "separation",
        "pairs",
    }
    assert said["separable"] == "yes"
    assert said["separation"] == pytest.approx(3 / (1 + 0.49) ** 0.5, abs=0.3)
    assert set(said["bic"]) == {"1", "2", "3"}
    assert said["means"] == pytest.approx({"noise": 0, "clean": 3}, abs=0.2)
    assert said["pairs"] == 4000


# --- strata


def strata():
    """Three strata whose clean scores lie elsewhere, in the bins of all."""
    heaps = {"en": two_heaps(seed=1), "de": two_heaps(seed=2, clean_mean=5.0, share=0.2), "xx": two_heaps(rows=300)}
    scores, nulls = ({name: heap[place] for name, heap in heaps.items()} for place in (0, 2))
    chance = np.random.default_rng(9).standard_normal(2000)
    scores, nulls = {**scores, "noise": chance}, {**nulls, "noise": NULL}
    lowest, highest = common_range(*scores.values(), *nulls.values())
    return tuple(
        {name: Histogram.of(each, lowest, highest) for name, each in group.items()} for group in (scores, nulls)
    )


def fitted_strata(scores, nulls, kind="null", seed=0, **options):
    rng = np.random.default_rng(seed)
    pooled = fit_mixture(sum_of(scores), sum_of(nulls), kind, rng=rng, draws=5)
    return pooled, fit_strata(pooled, scores, nulls, kind, rng=rng, draws=5, **options)


def sum_of(histograms):
    if isinstance(histograms, Histogram):
        return histograms
    first, *others = histograms.values()
    return sum(others, first)


def test_a_stratum_has_its_own_fit_if_it_says_something():
    scores, nulls = strata()
    pooled, fits = fitted_strata(scores, nulls)
    said = {name: mixture.diagnostics()["stratum"] for name, mixture in fits.items()}
    assert {name: each["fit"] for name, each in said.items()} == {
        "en": "own",
        "de": "own",
        "xx": "pooled",
        "noise": "pooled",
    }
    assert said["xx"] == {"stratum": "xx", "pairs": 300, "fit": "pooled", "reason": "300 pairs, fewer than 500"}
    assert "no better than shuffled" in said["noise"]["reason"]
    assert fits["xx"].posterior is pooled.posterior
    assert fits["noise"].posterior is pooled.posterior
    assert fits["en"].noise_share == pytest.approx(0.4, abs=0.05)
    assert fits["de"].noise_share == pytest.approx(0.2, abs=0.05)
    assert fits["de"].pairs == 4000
    assert "stratum" not in pooled.diagnostics()
    json.dumps([mixture.diagnostics() for mixture in fits.values()], allow_nan=False)


def test_the_least_number_of_pairs_can_be_chosen():
    scores, nulls = strata()
    _, fits = fitted_strata(scores, nulls, minimum=300)
    assert fits["xx"].stratum.fit == "own"
    _, fits = fitted_strata(scores, nulls, minimum=5000)
    assert {mixture.stratum.fit for mixture in fits.values()} == {"pooled"}
    assert "fewer than 5000" in fits["en"].stratum.reason


def test_strata_may_share_a_null():
    scores, nulls = strata()
    _, fits = fitted_strata(scores, nulls["en"])
    assert fits["de"].stratum.fit == "own"
    assert fits["de"].noise_share == pytest.approx(0.2, abs=0.05)


def test_a_stratum_without_its_null_is_pooled():
    scores, nulls = strata()
    del nulls["de"]
    _, fits = fitted_strata(scores, nulls)
    assert (fits["de"].stratum.fit, fits["de"].stratum.reason) == ("pooled", "it has no null of its own")


def test_strata_without_any_null():
    scores, _ = strata()
    rng = np.random.default_rng(0)
    pooled = fit_mixture(sum_of(scores), None, "gmm", rng=rng, draws=5)
    fits = fit_strata(pooled, scores, None, "gmm", rng=rng, draws=5)
    assert {name: mixture.stratum.fit for name, mixture in fits.items()} == {
        "en": "own",
        "de": "own",
        "xx": "pooled",
        "noise": "pooled",
    }


def test_a_stratum_does_not_depend_on_the_others():
    scores, nulls = strata()
    _, all_fits = fitted_strata(scores, nulls)
    for mixture_of, given in ((all_fits, dict(reversed(scores.items()))), (all_fits, {"de": scores["de"]})):
        rng = np.random.default_rng(0)
        pooled = fit_mixture(sum_of(scores), sum_of(nulls), "null", rng=rng, draws=5)
        again = fit_strata(pooled, given, nulls, "null", rng=rng, draws=5)["de"]
        assert again.diagnostics() == mixture_of["de"].diagnostics()
        assert again.posterior.logits.tobytes() == mixture_of["de"].posterior.logits.tobytes()
