"""The figures that claims rest on: checked against cases whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from curate.bench.truth import calibration_error, figures


def test_a_perfect_probability_has_perfect_figures():
    mismatched = np.array([True, False, True, False])
    found = figures(mismatched.astype(float), mismatched)
    assert (found.auroc, found.auprc, found.ece, found.precision_clean, found.recall_clean) == (1, 1, 0, 1, 1)
    assert found.mismatched == 0.5


def test_a_calibrated_probability_has_a_small_error_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 0.8, 200_000)
    mismatched = rng.uniform(size=200_000) < probability
    assert calibration_error(probability, mismatched) < 0.01
    assert calibration_error(probability + 0.2, mismatched) == pytest.approx(0.2, abs=0.01)


def test_precision_and_recall_are_of_the_pairs_called_clean():
    probability = np.array([0.1, 0.2, 0.3, 0.9])
    mismatched = np.array([False, False, True, False])
    found = figures(probability, mismatched)
    assert found.precision_clean == pytest.approx(2 / 3)
    assert found.recall_clean == pytest.approx(2 / 3)
    assert found.auroc == roc_auc_score(mismatched, probability)
