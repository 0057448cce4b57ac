"""Many logistic regressions at once."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from curate.concepts.mentions import MentionTable
from curate.concepts.tagger import RIDGE_ROWS, fit_tagger


def problem(rows=400, width=12, concepts=5, seed=0):
    rng = np.random.default_rng(seed)
    image = (rng.standard_normal((rows, width)) * np.linspace(1, 0.1, width)).astype(np.float32) + 0.3
    logits = 3 * image @ rng.standard_normal((width, concepts)) - 2
    named = rng.random((rows, concepts)) < 1 / (1 + np.exp(-logits))
    return image, MentionTable.of([np.nonzero(row)[0].tolist() for row in named], concepts), named


def test_it_is_the_regression_that_sklearn_finds():
    image, mentions, named = problem()
    weights = np.random.default_rng(1).random(len(image)).astype(np.float32)
    found = fit_tagger(image, mentions, weights)(image)
    mean = np.average(image, axis=0, weights=weights)
    scaled = (image - mean) / np.sqrt(np.average(((image - mean) ** 2).sum(axis=1), weights=weights))
    for concept in range(named.shape[1]):
        model = LogisticRegression(C=1 / RIDGE_ROWS, tol=1e-8, max_iter=1000)
        expected = model.fit(scaled, named[:, concept], weights).decision_function(scaled)
        assert np.corrcoef(found[:, concept], expected)[0, 1] > 0.999
        assert np.abs(found[:, concept] - expected).mean() < 0.1 * np.abs(expected).mean()


@pytest.mark.parametrize("named", [[], [0], [0, 1]])
def test_concepts_that_all_or_none_have_give_finite_numbers(named):
    image, _, _ = problem(rows=60)
    tagger = fit_tagger(image, MentionTable.of([named] * 60, 3), np.ones(60, np.float32))
    assert np.isfinite(tagger(image)).all()


def test_a_row_without_weight_teaches_nothing():
    image, mentions, _ = problem()
    kept = np.arange(300)
    weights = (np.arange(400) < 300).astype(np.float32)
    one = fit_tagger(image, mentions, weights)(image)
    two = fit_tagger(image[kept], mentions.take(kept), weights[kept])(image)
    np.testing.assert_allclose(one, two, rtol=0.02, atol=0.02)
