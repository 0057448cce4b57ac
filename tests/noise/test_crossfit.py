from __future__ import annotations

import numpy as np
import pytest

from curate.errors import CurateError
from curate.noise import crossfit
from curate.noise.crossfit import Moments, canonical_directions, fit_projection, fit_reducer, weighted_moments
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise
from curate.noise.grouping import hash_strings, near
from curate.noise.similarity import centred_unit_rows
from tests.noise.synthetic import auroc, corpus, halved, pictures, score_sample


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


def test_weighted_moments_count_a_row_as_often_as_it_weighs(monkeypatch):
    monkeypatch.setattr(crossfit, "_BLOCK", 13)
    rng = np.random.default_rng(0)
    image, text = halved(rng.standard_normal((60, 12))), halved(rng.standard_normal((60, 7)))
    rows = np.arange(60)
    reducer = fit_reducer(image, text, rows, 8)
    weights = rng.integers(1, 4, 60).astype(np.float32)
    weighted = weighted_moments(image, text, rows, weights, reducer)
    x = centred_unit_rows(image, reducer.image_mean).astype(np.float64) @ reducer.basis
    y = centred_unit_rows(text, reducer.text_mean).astype(np.float64)
    copied = np.repeat(rows, weights.astype(int))
    joint = np.cov(np.column_stack([x, y])[copied], rowvar=False, bias=True)
    np.testing.assert_allclose(weighted.xx, joint[:8, :8], atol=1e-6)
    np.testing.assert_allclose(weighted.xy, joint[:8, 8:], atol=1e-6)
    np.testing.assert_allclose(weighted.yy, joint[8:, 8:], atol=1e-6)
    assert weighted.weight == pytest.approx(weights.sum())


def test_projection_is_the_mean_cosine_over_ridges():
    sample, _ = corpus(rows=200)
    rows = np.arange(200)
    reducer = fit_reducer(sample.image, sample.text, rows, 20)
    moments = weighted_moments(sample.image, sample.text, rows, np.ones(200, np.float32), reducer)
    projection = fit_projection(moments, reducer, 6, crossfit.RIDGE_ROWS_UNWEIGHTED)
    pairs = projection.pairs(sample.image, sample.text, np.zeros((200, 2), np.float32))
    x = centred_unit_rows(sample.image, reducer.image_mean) @ reducer.basis - moments.mean_x
    y = centred_unit_rows(sample.text, reducer.text_mean) - moments.mean_y
    cosines = []
    for factor in crossfit.RIDGES:
        a, b, s = canonical_directions(moments, factor * crossfit.RIDGE_ROWS_UNWEIGHTED / 200, 6)
        u, v = x @ (a * s), y @ (b * s)
        cosines.append((u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1))
    np.testing.assert_allclose(pairs.similarity(), np.mean(cosines, axis=0), atol=1e-5)


def in_sample_auroc(sample, noisy):
    """How a model that has seen the pairs tells them apart: what out-of-fold scores must not be able to do."""
    rows = np.arange(len(noisy))
    reducer = fit_reducer(sample.image, sample.text, rows, 1000)
    moments = weighted_moments(sample.image, sample.text, rows, 1 - noisy.astype(np.float32), reducer)
    projection = fit_projection(moments, reducer, 32, 1.0)
    pairs = projection.pairs(sample.image, sample.text, np.zeros((len(rows), 2), np.float32))
    return auroc(~noisy, pairs.similarity())


def test_nothing_is_learned_from_a_corpus_without_correspondence():
    """Random features, half "clean" by decree: a model that saw the pairs memorizes them, ours must know nothing."""
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(400)]
    image, text = halved(rng.standard_normal((400, 300))), halved(rng.standard_normal((400, 200)))
    sample = NoiseSample(names, image, text, hash_strings(pictures(names)), joint_space=False)
    noisy = rng.random(400) < 0.5
    assert in_sample_auroc(sample, noisy) > 0.95
    model = fit_noise(sample, NoiseOptions(), seed=0)
    scores = score_sample(model, sample)
    assert abs(float(scores.crossfit_csls.mean())) < 0.2
    assert model.diagnostics["separable"] == "no"
    assert ((scores.noise_prob > 0.3) & (scores.noise_prob < 0.7)).all()


def test_twins_cannot_vouch_for_each_other():
    """Every random pair comes twice (near-equal picture, equal caption): only a leak could call it a match."""
    rng = np.random.default_rng(1)
    image = np.repeat(rng.standard_normal((300, 100)), 2, axis=0)
    image = halved(image + 0.02 * rng.standard_normal(image.shape))
    text = halved(np.repeat(rng.standard_normal((300, 60)), 2, axis=0))
    names = [str(i) for i in range(600)]
    model = fit_noise(NoiseSample(names, image, text, hash_strings(pictures(names)), False), NoiseOptions(), 0)
    fold = model.known.lookup(hash_strings(names, 0), hash_strings(pictures(names)))
    assert (fold.reshape(-1, 2)[:, 0] == fold.reshape(-1, 2)[:, 1]).all()
    assert model.diagnostics["picture_groups"] == 300
    scores = model.score(names, pictures(names), image, text)
    assert abs(float(scores.crossfit_csls.mean())) < 0.25


def test_no_model_was_trained_on_its_fold_or_a_twin_of_it(monkeypatch):
    seen = []
    honest = crossfit.weighted_moments

    def spy(image, text, rows, weights, reducer):
        seen.append(rows)
        return honest(image, text, rows, weights, reducer)

    monkeypatch.setattr("curate.noise.fit.weighted_moments", spy)
    sample, _ = corpus(rows=300)
    model = fit_noise(sample, NoiseOptions(folds=4), seed=3)
    assert len(seen) == 8
    for number, rows in enumerate(seen):
        held_out = model.known.fold == number % 4
        assert not held_out[rows].any()
        assert not near(model.known.sketch[rows], model.known.sketch[held_out]).any()


def test_mismatches_are_found_and_the_second_round_helps():
    sample, noisy = corpus(rows=1500, mismatched=0.6, noise=0.7)
    found = []
    for rounds in (1, 2):
        scores = score_sample(fit_noise(sample, NoiseOptions(rounds=rounds), seed=0), sample)
        found.append(auroc(noisy, scores.noise_prob))
    assert found[0] > 0.9
    assert found[1] > found[0]


def test_one_picture_cannot_be_held_out():
    sample, _ = corpus(rows=200)
    same = NoiseSample(sample.row_ids, sample.image, sample.text, np.zeros(200, np.uint64), joint_space=False)
    with pytest.raises(CurateError, match="same picture"):
        fit_noise(same, NoiseOptions(), seed=0)


def test_one_caption_cannot_be_shuffled():
    sample, _ = corpus(rows=200)
    text = np.repeat(sample.text[:1], 200, axis=0)
    with pytest.raises(CurateError, match="captions say the same"):
        fit_noise(NoiseSample(sample.row_ids, sample.image, text, sample.image_hash, False), NoiseOptions(), seed=0)


def test_too_few_pairs_are_refused():
    sample, _ = corpus(rows=99)
    with pytest.raises(CurateError, match="at least 100 usable pairs; this input has 99"):
        fit_noise(sample, NoiseOptions(), seed=0)


def test_a_hundred_pairs_are_enough_to_run():
    sample, _ = corpus(rows=100)
    model = fit_noise(sample, NoiseOptions(), seed=0)
    assert np.isfinite(score_sample(model, sample).noise_prob).all()
