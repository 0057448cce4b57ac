from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.neighbour_regression import NeighboursToImage, NeighboursToText, fit_neighbour_regression
from tests.noise.synthetic import auroc, corpus, features_of, random_features, unit


def problem(references, seed=0):
    rng = np.random.default_rng(seed)
    keys = unit(rng.standard_normal((references, 5))).astype(np.float32)
    values = rng.standard_normal((references, 4)).astype(np.float32)
    return keys, values, rng.uniform(0.05, 1, references).astype(np.float32)


def slow_prediction(keys, values, weights, point):
    usable = [j for j in range(len(keys)) if weights[j] > 0]
    nearest = sorted(usable, key=lambda j: -float(point @ keys[j]))[:30]
    share = [weights[j] * np.exp(float(point @ keys[j]) / 0.1) for j in nearest]
    mean = sum(s * values[j].astype(np.float64) for s, j in zip(share, nearest, strict=True)) / sum(share)
    return mean - np.average(values.astype(np.float64), axis=0, weights=weights)


@pytest.mark.parametrize("references", [12, 31, 700, 701])
def test_predictions_are_those_of_slow_loops(references):
    keys, values, weights = problem(references)
    weights[3:7] = 0
    points = unit(np.random.default_rng(1).standard_normal((25, 5))).astype(np.float32)
    fitted = fit_neighbour_regression(keys, values, weights)
    expected = unit(np.array([slow_prediction(keys, values, weights, point) for point in points]))
    np.testing.assert_allclose(fitted.predict(points), expected, atol=2e-5)


@pytest.mark.parametrize("references", [40, 701])
def test_a_reference_of_weight_zero_is_not_there(references):
    """Whatever it says, and though it is the nearest of all."""
    keys, values, weights = problem(references)
    weights[10:] = 0
    points = keys[10:20].copy()
    before = fit_neighbour_regression(keys, values, weights).predict(points)
    values[10:] = 1e6
    assert fit_neighbour_regression(keys, values, weights).predict(points).tobytes() == before.tobytes()
    alone = fit_neighbour_regression(keys[:10], values[:10], weights[:10])
    np.testing.assert_allclose(alone.predict(points), before, atol=1e-5)


def test_clean_references_count_more():
    keys = np.tile(np.eye(3, dtype=np.float32)[:1], (40, 1))
    values = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    weights = np.repeat(np.array([1, 0.02], np.float32), 20)
    fitted = fit_neighbour_regression(keys, values, weights)
    raw = replace(fitted, target_mean=np.zeros(2, np.float32)).predict(keys[:1])[0]
    # 30 of 40 equally near ones: at least 10 clean ones against at most 20 doubtful ones.
    assert raw[1] / raw[0] <= 20 * 0.02 / 10 + 1e-6


def test_each_direction_predicts_one_modality_from_the_other_alone():
    sample, noisy = corpus(rows=500, mismatched=0.3)
    features = features_of(sample)
    train, test = features.take(slice(0, 300)), features.take(slice(300, 500))
    other = random_features(200, like=features)
    ones = np.ones(300, np.float32)
    views = (
        NeighboursToText(fit_neighbour_regression(train.image_unit, train.text, ones)),
        NeighboursToImage(fit_neighbour_regression(train.text, train.image, ones)),
    )
    for view in views:
        image, text = view.image(test), view.text(test)
        assert auroc(~noisy[300:], (image * text).sum(axis=1)) > 0.85
        assert (view.image(replace(test, text=other.text, caption=other.caption)) == image).all()
        blind = replace(test, image=other.image, image_unit=other.image_unit, raw_image=other.raw_image)
        assert (view.text(blind) == text).all()
