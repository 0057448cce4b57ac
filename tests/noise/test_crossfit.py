from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.agreement import project
from curate.noise.crossfit import (
    RIDGE_ROWS_UNWEIGHTED,
    RIDGES,
    Moments,
    canonical_directions,
    fit_cca,
    weighted_moments,
)
from tests.noise.synthetic import auroc, corpus, features_of, random_features


def moments_of(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return Moments(len(x), x.mean(0), y.mean(0), x.T @ x / len(x), y.T @ y / len(x), x.T @ y / len(x))


def test_cca_agrees_with_sklearn():
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(0)
    shared = rng.standard_normal((2000, 3))
    x = np.column_stack([shared + 0.5 * rng.standard_normal((2000, 3)), rng.standard_normal((2000, 3))])
    y = np.column_stack([shared + 1.0 * rng.standard_normal((2000, 3)), rng.standard_normal((2000, 2))])
    a, b, correlations = canonical_directions(moments_of(x, y), ridge=0.0, dimensions=3)
    reference = CCA(3, max_iter=5000, tol=1e-12).fit(x, y)
    u, v = reference.transform(x, y)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(correlations, expected, atol=1e-4)
    projected_x, projected_y = (x - x.mean(0)) @ a, (y - y.mean(0)) @ b
    np.testing.assert_allclose(projected_x.T @ projected_x / len(x), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(projected_x.T @ projected_y / len(x), np.diag(correlations), atol=1e-8)


def test_cca_known_answer_with_ridge():
    """With C = 4 I and ridges in units of the mean eigenvalue, correlations shrink by 1 + ridge whatever the scale."""
    rho, ridge = 0.6, 0.5
    moments = Moments(1, np.zeros(2), np.zeros(2), 4 * np.eye(2), 9 * np.eye(2), 6 * np.diag([rho, 0.1]))
    _, _, correlations = canonical_directions(moments, ridge, 2)
    np.testing.assert_allclose(correlations, np.array([rho, 0.1]) / (1 + ridge))


@pytest.mark.parametrize("block", [4096, 13])
def test_weighted_moments_count_a_row_as_often_as_it_weighs(monkeypatch, block):
    monkeypatch.setattr("curate.noise.features._BLOCK", block)
    features = random_features(60, width=7)
    weights = np.random.default_rng(0).integers(1, 4, 60).astype(np.float32)
    weighted = weighted_moments(features.image, features.text, weights)
    copied = np.repeat(np.arange(60), weights.astype(int))
    both = np.column_stack([features.image, features.text])[copied].astype(np.float64)
    joint = np.cov(both, rowvar=False, bias=True)
    np.testing.assert_allclose(weighted.xx, joint[:7, :7], atol=1e-6)
    np.testing.assert_allclose(weighted.xy, joint[:7, 7:], atol=1e-6)
    np.testing.assert_allclose(weighted.yy, joint[7:, 7:], atol=1e-6)
    np.testing.assert_allclose(np.r_[weighted.mean_x, weighted.mean_y], both.mean(axis=0), atol=1e-6)
    assert weighted.weight == pytest.approx(weights.sum())


def test_similarity_is_the_mean_cosine_over_ridges():
    features = features_of(corpus(rows=200)[0])
    moments = weighted_moments(features.image, features.text, np.ones(200, np.float32))
    pairs = project(fit_cca(moments, 6, RIDGE_ROWS_UNWEIGHTED), features)
    x, y = features.image - moments.mean_x, features.text - moments.mean_y
    cosines = []
    for factor in RIDGES:
        a, b, s = canonical_directions(moments, factor * RIDGE_ROWS_UNWEIGHTED / 200, 6)
        u, v = x @ (a * s), y @ (b * s)
        cosines.append((u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1))
    np.testing.assert_allclose(pairs.similarity(), np.mean(cosines, axis=0), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pairs.image, axis=1), 1, atol=1e-5)


def test_each_side_sees_its_own_modality_alone():
    features = features_of(corpus(rows=200)[0])
    other = random_features(200, like=features)
    cca = fit_cca(weighted_moments(features.image, features.text, np.ones(200, np.float32)), 6, 1000.0)
    assert (cca.image(replace(features, text=other.text)) == cca.image(features)).all()
    assert (cca.text(replace(features, image=other.image)) == cca.text(features)).all()


def test_pairs_that_it_never_saw_are_told_apart():
    sample, noisy = corpus(rows=600)
    features = features_of(sample)
    train, test = features.take(slice(0, 400)), features.take(slice(400, 600))
    cca = fit_cca(weighted_moments(train.image, train.text, np.ones(400, np.float32)), 16, RIDGE_ROWS_UNWEIGHTED)
    assert auroc(~noisy[400:], project(cca, test).similarity()) > 0.93
