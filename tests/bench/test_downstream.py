"""`curate bench downstream`: what is trained on what, on pairs whose truth is known."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from rich.console import Console

from curate.bench.curated import Curated
from curate.bench.downstream import (
    DownstreamBench,
    bench_downstream,
    over_the_seeds,
)
from curate.bench.heads import HeadOptions
from curate.bench.noise import Condition
from curate.bench.recipes import METHODS, RAW, RECIPES, REFERENCES, check_methods
from curate.bench.tables import downstream_tables
from curate.bench.trials import HeadsModel, HeadsTrial, training_set
from curate.cli.shared import print_table
from curate.errors import InputError
from tests.bench.test_curated import CURATION, small_corpus
from tests.conftest import Pipeline
from tests.noise.synthetic import corpus

HEADS = HeadOptions(components=12, hidden=32, width=12, dropout=0.1, steps=80, batch=64, learning_rate=1e-2)
RECORD = ["bench", "corpus", "model", "kind", "rate", "seed", "method", "subset", "metric", "value", "unit"]
ROWS, TESTED = 160, 150


def told_right(wrong: np.ndarray, image: np.ndarray, true_text: np.ndarray, sources: np.ndarray) -> Curated:
    """Half of the captions exchanged, by a detector that is always right and a captioner that knows the truth."""
    said = [f"caption {row}" for row in range(len(wrong))]
    noise_prob = wrong.astype(np.float32)
    return Curated(
        image=image, captions=[said[row] for row in sources], text=true_text[sources], true_captions=said,
        true_text=true_text, mismatched=wrong, noise_prob=noise_prob, weight=1 - noise_prob,
        smoothing=noise_prob / 2, p_use_synthetic=noise_prob, completed=said, completed_text=true_text,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> tuple[Curated, np.ndarray, np.ndarray]:
    pairs, _ = corpus(rows=ROWS + TESTED, mismatched=0.0, noise=1.3)
    wrong = np.arange(ROWS) % 2 == 0
    sources = np.where(wrong, np.roll(np.arange(ROWS), 2), np.arange(ROWS))
    part = told_right(wrong, pairs.image[:ROWS], pairs.text[:ROWS], sources)
    return part, pairs.image[ROWS:], pairs.text[ROWS:]


@pytest.fixture(scope="module")
def sums(world) -> dict[str, list[float]]:
    part, image, text = world
    trials = [HeadsTrial(part, image, text, HEADS, seed) for seed in range(3)]
    return {name: [trial.recalls(method(part)).total for trial in trials] for name, method in METHODS.items()}


def record(rate: float, seed: int, method: str, subset: str, metric: str, value: float | None) -> dict:
    values = ("downstream", "c", "heads", "random", rate, seed, method, subset, metric, value, "percent")
    return dict(zip(RECORD, values, strict=True))


def gap(sums: dict[str, list[float]], name: str) -> float | None:
    records = [
        record(0.5, seed, method, "all", "recall_sum", value)
        for method, values in sums.items()
        for seed, value in enumerate(values)
    ]
    said = {(each["method"], each["metric"]): each["value"] for each in over_the_seeds(records)}
    return said[name, "gap_recovered"]


def test_the_oracle_beats_raw_and_the_whole_truth_beats_the_oracle(sums):
    raw, oracle, clean = (np.mean(sums[name]) for name in REFERENCES)
    assert raw + 20 < oracle < clean


def test_a_detector_that_is_right_recovers_the_gap_and_true_completions_pass_it(sums):
    assert gap(sums, RAW) == 0
    assert gap(sums, "kept") == 1
    assert gap(sums, "weighted") == pytest.approx(1, abs=0.1)
    assert gap(sums, "completed") > 1.05


def test_with_nothing_to_detect_wrong_the_truth_in_one_place_changes_nothing(sums):
    assert sums["kept_nothing_lost"] == sums["kept_no_residue"] == sums["kept"]
    assert sums["completed_true_captions"] == sums["completed"]


def test_no_gap_no_share_of_it(sums):
    flat = {name: [100.0, 120.0, 110.0] for name in METHODS}
    assert gap(flat, "kept") is None
    worse = {**flat, "oracle": [90.0, 100.0, 95.0]}
    assert gap(worse, "kept") is None
    assert gap({name: values[:1] for name, values in sums.items()}, "kept") is None


def test_seeds_are_paired():
    sums = {"raw": [100.0, 200.0, 300.0], "oracle": [150.0, 250.0, 350.0], "full_clean": [1.0] * 3}
    assert gap({**sums, "kept": [130.0, 230.0, 330.0]}, "kept") == pytest.approx(0.6)


def test_equal_captions_are_known_as_equal(world):
    part, _, _ = world
    loud = replace(part, captions=["One"] * ROWS, completed=[" one"] * 10 + ["two"] * (ROWS - 10))
    pairs = training_set(loud, METHODS["completed"](loud))
    assert set(pairs.caption[:10]) == {pairs.caption[0]} != {pairs.caption[10]}


def test_records():
    told: list[str] = []
    bench = DownstreamBench(CURATION, HeadsModel(replace(HEADS, steps=20)))
    cells = [Condition("random", 0.3, 0), Condition("random", 0.3, 1)]
    records = list(bench_downstream(small_corpus(), bench, cells, check_methods(["kept"]), told.append))
    assert told[0] == "0.3 exchanged, seed 0: annotating"
    assert told[-1] == "0.3 exchanged, seed 1: training on kept"
    assert all(list(record) == RECORD for record in records)
    found = {(each["method"], each["subset"], each["metric"], each["seed"]): each["value"] for each in records}
    for seed in (0, 1):
        parts = [
            found["kept", "all", f"{way}_recall_at_{depth}", seed]
            for way in ("image_to_text", "text_to_image")
            for depth in (1, 5, 10)
        ]
        assert found["kept", "all", "recall_sum", seed] == pytest.approx(sum(parts))
    assert found["full_clean", "all", "rows", 0] == 240
    assert found["kept", "all", "rows", 0] < 240
    assert 0.5 < found["ours", "all", "precision_clean", 0] <= 1
    assert found["ours", "caption_frequency_1", "recall_clean", 0] == found["ours", "all", "recall_clean", 0]
    assert found["ours", "caption_frequency_2_to_10", "recall_clean", 0] is None
    both = [found["kept", "all", "recall_sum", seed] for seed in (0, 1)]
    assert found["kept", "all", "recall_sum", None] == pytest.approx(np.mean(both))
    assert (
        found["kept", "all", "recall_sum_low", None] <= np.mean(both) <= found["kept", "all", "recall_sum_high", None]
    )


def test_a_method_without_pairs_says_so(monkeypatch):
    monkeypatch.setitem(METHODS, "kept", lambda part: replace(METHODS[RAW](part), weight=0 * part.weight))
    bench, cells = DownstreamBench(CURATION, HeadsModel(replace(HEADS, steps=1))), [Condition("random", 0.3, 0)]
    with pytest.raises(InputError, match=r"--method kept: 0 of 240 pairs are left to train on with 0.3"):
        list(bench_downstream(small_corpus(), bench, cells, check_methods(["kept"]), lambda _: None))


@pytest.fixture
def told_of_two_rates() -> list[dict]:
    """Two seeds; the recipes recover half of the gap at rate 0.4, and there is none at 0."""
    made: list[dict] = [{"metric": "environment"}]
    for rate in (0.0, 0.4):
        cells = []
        for seed in range(2):
            for method in METHODS:
                value = 300.0 + 10 * seed - 100 * rate * {"raw": 1.0, "kept": 0.5}.get(method, 0.0)
                cells += [
                    record(rate, seed, method, "all", f"{way}_recall_at_{depth}", value / 6)
                    for way in ("image_to_text", "text_to_image")
                    for depth in (1, 5, 10)
                ]
                cells.append(record(rate, seed, method, "all", "recall_sum", value))
            for name in ("caption_frequency_1", "caption_frequency_2_to_10"):
                cells.append(record(rate, seed, "ours", name, "recall_clean", 0.9))
            for name in ("recall_clean", "precision_clean", "accepted", "clean_changed"):
                cells.append(record(rate, seed, "ours", "all", name, 0.95 if rate or name != "accepted" else None))
        made += [*cells, *over_the_seeds(cells)]
    return made


def test_tables(told_of_two_rates: list[dict]):
    clean, noisy, gaps, annotations = downstream_tables(told_of_two_rates, RECIPES)
    assert (clean.title, noisy.title) == ("retrieval, clean", "retrieval, 0.4 of the captions exchanged")
    assert dict(zip(noisy.heads, noisy.rows[0], strict=True))["t2i R@5"] == "44.2"
    assert [row[0] for row, ours in zip(noisy.rows, noisy.ours, strict=True) if ours] == [*RECIPES]
    rows = {row[:2]: row[2:] for row in gaps.rows}
    assert rows["0.4", "kept"][2] == "0.50 [0.50, 0.50]"
    assert rows["0", "kept"][2] == ""
    assert rows["0.4", "raw"][0].startswith("265.0 [")
    assert annotations.rows == (
        ("0", ".900", ".900", "", "", ".950", ".950", "", ".950"),
        ("0.4", ".900", ".900", "", "", ".950", ".950", ".950", ".950"),
    )


def test_what_was_measured_when_it_was_ended_is_shown(told_of_two_rates: list[dict]):
    titles = [table.title for table in downstream_tables(told_of_two_rates[:8], RECIPES)]
    assert titles == ["retrieval, clean"]
    assert downstream_tables(told_of_two_rates[:2], RECIPES) == []


def test_where_raw_finds_nothing_no_change_can_be_told(sums):
    assert gap({**sums, RAW: [0.0, 0.0, 0.0]}, "kept") > 0
    cells = [record(0.4, seed, method, "all", "recall_sum", 0.0) for method in METHODS for seed in range(2)]
    assert {each["value"] for each in over_the_seeds(cells) if each["metric"] == "change_from_raw"} == {None}


def test_tables_fit_a_terminal(told_of_two_rates: list[dict]):
    console = Console(width=100, file=io.StringIO())
    for table in downstream_tables(told_of_two_rates, RECIPES):
        print_table(console, table)
    assert "\u2026" not in console.file.getvalue()


def test_the_command_gives_records_and_tables(shards, tiny_encoder, tmp_path, curate):
    stages = [
        "embed",
        {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}},
        {"concepts": {"min_documents": 2}},
        {"caption": {"decoder": "consensus"}},
    ]
    pipeline, answer = tmp_path / "pipeline.yaml", tmp_path / "answer.json"
    pipeline.write_text(yaml.safe_dump(Pipeline(shards, tmp_path / "unused", tiny_encoder, stages=stages).raw))
    fixed = ["--input", f"{shards}/*.tar", "--pipeline", pipeline, "--work", tmp_path / "run", "--json", answer]
    code, out, err = curate("bench", "downstream", *fixed, "--rate", ".4", "--seeds", 1, "--method", "weighted")
    assert code == 0, err
    environment, *measured = json.loads(answer.read_text())
    assert (environment["bench"], environment["metric"]) == ("downstream", "environment")
    assert (environment["model"], environment["heads"]["steps"]) == ("heads", HeadOptions().steps)
    assert all(list(record) == RECORD for record in measured)
    assert {record["method"] for record in measured} == {"ours", *REFERENCES, "weighted"}
    assert all(head in out for head in ("t2i R@10", "gap recovered", "wrong completed"))
    assert "0.4 exchanged, seed 0: training on weighted" in err
