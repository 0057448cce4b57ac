from __future__ import annotations

import numpy as np
import pytest

from curate.noise import joint
from curate.noise.joint import ZeroShot, fit_residual_adapter
from tests.noise.synthetic import auroc, corpus, features_of, unit


@pytest.fixture(scope="module")
def clip():
    sample, noisy = corpus(rows=400, mismatched=0.3, joint_space=True, noise=1.5)
    return features_of(sample), noisy


def cosine(view, features):
    return (view.image(features) * view.text(features)).sum(axis=1)


def test_zero_shot_is_the_towers_own_cosine(clip):
    features, _ = clip
    expected = (features.raw_image * features.caption).sum(axis=1)
    np.testing.assert_allclose(cosine(ZeroShot(), features), expected, atol=1e-6)


def test_the_residual_is_the_weighted_ridge_solution(clip):
    features, _ = clip
    image, caption = features.raw_image.astype(np.float64), features.caption.astype(np.float64)
    weights = np.random.default_rng(0).uniform(0.1, 1, len(features)).astype(np.float32)
    fitted = fit_residual_adapter(features.raw_image, features.caption, weights)
    w = weights[:, None].astype(np.float64)
    v = unit(image - (w * image).sum(axis=0) / w.sum())
    t = unit(caption - (w * caption).sum(axis=0) / w.sum())
    ridge = joint.ADAPTER_RIDGE_ROWS / w.sum() * np.linalg.eigvalsh((w * v).T @ v).mean()
    design = np.concatenate([np.sqrt(w) * v, np.sqrt(ridge) * np.eye(48)])
    wanted = np.concatenate([np.sqrt(w) * (t - v), np.zeros((48, 48))])
    np.testing.assert_allclose(fitted.residual, np.linalg.lstsq(design, wanted, rcond=None)[0], atol=1e-5)
    np.testing.assert_allclose(cosine(fitted, features), (unit(v + v @ fitted.residual) * t).sum(axis=1), atol=1e-5)


def test_a_row_counts_as_often_as_it_weighs(clip):
    features, _ = clip
    weights = np.ones(400, np.float32)
    weights[:100], weights[100:150] = 2, 0
    copied = features.take(np.r_[0:100, 0:100, 150:400])
    weighted = fit_residual_adapter(features.raw_image, features.caption, weights)
    repeated = fit_residual_adapter(copied.raw_image, copied.caption, np.ones(450, np.float32))
    np.testing.assert_allclose(weighted.residual, repeated.residual, atol=1e-5)


def test_shrunk_all_the_way_it_is_the_towers_own_space(clip, monkeypatch):
    features, _ = clip
    monkeypatch.setattr(joint, "ADAPTER_RIDGE_ROWS", 1e12)
    fitted = fit_residual_adapter(features.raw_image, features.caption, np.ones(400, np.float32))
    centred = [unit(rows - rows.mean(axis=0)) for rows in (features.raw_image, features.caption)]
    assert np.abs(fitted.residual).max() < 1e-6
    np.testing.assert_allclose(cosine(fitted, features), (centred[0] * centred[1]).sum(axis=1), atol=1e-5)


def test_a_bend_of_the_space_is_straightened(clip):
    """Images turned in a way that the captions are not: the towers' own cosine is lost, the adapter finds it again."""
    _, noisy = clip
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((48, 48)))
    turned = features_of(corpus(rows=400, mismatched=0.3, joint_space=True, noise=1.5)[0], turn=turn)
    train, test = turned.take(slice(0, 200)), turned.take(slice(200, 400))
    fitted = fit_residual_adapter(train.raw_image, train.caption, (~noisy[:200]).astype(np.float32) * 100)
    assert abs(auroc(~noisy[200:], cosine(ZeroShot(), test)) - 0.5) < 0.2
    assert auroc(~noisy[200:], cosine(fitted, test)) > 0.75
