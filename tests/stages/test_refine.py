"""The row stage: columns as promised, in any batch, and the rounds in which a pair was put among the noisy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate.columns import overlaid
from curate.noise.refined import RefinedScores
from curate.schema import BELIEFS
from curate.stages.noise import Noise, NoiseColumns
from curate.stages.refine import Refine
from tests.noise.synthetic import corpus, quick_fit
from tests.noise.test_refine import quick_refine
from tests.stages.test_noise import as_table, with_column


@pytest.fixture(scope="module")
def fitted():
    """The stage, and a table that the noise stage has been over, with one row it could not use."""
    sample, _ = corpus(rows=300)
    noise = quick_fit(sample)
    table = as_table(sample)
    table = with_column(table, "status", [*["ok"] * 299, "corrupt_image"])
    table = overlaid(table, Noise(noise)(table))
    return Refine(quick_refine(sample, noise, rounds=2, settled=0)), table


def test_columns_are_those_provided_and_follow_from_the_probability(fitted):
    stage, table = fitted
    made = stage(table)
    assert made.schema.equals(stage.provides, check_metadata=True)
    assert [column.null_count for column in made.columns[:-1]] == [1] * (len(made.columns) - 1)
    assert not made["noise_prob"][299].is_valid
    assert made["noise_prob_unrefined"].equals(table["noise_prob"])
    kept = made.slice(0, 299).to_pandas()
    probability = kept.noise_prob.to_numpy()
    np.testing.assert_array_equal(kept.smoothing, np.float32(0.5) * probability)
    assert (kept.label[probability < 0.3] == "clean").all()
    assert (kept.label[probability > 0.7] == "noisy").all()
    assert kept.weight.between(0.6, 1).all()
    assert (kept.noise_rank.rank() == kept.noise_prob.rank()).mean() > 0.9


def test_cutting_the_rows_into_batches_changes_no_value(fitted):
    stage, table = fitted
    whole = stage(table)
    for size in (1, 63, 64, 65):
        starts = range(0, 20 if size == 1 else table.num_rows, size)
        pieces = pa.concat_tables([stage(table.slice(start, size)) for start in starts]).combine_chunks()
        assert pieces.equals(whole.slice(0, pieces.num_rows))


class Told:
    """A model that says what it was told."""

    rounds = (None,)

    def __init__(self, noise_prob):
        self.noise_prob = np.array(noise_prob, np.float32)

    def score(self, fold, *_):
        none = np.zeros_like(self.noise_prob)
        return RefinedScores(self.noise_prob, none, np.ones(len(fold), np.float32))


def test_the_round_is_told_that_last_put_a_pair_among_the_noisy(fitted):
    """Never; by the noise stage and for good; by it, and back; by round 2; out by 0, back by 1, out again by 2."""
    rounds = [[0.1, 0.9, 0.9, 0.5, 0.9], [0.1, 0.9, 0.2, 0.5, 0.1], [0.1, 0.8, 0.1, 0.8, 0.8]]
    table = with_column(fitted[1].slice(0, 5), "noise_prob", rounds[0])
    made = Refine(Told(rounds[1:]))(table)
    assert made["rejected_in_round"].to_pylist() == [None, 0, 0, 2, 2]
    assert made["label"].to_pylist() == ["clean", "noisy", "clean", "noisy", "noisy"]
    assert made["rejected_in_round"].type == pa.int8()


def test_labels_and_rejections_go_by_the_thresholds_of_the_noise_stage(fitted):
    stage, table = fitted
    made = Refine(stage.model, NoiseColumns(clean_below=0, noisy_above=0))(table)
    assert set(made["label"].drop_null().to_pylist()) == {"noisy"}
    assert set(made["rejected_in_round"].drop_null().to_pylist()) == {0}


def test_a_model_without_rounds_leaves_what_the_noise_stage_said(fitted):
    stage, table = fitted
    made = Refine(replace(stage.model, rounds=(), strata=()))(table)
    for name in BELIEFS:
        assert made[name].to_pylist() == table[name].to_pylist()
    labels = table["label"].to_pylist()
    assert made["rejected_in_round"].to_pylist() == [0 if label == "noisy" else None for label in labels]


def test_rows_that_nothing_is_known_of_stay_null(fitted):
    stage, table = fitted
    made = stage(table.slice(299))
    assert made.num_rows == 1
    assert all(column.null_count == 1 for column in made.columns)
