from __future__ import annotations

import json

import numpy as np
import pytest

from curate.noise.mixture import fit_gaussians, fit_mixture, separation_from_null, storey_share
from tests.noise.synthetic import auroc, calibration_error


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


@pytest.mark.parametrize("kind", ["default", "gmm", "null"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
def test_probabilities_are_calibrated(kind, share):
    scores, noisy, null = two_heaps(share=share)
    mixture = fit_mixture(scores, null, kind)
    assert calibration_error(mixture.posterior(scores), noisy) < 0.03
    assert mixture.noise_share == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_the_default_is_calibrated_where_clean_scores_are_skewed(share):
    scores, noisy, null = skewed_heaps(share=share)
    assert calibration_error(fit_mixture(scores, null, "default").posterior(scores), noisy) < 0.04


@pytest.mark.parametrize("kind", ["default", "gmm"])
@pytest.mark.parametrize("heaps", [two_heaps, skewed_heaps])
def test_posterior_falls_strictly_with_the_score_and_keeps_the_ranking(kind, heaps):
    scores, noisy, null = heaps(share=0.4)
    posterior = fit_mixture(scores, null, kind).posterior
    line = np.linspace(-6, 8, 400, dtype=np.float32)
    assert (np.diff(posterior(line)) < 0).all()
    probability = posterior(scores)
    assert auroc(noisy, probability) == pytest.approx(auroc(noisy, -scores), abs=1e-3)
    far = posterior(np.array([-1e6, 1e6], np.float32))
    assert 0 <= far[1] < 0.01 < 0.9 < far[0] <= 1


def test_a_wide_noise_component_does_not_claim_the_best_scores():
    """With unequal spreads Bayes' posterior turns back in the far tail: the best scores would be noise."""
    scores, _, null = two_heaps(clean_sd=0.3)
    mixture = fit_mixture(scores, null, "gmm")
    assert mixture.method == "gmm"
    assert mixture.gaussians.log_odds(np.array([9.0]))[0] > 0
    assert mixture.posterior(np.array([9.0], np.float32))[0] < 0.01


def test_the_clean_component_is_the_higher_one_whatever_its_weight():
    for share in (0.1, 0.9):
        scores, _, _ = two_heaps(share=share)
        gaussians = fit_gaussians(scores.astype(np.float64))
        assert gaussians.means[0] == pytest.approx(0, abs=0.4)
        assert gaussians.means[1] == pytest.approx(3, abs=0.4)
        assert gaussians.weights[0] == pytest.approx(share, abs=0.05)


def test_one_heap_falls_back_to_the_null():
    rng = np.random.default_rng(0)
    clean = (3 + 0.7 * rng.standard_normal(3000)).astype(np.float32)
    null = rng.standard_normal(9000).astype(np.float32)
    mixture = fit_mixture(clean, null, "gmm")
    assert mixture.method == "null"
    assert mixture.separable == "yes"
    assert mixture.noise_share < 0.02
    assert mixture.posterior(clean).mean() < 0.02


def test_a_tiny_component_falls_back_to_the_null():
    scores, _, null = two_heaps(clean_mean=8.0, clean_sd=0.2, share=0.003)
    mixture = fit_mixture(scores, null, "gmm")
    assert mixture.gaussians.weights[0] < 0.01
    assert mixture.method == "null"
    assert "less than 0.01" in mixture.reason


def test_gaussians_that_disagree_with_the_null_fall_back():
    rng = np.random.default_rng(0)
    clean = np.concatenate([2 + 0.5 * rng.standard_normal(1000), 6 + 0.5 * rng.standard_normal(3000)])
    mixture = fit_mixture(clean.astype(np.float32), rng.standard_normal(12000).astype(np.float32), "gmm")
    assert mixture.method == "null"
    assert "shuffled pairs say" in mixture.reason
    assert mixture.posterior(clean.astype(np.float32)).mean() < 0.1


def test_scores_like_shuffled_ones_are_undecided():
    rng = np.random.default_rng(0)
    scores, null = rng.standard_normal(2000).astype(np.float32), rng.standard_normal(6000).astype(np.float32)
    mixture = fit_mixture(scores, null, "default")
    probability = mixture.posterior(scores)
    assert (mixture.separable, mixture.method) == ("no", "none")
    assert ((probability > 0.3) & (probability < 0.7)).all()
    assert len(np.unique(probability)) > 1900


def test_the_share_of_noise_is_not_systematically_too_small():
    estimates = [storey_share(*_doubles(two_heaps(rows=1000, share=0.6, seed=seed))) for seed in range(40)]
    assert np.mean(estimates) == pytest.approx(0.6, abs=0.025)


def test_a_clean_sample_does_not_prove_that_there_is_no_mismatch():
    rng = np.random.default_rng(0)
    clean, null = (6 + rng.standard_normal(1000)).astype(np.float32), rng.standard_normal(3000).astype(np.float32)
    mixture = fit_mixture(clean, null, "default")
    assert 0 < mixture.null_share < 0.03
    assert mixture.posterior(clean).max() < 0.3
    assert mixture.posterior(np.array([-2.0], np.float32))[0] > 0.7


def _doubles(heaps):
    scores, _, null = heaps
    return scores.astype(np.float64), null.astype(np.float64)


@pytest.mark.parametrize(("clean_mean", "separable"), [(3.0, "yes"), (1.0, "weak")])
def test_separation_from_the_null_is_that_of_the_heaps(clean_mean, separable):
    scores, noisy, null = two_heaps(share=0.3, clean_mean=clean_mean)
    clean = scores[~noisy].astype(np.float64)
    expected = (clean.mean() - null.mean()) / np.hypot(clean.std(), null.std())
    assert separation_from_null(scores.astype(np.float64), null.astype(np.float64), 0.3) == pytest.approx(
        expected, abs=0.2
    )
    assert fit_mixture(scores, null, "default").separable == separable


def test_diagnostics_are_json():
    scores, _, null = two_heaps()
    said = json.loads(json.dumps(fit_mixture(scores, null, "default").diagnostics(), allow_nan=False))
    assert {"method", "reason", "weights", "means", "sds", "bic_one", "bic_two", "separation", "noise_share"} <= set(
        said
    )
    assert said["separable"] == "yes"
    assert said["separation"] == pytest.approx(3 / (1 + 0.49) ** 0.5, abs=0.3)


def test_constant_scores_do_not_crash():
    mixture = fit_mixture(np.ones(200, np.float32), np.ones(600, np.float32), "default")
    assert mixture.separable == "no"
