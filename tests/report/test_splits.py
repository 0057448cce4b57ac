"""What a signal could do alone is not promised where it could not."""

import numpy as np
import pytest

from curate.noise.histogram import Histogram, common_range
from curate.noise.mixture import fit_mixture
from curate.report.findings import Sample
from curate.report.splits import score_split, signal_splits

ROWS = 4000


def sample_of(noise_prob, **signals):
    return Sample(noise_prob, signals, ("",) * len(noise_prob), None, ())


def heaps(share, seed=0):
    """Scores of two heaps, and which are mismatches."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(ROWS) < share
    return np.where(wrong, rng.normal(0, 0.7, ROWS), rng.normal(3, 0.7, ROWS)), wrong.astype(float)


def test_two_heaps_that_are_right_and_wrong_can_be_trusted():
    scores, wrong = heaps(0.4)
    (split,) = signal_splits(sample_of(wrong, crossfit_csls=scores), decided=True)
    assert split.trusted == "yes"
    ((name, at),) = split.thresholds
    assert name == "½"
    assert at == pytest.approx(1.5, abs=0.3)
    assert split.posterior(np.array([0.0, 3.0])) == pytest.approx([1, 0], abs=0.05)


def test_a_loss_is_higher_where_pairs_are_noisier():
    scores, wrong = heaps(0.4)
    (split,) = signal_splits(sample_of(wrong, itc_loss=5 - scores), decided=True)
    assert split.noisier
    assert split.trusted == "yes"
    assert split.thresholds[0][1] == pytest.approx(5 - 1.5, abs=0.3)


def test_heaps_that_are_something_else_would_mislead():
    scores, _ = heaps(0.4)
    nearly_clean = np.full(ROWS, 0.01)
    (split,) = signal_splits(sample_of(nearly_clean, crossfit_csls=scores), decided=True)
    assert (split.trusted, split.posterior, split.thresholds) == ("no", None, ())
    assert "would mislead" in split.verdict
    assert "noise_prob expects 1.0%" in split.verdict


def test_one_heap_is_not_split():
    scores = np.random.default_rng(0).normal(size=ROWS)
    (split,) = signal_splits(sample_of(np.full(ROWS, 0.4), crossfit_csls=scores), decided=True)
    assert (split.trusted, split.posterior, split.thresholds) == ("no", None, ())
    assert "should not split" in split.verdict


def test_nothing_is_promised_where_noise_prob_means_nothing():
    scores, _ = heaps(0.4)
    (split,) = signal_splits(sample_of(np.full(ROWS, 0.5), crossfit_csls=scores), decided=False)
    assert split.trusted == "no"
    assert "not right and wrong" in split.verdict


def test_the_score_is_found_again_behind_noise_prob():
    scores, _ = heaps(0.3)
    null = np.random.default_rng(1).normal(0, 0.7, ROWS)
    bounds = common_range(scores, null)
    mixture = fit_mixture(
        Histogram.of(scores, *bounds), Histogram.of(null, *bounds), "null", rng=np.random.default_rng(0), draws=2
    )
    noise_prob = mixture.posterior(scores).astype(float)
    split = score_split(sample_of(noise_prob), mixture.posterior, mixture.diagnostics(), [(".3", 0.3), (".7", 0.7)])
    # Near 0 and 1 a float32 tells scores apart no better than this.
    np.testing.assert_allclose(split.values, scores, atol=0.02)
    at = [x for _, x in split.thresholds]
    assert at == sorted(at, reverse=True)
    assert mixture.posterior(np.array(at)) == pytest.approx([0.3, 0.7], abs=1e-4)
    assert split.components.weights == mixture.components.weights
    assert "lower is better" in split.facts
