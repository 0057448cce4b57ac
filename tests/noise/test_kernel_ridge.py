from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.noise.kernel_ridge import RIDGES, RidgeToImage, RidgeToText, fit_kernel_ridge
from tests.noise.synthetic import auroc, corpus, features_of, random_features, unit


def problem(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    inputs = unit(rng.standard_normal((rows, 5))).astype(np.float32)
    targets = (np.sin(2 * inputs @ rng.standard_normal((5, 4))) + 0.2 * rng.standard_normal((rows, 4))).astype(
        np.float32
    )
    return inputs, targets, rng.uniform(0.2, 1, rows).astype(np.float32)


def slow_prediction(inputs, targets, weights, landmarks, points):
    """Weighted ridge regression on Nystroem features by least squares, in double precision."""

    def kernel(a, b):
        return np.exp(-0.5 * ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))

    x, y, z, w = (array.astype(np.float64) for array in (inputs, targets, points, weights[:, None]))
    root = np.linalg.inv(np.linalg.cholesky(kernel(x[:landmarks], x[:landmarks]))).T
    seen, asked = kernel(x, x[:landmarks]) @ root, kernel(z, x[:landmarks]) @ root
    mean, target_mean = (w * seen).sum(axis=0) / w.sum(), (w * y).sum(axis=0) / w.sum()
    predictions = []
    for ridge in RIDGES:
        design = np.concatenate([np.sqrt(w) * (seen - mean), np.sqrt(ridge) * np.eye(landmarks)])
        wanted = np.concatenate([np.sqrt(w) * (y - target_mean), np.zeros((landmarks, y.shape[1]))])
        predictions.append((asked - mean) @ np.linalg.lstsq(design, wanted, rcond=None)[0])
    return unit(np.mean(predictions, axis=0)), target_mean


def test_predictions_are_those_of_weighted_least_squares():
    inputs, targets, weights = problem()
    points = unit(np.random.default_rng(1).standard_normal((20, 5))).astype(np.float32)
    for landmarks in (15, 60):
        fitted = fit_kernel_ridge(inputs, targets, weights, landmarks)
        expected, mean = slow_prediction(inputs, targets, weights, landmarks, points)
        np.testing.assert_allclose(fitted.predict(points), expected, atol=2e-3)
        np.testing.assert_allclose(fitted.target_mean, mean, atol=1e-6)
        np.testing.assert_allclose(fitted.centred(targets), unit(targets - mean), atol=1e-5)


def test_a_row_counts_as_often_as_it_weighs():
    inputs, targets, _ = problem()
    weights = np.ones(60, np.float32)
    weights[30:40], weights[40:50] = 2, 0
    weighted = fit_kernel_ridge(inputs, targets, weights, 20)
    copied = np.r_[0:40, 30:40, 50:60]
    repeated = fit_kernel_ridge(inputs[copied], targets[copied], np.ones(len(copied), np.float32), 20)
    np.testing.assert_allclose(weighted.predict(inputs), repeated.predict(inputs), atol=1e-4)


def test_equal_landmarks_do_no_harm():
    inputs, targets, weights = problem()
    inputs[1:15] = inputs[0]
    fitted = fit_kernel_ridge(inputs, targets, weights, 30)
    assert np.isfinite(fitted.predict(inputs)).all()
    assert ((fitted.predict(inputs) * fitted.centred(targets)).sum(axis=1)[15:] > 0.5).mean() > 0.8


def test_each_direction_predicts_one_modality_from_the_other_alone():
    sample, noisy = corpus(rows=400, mismatched=0.3)
    features = features_of(sample)
    ones = np.ones(200, np.float32)
    train, test = features.take(slice(0, 200)), features.take(slice(200, 400))
    other = random_features(200, like=features)
    views = (
        RidgeToText(fit_kernel_ridge(train.image_unit, train.text, ones, 60)),
        RidgeToImage(fit_kernel_ridge(train.text, train.image, ones, 60)),
    )
    for view in views:
        image, text = view.image(test), view.text(test)
        assert auroc(~noisy[200:], (image * text).sum(axis=1)) > 0.9
        blind = replace(test, text=other.text, caption=other.caption)
        assert (view.image(blind) == image).all()
        blind = replace(test, image=other.image, image_unit=other.image_unit, raw_image=other.raw_image)
        assert (view.text(blind) == text).all()
        np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)
