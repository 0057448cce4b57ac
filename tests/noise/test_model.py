from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise
from curate.noise.grouping import hash_strings
from curate.noise.model import NoiseModel
from tests.noise.synthetic import auroc, calibration_error, corpus, halved, pictures, score_sample

OPTIONS = NoiseOptions()


@pytest.fixture(scope="module")
def fitted():
    sample, noisy = corpus(rows=1500)
    return sample, noisy, fit_noise(sample, OPTIONS, seed=0)


def same_scores(a, b):
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)]
    return all((x is None and y is None) or x.tobytes() == y.tobytes() for x, y in pairs)


def permuted(sample, order):
    names = [sample.row_ids[row] for row in order]
    return NoiseSample(
        names, sample.image[order], sample.text[order], sample.image_hash[order], joint_space=sample.joint_space
    )


def test_mismatches_are_found_and_probabilities_calibrated(fitted):
    sample, noisy, model = fitted
    scores = score_sample(model, sample)
    assert auroc(noisy, scores.noise_prob) > 0.95
    assert calibration_error(scores.noise_prob, noisy) < 0.05
    assert scores.clip_similarity is None
    assert model.diagnostics["score"] == "crossfit_csls"


def test_row_order_of_the_sample_changes_no_byte(fitted):
    sample, _, model = fitted
    order = np.random.default_rng(5).permutation(len(sample.row_ids))
    assert fit_noise(permuted(sample, order), OPTIONS, seed=0).to_bytes() == model.to_bytes()


def test_threads_change_no_byte():
    sample, _ = corpus(rows=300)
    with threadpool_limits(1):
        one = fit_noise(sample, OPTIONS, seed=0).to_bytes()
    with threadpool_limits(4):
        assert fit_noise(sample, OPTIONS, seed=0).to_bytes() == one


def test_the_seed_draws_other_folds():
    sample, _ = corpus(rows=300)
    a, b = (fit_noise(sample, OPTIONS, seed=seed) for seed in (0, 1))
    folds = [m.fold_of(sample.row_ids, pictures(sample.row_ids), m.known.sketch) for m in (a, b)]
    assert (folds[0] != folds[1]).mean() > 0.5


def test_global_random_state_is_neither_read_nor_written():
    sample, _ = corpus(rows=200)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = fit_noise(sample, OPTIONS, seed=0).to_bytes()
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    assert fit_noise(sample, OPTIONS, seed=0).to_bytes() == first


def test_bytes_hold_the_model_exactly(fitted):
    sample, _, model = fitted
    files = model.to_bytes()
    loaded = NoiseModel.from_bytes(files)
    assert loaded.to_bytes() == files
    assert same_scores(score_sample(loaded, sample), score_sample(model, sample))
    for number, fold in enumerate(loaded.folds):
        for field in dataclasses.fields(fold.correction.bank):
            ours = getattr(model.folds[number].correction.bank, field.name)
            assert (getattr(fold.correction.bank, field.name) == ours).all()


def test_joint_model_survives_its_bytes():
    sample, _ = corpus(rows=200, joint_space=True)
    model = fit_noise(sample, OPTIONS, seed=0)
    assert same_scores(score_sample(NoiseModel.from_bytes(model.to_bytes()), sample), score_sample(model, sample))


def test_sample_rows_keep_the_fold_they_were_held_out_in(fitted):
    sample, _, model = fitted
    fold = score_sample(model, sample).fold
    place = np.searchsorted(model.known.key, hash_strings(sample.row_ids, 0))
    assert (fold == model.known.fold[place]).all()
    assert not model.known.trained[place, fold].any()


def test_a_twin_outside_the_sample_gets_a_fold_that_never_saw_it(fitted):
    sample, _, model = fitted
    rng = np.random.default_rng(0)
    almost = halved(sample.image + 0.002 * rng.standard_normal(sample.image.shape))
    names = [f"elsewhere:{row}" for row in range(len(almost))]
    fold = model.score(names, pictures(names), almost, sample.text).fold
    assert (fold == score_sample(model, sample).fold).all()


def test_a_known_row_id_with_another_picture_is_another_row(fitted):
    sample, _, model = fitted
    moved = np.roll(np.arange(len(sample.row_ids)), 1)
    names = list(sample.row_ids)
    checksums = [pictures(names)[row] for row in moved]
    fold = model.score(names, checksums, sample.image[moved], sample.text[moved]).fold
    assert (fold == score_sample(model, sample).fold[moved]).all()


def test_a_row_with_two_twins_in_different_folds_goes_where_neither_was_trained_on(fitted):
    _, _, model = fitted
    sketch = np.zeros((6, 3), np.float32)
    sketch[:, 0] = [0, 0.05, 1, 2, 3, 4]
    trained = np.ones((6, 3), dtype=bool)
    trained[0] = [False, False, True]
    trained[1] = [True, False, True]
    known = dataclasses.replace(model.known, sketch=sketch, trained=trained)
    fold = known.fold_without_twins(np.array([[0.0, 0, 0], [0.06, 0, 0], [9.0, 0, 0]], np.float32))
    assert fold.tolist() == [1, 1, -1]


def test_rows_outside_the_sample_are_judged_as_well_as_those_inside(fitted):
    everything, noisy = corpus(rows=3000)
    inside = np.arange(1500)
    model = fit_noise(permuted(everything, inside), OPTIONS, seed=0)
    scores = score_sample(model, everything)
    assert auroc(noisy[1500:], scores.noise_prob[1500:]) == pytest.approx(
        auroc(noisy[:1500], scores.noise_prob[:1500]), abs=0.02
    )
    assert calibration_error(scores.noise_prob[1500:], noisy[1500:]) < 0.05
    assert np.bincount(scores.fold[1500:], minlength=5).min() > 200


def test_equal_pictures_outside_the_sample_share_a_fold(fitted):
    _, _, model = fitted
    rng = np.random.default_rng(9)
    image = np.repeat(halved(rng.standard_normal((1, 48))), 20, axis=0)
    names = [f"elsewhere:{row}" for row in range(20)]
    fold = model.score(names, ["one picture"] * 20, image, halved(rng.standard_normal((20, 32)))).fold
    assert len(np.unique(fold)) == 1


def test_towers_trained_together_are_judged_by_their_own_cosine():
    sample, noisy = corpus(rows=400, joint_space=True)
    model = fit_noise(sample, OPTIONS, seed=0)
    scores = score_sample(model, sample)
    assert model.diagnostics["score"] == "clip_csls"
    cosine = (sample.image * sample.text).sum(axis=1)
    np.testing.assert_allclose(scores.clip_similarity, cosine, atol=2e-3)
    assert auroc(noisy, scores.noise_prob) == pytest.approx(auroc(~noisy, scores.clip_csls), abs=1e-3)
    assert auroc(noisy, scores.noise_prob) > 0.97


def test_rows_without_finite_embeddings_are_left_out_of_the_fit():
    sample, _ = corpus(rows=300)
    image = np.concatenate([sample.image, np.full((2, 48), np.nan, np.float32)])
    text = np.concatenate([sample.text, sample.text[:2]])
    names = [*sample.row_ids, "x", "y"]
    broken = NoiseSample(names, image, text, hash_strings(pictures(names)), joint_space=False)
    assert fit_noise(broken, OPTIONS, seed=0).to_bytes() == fit_noise(sample, OPTIONS, seed=0).to_bytes()
