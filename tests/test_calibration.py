"""The bill before the run: what is measured, what is made of it, and what stays behind."""

import json

import numpy as np
import pytest

from curate.calibration import Calibration, StepCost, calibrate, draw_pairs, fit_sizes, growth, mixed_embeddings
from curate.errors import InputError
from curate.execution import LocalRunner
from curate.plan import make_plan

EMBED = StepCost("embed", "rows", 10.0, 0.02, 0.03, bytes_per_row=2000)
FIT = StepCost("noise fit", "fit", 1.0, 0.0, 0.001, 1.5, 50_000)
WHOLE = StepCost("duplicates", "whole", 0.0, 0.0, 0.0001)


def measured(device="cpu", workers=2):
    return Calibration(device, workers, 1000, 60.0, (EMBED, FIT, WHOLE))


def seconds(bill):
    return {step.name: step.seconds for step in bill}


def test_rows_are_shared_out_fits_are_bounded_and_one_process_is_one_process():
    one = seconds(measured().bill(1_000_000, cores=1))
    many = seconds(measured().bill(1_000_000, cores=100))
    assert one["embed"] == pytest.approx(10 + 50_000)
    assert many["embed"] == pytest.approx(10 + 500)
    assert one["noise fit"] == many["noise fit"] == pytest.approx(1 + 0.001 * 50_000**1.5)
    assert one["duplicates"] == many["duplicates"] == pytest.approx(100)
    assert seconds(measured().bill(2_000_000))["noise fit"] == one["noise fit"]


def test_by_default_the_bill_is_for_this_corpus_and_these_workers():
    assert seconds(measured().bill())["embed"] == pytest.approx(10 + 1000 * 0.05 / 2)
    assert measured().bill()[0].bytes == 2_000_000


def test_on_a_gpu_decoding_and_the_model_overlap_and_the_slower_counts():
    bill = measured("cuda", workers=8).bill(1_000_000, cores=8, gpus=2)
    assert bill[0].seconds == pytest.approx(10 + 0.03 * 1_000_000 / 2)
    assert bill[0].gpu_hours == pytest.approx(2 * bill[0].seconds / 3600)
    starved = measured("cuda", workers=8).bill(1_000_000, cores=4, gpus=8)[0]
    assert starved.seconds == pytest.approx(10 + 0.02 * 1_000_000 / 4)
    assert [step.gpu_hours for step in bill[1:]] == [0, 0]


def test_a_cpu_says_nothing_of_a_gpu():
    with pytest.raises(InputError, match="--gpus"):
        measured().bill(gpus=4)


@pytest.mark.parametrize(
    "time_of", [lambda n: 3 + 0.002 * n, lambda n: 1e-6 * n**2, lambda n: 1e-4 * n**1.4, lambda n: 7.0]
)
def test_growth_goes_through_what_was_measured_and_on(time_of):
    fixed, factor, exponent = growth([1000, 3000], [time_of(1000), time_of(3000)])
    for rows in (1000, 3000, 50_000):
        assert fixed + factor * rows**exponent == pytest.approx(time_of(rows))


def test_time_that_shrinks_with_the_pairs_is_no_credit():
    fixed, factor, _ = growth([1000, 3000], [5.0, 4.0])
    assert (fixed, factor) == (4.0, 0.0)


def test_a_corpus_too_small_for_two_sizes_is_timed_at_one():
    assert fit_sizes(10_000_000) == [1000, 3000]
    assert fit_sizes(1200) == [400, 1200]
    assert fit_sizes(160) == [160]
    assert growth([160], [3.2]) == (0.0, pytest.approx(0.02), 1.0)


def test_pairs_come_from_all_shards(finished):
    plan = make_plan(finished.config(), LocalRunner(1).index)
    drawn = draw_pairs(plan)
    assert set(drawn.pairs.column("shard").to_pylist()) == set(plan.manifest.shards)
    assert "image" not in drawn.pairs.column_names
    assert all(picture for picture, _ in drawn.pictures)


def test_mixed_embeddings_are_unit_and_all_different(finished):
    plan = make_plan(finished.config(), LocalRunner(1).index)
    pairs = draw_pairs(plan).pairs
    embedded = plan.store.read_table("embed/part-00000000.parquet")
    mixed = mixed_embeddings(pairs, embedded, np.random.default_rng(0))
    assert mixed.schema.names == embedded.schema.names
    assert mixed.column("caption").to_pylist() == pairs.column("caption").to_pylist()
    rows = np.array(mixed.column("image_embedding").to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-3)
    assert len(set(mixed.column("image_sha256").to_pylist())) == pairs.num_rows


def test_calibrating_measures_every_step_and_leaves_nothing_behind(pipeline):
    config = pipeline.config()
    runner = LocalRunner(2)
    plan = make_plan(config, runner.index)
    beside = set(pipeline.output.parent.iterdir())
    held = pipeline.contents()
    found = calibrate(config, plan, runner)
    assert [cost.name for cost in found.costs] == ["embed", "noise fit", "noise", "duplicates", "annotations"]
    assert [cost.kind for cost in found.costs] == ["rows", "fit", "rows", "whole", "rows"]
    assert all(cost.body_seconds >= 0 and cost.bytes_per_row > 0 for cost in found.costs)
    assert found.costs[0].head_seconds > 0 < found.costs[0].body_seconds
    assert (found.pairs, found.workers) == (160, 2)
    assert set(pipeline.output.parent.iterdir()) == beside
    assert pipeline.contents() == held


def test_the_command_shows_the_bill(pipeline, curate, tmp_path):
    pipeline.raw["stages"] = ["embed"]
    file = tmp_path / "cost.json"
    code, shown, _ = curate(
        "plan", pipeline.file(), "--calibrate", "--pairs", "12.8e9", "--cores", 1000, "--json", file
    )
    assert code == 0
    assert "predicted for 12,800,000,000 pairs on 1,000 cores" in " ".join(shown.split())
    cost = json.loads(file.read_text())["cost"]
    assert [step["name"] for step in cost["steps"]] == ["embed", "annotations"]
    assert cost["bytes"] == sum(step["bytes"] for step in cost["steps"]) > 12.8e9
    assert cost["measured"]["pairs"] == 160


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pairs", "5"], "add it"),
        (["--calibrate", "--gpus", "2"], "says nothing of a GPU"),
    ],
)
def test_options_that_mean_nothing_are_refused(pipeline, curate, options, told):
    pipeline.raw["stages"] = ["embed"]
    code, _, error = curate("plan", pipeline.file(), *options)
    assert (code, told in " ".join(error.split())) == (2, True)


def test_what_cannot_be_predicted_is_refused(pipeline):
    plan = make_plan(pipeline.config(), LocalRunner(1).index)
    config = pipeline.config('stages.python=["some.module:Stage"]')
    with pytest.raises(InputError, match="python: stages of your own"):
        calibrate(config, plan, LocalRunner(1))
