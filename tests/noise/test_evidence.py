"""The matrix of all signals: what each column is, and that mismatches made of a bank are scored like any pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.agreement import SIGNALS, surroundings
from curate.noise.evidence import Columns
from curate.noise.nulls import Mismatches
from curate.noise.signals import SIGNAL_NAMES
from tests.noise.synthetic import corpus, quick_fit


@pytest.fixture(scope="module", params=[False, True], ids=["strangers", "joint"])
def model(request):
    return quick_fit(corpus(rows=260, joint_space=request.param)[0], signals="all", rounds=1)


def test_every_column_belongs_to_one_signal():
    columns = Columns(2, 5, ("itc_loss", "osa"))
    assert columns.count == 7 * len(SIGNALS) + 2
    assert columns.of("clip_similarity") == [0]
    assert columns.of("crossfit_similarity") == [len(SIGNALS) * view for view in range(2, 7)]
    assert columns.of("osa") == [columns.count - 1]
    named = [columns.of(name) for name in ("clip_similarity", "clip_csls", "crossfit_similarity", "crossfit_csls")]
    flat = [column for part in [*named, columns.of("itc_loss"), columns.of("osa")] for column in part]
    assert len(flat) == len(set(flat))
    # The adapter's plain cosine is evidence of nothing.
    assert set(range(columns.count)) - set(flat) == {len(SIGNALS)}


def test_csls_stands_for_its_signal():
    columns = Columns(0, 5, ())
    kinds = {SIGNALS[column % len(SIGNALS)] for column in columns.heart("crossfit_csls")}
    assert kinds == {"csls_image", "csls_text"}
    assert len(columns.heart("crossfit_csls")) == 10
    assert columns.heart("crossfit_similarity") == columns.of("crossfit_similarity")


def test_the_model_has_every_signal(model):
    towers_lack = () if model.joint_space else ("clip_similarity", "clip_csls")
    assert {*model.singles} == {name for name in SIGNAL_NAMES if "clip_s" not in name and "_csls" not in name} - {
        "crossfit_similarity",
        *towers_lack,
    }


def test_mismatches_are_scored_like_pairs_with_the_same_features(model):
    """The bank's own cosines are made once and looked up; composing the features and scoring them says the same."""
    evidence = model.fold_evidence[1]
    bank = model.fitted.sample.take(model.fitted.folds[1].bank.astype(np.intp))
    rng = np.random.default_rng(0)
    around = surroundings(bank, bank)
    image, text = rng.integers(0, len(bank), 4000), rng.integers(0, len(bank), 4000)
    # Where its two pairs are alike, or have twins, a mismatch leaves out more of the bank than other pairs do.
    lone = (around.image_twin | around.text_twin).sum(axis=1) == 1
    alike = (around.near_images[image] == text[:, None]).any(axis=1)
    alike |= (around.near_texts[text] == image[:, None]).any(axis=1)
    kept = np.nonzero(lone[image] & lone[text] & ~alike)[0][:100]
    made = Mismatches(image[kept], text[kept])
    assert len(made) == 100
    by_image, by_text = bank.take(made.image), bank.take(made.text)
    composed = replace(by_image, text=by_text.text, caption=by_text.caption)
    # Looked-up projections are rounded to half precision, those of fresh pairs are not.
    looked_up, scored = evidence.of_mismatches(made), evidence.of_pairs(composed)
    assert looked_up.shape == scored.shape == (100, model.columns.count)
    spread = np.maximum(scored.std(axis=0), 1e-3)
    assert (np.abs(looked_up - scored) / spread).max() < 0.1
    for column in range(model.columns.count):
        if scored[:, column].std() > 1e-4:
            assert np.corrcoef(looked_up[:, column], scored[:, column])[0, 1] > 0.999


def test_no_mismatch_gives_no_row(model):
    empty = np.empty(0, np.intp)
    evidence = model.fold_evidence[0]
    assert evidence.of_mismatches(Mismatches(empty, empty)).shape == (0, model.columns.count)
    assert evidence.of_pairs(model.fitted.sample.take(slice(0, 0))).shape == (0, model.columns.count)


def test_a_rows_columns_do_not_depend_on_the_rows_beside_it(model):
    evidence, features = model.fold_evidence[0], model.fitted.sample.take(slice(0, 150))
    whole = evidence.of_pairs(features)
    assert np.isfinite(whole).all()
    for start, stop in ((0, 1), (63, 66), (100, 150)):
        assert evidence.of_pairs(features.take(slice(start, stop))).tobytes() == whole[start:stop].tobytes()
