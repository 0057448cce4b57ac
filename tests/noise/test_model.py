"""The fitted model: the same bytes whatever stands beside a row, and a fold that never saw it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from curate.noise import fit
from curate.noise.agreement import project
from curate.noise.model import META_FILE, NoiseModel, copy_numbers, identities
from tests.noise.synthetic import auroc, calibration_error, corpus, halved, quick_fit, score_sample, taken

KINDS = {
    "default": {},
    "joint": {},
    "all": {"signals": "all"},
    "joint and all": {"signals": "all"},
    "strata": {"stratum_pairs": 60},
}


def sample_for(kind, rows=220):
    sample, noisy = corpus(rows=rows, joint_space="joint" in kind)
    strata = [("a", "b", None)[row % 3] for row in range(rows)] if kind == "strata" else None
    return replace(sample, strata=strata), noisy


@pytest.fixture(scope="module", params=list(KINDS))
def fitted(request):
    sample, _ = sample_for(request.param)
    return sample, KINDS[request.param], quick_fit(sample, **KINDS[request.param])


@pytest.fixture(scope="module")
def plain():
    sample, noisy = sample_for("default", rows=600)
    return sample, noisy, quick_fit(sample)


def arrays(scores):
    made = {"fold": scores.fold, "prob": scores.noise_prob, "rank": scores.noise_rank, "memory": scores.memory}
    return {**made, **scores.signals}


def same_bytes(one, other, rows=slice(None)):
    """Whether `one` is what `other` says of some rows."""
    first, second = arrays(one), arrays(other)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name][rows].tobytes()
        for name in first
    )


def test_order_and_threads_and_global_state_change_no_byte(fitted):
    sample, options, model = fitted
    shuffled = taken(sample, np.random.default_rng(5).permutation(len(sample.captions)).tolist())
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    with threadpool_limits(1):
        again = quick_fit(shuffled, **options)
    assert (np.random.get_state()[1] == state).all()
    assert again.to_bytes() == model.to_bytes()


def test_workers_and_threads_change_no_byte(monkeypatch):
    sample, _ = sample_for("default")
    made = set()
    for cores in (1, 4):
        monkeypatch.setattr(fit.os, "cpu_count", lambda cores=cores: cores)
        with threadpool_limits(cores):
            made.add(tuple(quick_fit(sample).to_bytes().items()))
    assert len(made) == 1


def test_bytes_hold_the_model_exactly(fitted):
    sample, _, model = fitted
    files = model.to_bytes()
    loaded = NoiseModel.from_bytes(files)
    assert loaded.to_bytes() == files
    assert same_bytes(score_sample(loaded, sample), score_sample(model, sample))


def test_of_equal_pairs_the_model_names_the_same_whatever_their_order():
    sample, _ = sample_for("default")
    copies = taken(sample, [row for row in range(220) for _ in range(2)])
    copies = replace(copies, row_ids=[f"row:{row}" for row in range(440)])
    assert quick_fit(taken(copies, range(439, -1, -1))).to_bytes() == quick_fit(copies).to_bytes()


def test_models_of_versions_that_named_no_rows_can_be_read(plain):
    sample, _, model = plain
    files = model.to_bytes()
    meta = json.loads(files[META_FILE])
    assert meta.pop("row_ids")
    older = NoiseModel.from_bytes({**files, META_FILE: json.dumps(meta).encode()})
    assert older.row_ids is None
    assert same_bytes(score_sample(older, sample), score_sample(model, sample))


def test_memory_entries_are_the_nearest_of_the_fold_s_bank_that_are_no_twins(plain):
    sample, _, model = plain
    scores = score_sample(model, sample)
    features = model.fitted.reducer(sample.image, sample.text)
    bank = model.fitted.folds[2].published
    view = model.fitted.folds[2].views(model.fitted.sample)[0]
    entries = bank.pairs.rows[bank.memory.position]
    named = np.array(model.row_ids)[entries]
    for row in np.nonzero(scores.fold == 2)[0][:40]:
        pair = project(view, features.take(np.array([row])))
        for place, (mine, theirs) in enumerate([(pair.image, bank.memory.image), (pair.text, bank.memory.text)]):
            nearest = np.argsort(-(theirs @ mine[0]))
            best = next(entry for entry in nearest if named[entry] != sample.row_ids[row])
            assert scores.memory[row, place] == entries[best]


def test_cutting_rows_into_batches_changes_no_byte(fitted):
    sample, _, model = fitted
    whole = score_sample(model, sample)
    for size in (1, 7, 63, 64, 65):
        for start in (0, 70, 150):
            rows = np.arange(start, min(start + size, len(sample.captions)))
            assert same_bytes(score_sample(model, taken(sample, rows.tolist())), whole, rows), (size, start)


def test_rows_beside_it_do_not_matter(fitted):
    sample, _, model = fitted
    order = np.random.default_rng(0).permutation(len(sample.captions))
    assert same_bytes(score_sample(model, taken(sample, order.tolist())), score_sample(model, sample), order)


def test_another_seed_draws_other_folds():
    sample, _ = sample_for("default")
    a, b = (score_sample(quick_fit(sample, seed=seed), sample).fold for seed in (0, 1))
    assert (a != b).mean() > 0.5


def test_rows_of_the_sample_keep_the_fold_they_were_held_out_in(plain):
    sample, _, model = plain
    known = model.fitted.known
    place = np.searchsorted(known.key, identities(sample.image_sha256, sample.captions, model.seed))
    fold = score_sample(model, sample).fold
    assert (fold == known.fold[place]).all()
    assert not known.trained[place, fold].any()


def test_a_twin_outside_the_sample_gets_a_fold_that_never_saw_it(plain):
    sample, _, model = plain
    jitter = 0.002 * np.random.default_rng(0).standard_normal(sample.image.shape)
    names = [f"elsewhere-{row}" for row in range(len(sample.captions))]
    fold = model.score(names, sample.captions, halved(sample.image + jitter), sample.text).fold
    assert (fold == score_sample(model, sample).fold).all()


def test_a_row_with_two_twins_goes_where_neither_was_trained_on(plain):
    known = plain[2].fitted.known
    sketch = np.zeros((6, 3), np.float32)
    sketch[:, 0] = [0, 0.05, 1, 2, 3, 4]
    trained = np.ones((6, 3), dtype=bool)
    trained[0] = [False, False, True]
    trained[1] = [True, False, True]
    small = replace(known, sketch=sketch, trained=trained)
    rows = np.array([[0.0, 0, 0], [0.06, 0, 0], [9.0, 0, 0]], np.float32)
    assert small.fold_without_twins(rows).tolist() == [1, 1, -1]


def test_equal_pictures_outside_the_sample_share_a_fold(plain):
    _, _, model = plain
    rng = np.random.default_rng(9)
    image = np.repeat(halved(rng.standard_normal((1, 48))), 20, axis=0)
    captions = [f"caption {row}" for row in range(20)]
    fold = model.score(["one picture"] * 20, captions, image, halved(rng.standard_normal((20, 32)))).fold
    assert len(np.unique(fold)) == 1


def test_rows_outside_the_sample_are_judged_as_well_as_those_inside():
    everything, noisy = corpus(rows=1200)
    model = quick_fit(taken(everything, range(600)))
    scores = score_sample(model, everything)
    inside, outside = (auroc(noisy[part], scores.noise_prob[part]) for part in (slice(600), slice(600, None)))
    assert outside == pytest.approx(inside, abs=0.02)
    assert calibration_error(scores.noise_prob[600:], noisy[600:]) < 0.05
    assert np.bincount(scores.fold[600:], minlength=5).min() > 50


def test_signals_of_joint_towers_are_their_own_cosine():
    sample, _ = sample_for("joint")
    scores = score_sample(quick_fit(sample), sample)
    np.testing.assert_allclose(scores.signals["clip_similarity"], (sample.image * sample.text).sum(axis=1), atol=2e-3)
    assert "clip_similarity" not in score_sample(quick_fit(sample_for("default")[0]), sample_for("default")[0]).signals


def test_a_pair_is_its_picture_and_its_caption():
    keys = identities(["a", "a", "b", "a"], ["x", "y", "x", "x"], 0)
    assert keys[0] == keys[3]
    assert len(set(keys.tolist())) == 3
    assert identities(["a"], ["x"], 1)[0] != keys[0]
    assert copy_numbers(np.array([1, 1, 4, 4, 4, 9], np.uint64)).tolist() == [0, 1, 0, 1, 2, 0]
