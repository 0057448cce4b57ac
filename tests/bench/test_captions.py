"""`curate bench captions`: flat records of every decoder, the truth and the policy, that can be made again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from rich.console import Console

from curate.bench.captions import TRUTH, CaptionBench, bench_captions, check_decoders
from curate.bench.noise import Condition, Corpus
from curate.bench.tables import caption_tables
from curate.cli.bench import _measured
from curate.completion.policy import DecoderName, Policy
from curate.concepts.fit import ConceptOptions
from curate.concepts.words import english_tokenizer
from curate.corpora.pairs import Pair
from curate.errors import InputError
from tests.completion.test_fit import COLOURS, QUICK, THINGS, encode
from tests.conftest import DECIDED_NOISE, Pipeline
from tests.noise.synthetic import SMALL, corpus

pytest.importorskip("sacrebleu")
RECORD = ["bench", "corpus", "kind", "rate", "seed", "method", "subset", "metric", "value", "unit"]


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    sample, _ = corpus(rows=320, mismatched=0.0)
    said = [f"a {COLOURS[row % 6]} {THINGS[row // 6 % 6]} number {row}" for row in range(320)]
    return Corpus(
        tuple(Pair(str(row), caption) for row, caption in enumerate(said)),
        tuple(sample.image_sha256), sample.image, sample.text, False, "small",
    )  # fmt: skip


def test_records(pairs: Corpus):
    bench = CaptionBench(SMALL, ConceptOptions(), QUICK, Policy(), english_tokenizer(), encode)
    told: list[str] = []
    decoders = check_decoders(["nearest", "gru"])
    records = list(bench_captions(pairs, bench, [Condition("random", 0.3, 0)], decoders, told.append))
    steps = ["fitting noise", "fitting concepts", "fitting captioner", "decoder nearest", "decoder gru", "policy"]
    assert told == [f"1 of 1, 0.3 exchanged, seed 0: {step}" for step in steps]
    assert all(list(record) == RECORD for record in records)
    found = {(record["method"], record["metric"]): record["value"] for record in records}
    assert found[TRUTH, "cider_d"] == pytest.approx(1000)
    assert found[TRUTH, "recall_at_1"] == 1
    assert found["nearest", "new_words"] == found["gru", "new_words"] == 0
    assert 0 <= found["default", "clean_changed"] <= 1
    assert found["gru", "captions_per_second"] > 0
    assert np.isfinite([value for value in found.values() if value is not None]).all()


@pytest.mark.parametrize(
    ("configured", "names", "policy"),
    [
        ("nearest", ["nearest", "gru", "transformer", "default"], "nearest"),
        ("gru", ["consensus"], "consensus"),
    ],
)
def test_every_decoder_is_measured_whatever_the_pipeline_names(
    pairs: Corpus, configured: DecoderName, names: list[str], policy: str
):
    bench = CaptionBench(
        SMALL, ConceptOptions(), replace(QUICK, decoder=configured), Policy(), english_tokenizer(), encode
    )
    decoders = check_decoders(names)
    records = list(bench_captions(pairs, bench, [Condition("random", 0.3, 0)], decoders, lambda told: None))
    assert {r["method"] for r in records if r["metric"] == "cider_d"} == {*decoders, TRUTH}
    assert {r["method"] for r in records if r["metric"] == "clean_changed"} == {policy}


def test_decoders_are_named():
    assert check_decoders(["default", "default"]) == ["default"]
    assert "default" in check_decoders(["all"])
    with pytest.raises(InputError, match="--decoder magic: choose among all, default"):
        check_decoders(["magic"])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Embeddings are made once for all tests here."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def bench(shards, tiny_encoder, work, tmp_path, curate):
    """Run `curate bench captions` in this process; returns (exit code, records, stdout, stderr)."""
    pipeline = work / "pipeline.yaml"
    stages = ["embed", DECIDED_NOISE, {"concepts": {"min_documents": 2}}, {"caption": {"trusted_below": 0.95}}]
    pipeline.write_text(yaml.safe_dump(Pipeline(shards, work / "unused", tiny_encoder, stages=stages).raw))

    def call(*arguments, json_file=tmp_path / "answer.json"):
        fixed = ["--input", f"{shards}/*.tar", "--pipeline", pipeline, "--work", work / "run", "--json", json_file]
        code, out, err = curate("bench", "captions", *fixed, *arguments)
        return code, json.loads(json_file.read_text()) if json_file.exists() else [], out, err

    return call


def test_the_command_gives_records_and_tables(bench):
    code, records, out, err = bench("--rate", "0,.4", "--seeds", 1, "--decoder", "consensus,nearest")
    assert code == 0
    environment, *measured = records
    assert (environment["bench"], environment["metric"]) == ("captions", "environment")
    assert {"sacrebleu", "hanta", "torch"} <= set(environment["versions"])
    assert all(list(record) == RECORD for record in measured)
    assert all(not isinstance(value, dict | list) for record in measured for value in record.values())
    assert {record["method"] for record in measured} == {"consensus", "nearest", TRUTH, ""}
    assert {record["rate"] for record in measured} == {0, 0.4}
    assert all(head in out for head in ("CIDEr-D", "R@10", "right ones changed", "share of the clean figures"))
    assert "…" not in out
    assert "2 of 2, 0.4 exchanged, seed 0: decoder nearest" in err
    again = bench("--rate", "0,.4", "--seeds", 1, "--decoder", "consensus,nearest")[1]
    assert [r for r in again if r.get("unit") not in TIMES] == [r for r in records if r.get("unit") not in TIMES]


TIMES = ("s", "captions/s")


def test_quiet_says_nothing(bench):
    code, records, out, err = bench("--rate", "0", "--seeds", 1, "--decoder", "nearest", "--quiet")
    assert (code, out, err) == (0, "", "")
    assert len(records) > 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--decoder", "default,magic"], "--decoder magic: choose among all, default, gru"),
        (["--rate", "half"], "--rate half: give numbers separated by commas"),
        (["--rate", "1"], "give shares from 0 to below 1"),
        (["--seeds", "0"], "--seeds"),
        (["--set", "stages.caption.decoder=magic"], "caption.decoder"),
        (["--set", "stages.caption={decoder: coca, coca: {model: a, pretrained: b}}"], "coca looks at pictures"),
        (["--set", "stages.concepts.vocabulary=nothing.txt"], "nothing.txt"),
    ],
)
def test_what_it_does_not_know_is_your_input(bench, arguments, expected):
    code, records, _, told = bench(*arguments)
    assert code == 2, told
    assert expected in " ".join(told.split())
    assert not records


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(bench, tmp_path):
    code, _, _, told = bench("--seeds", 1, json_file=tmp_path / "nowhere" / "answer.json")
    assert code == 2
    assert "answer.json: cannot be written" in " ".join(told.split())
    assert "fitting noise" not in told


def test_a_condition_is_in_the_file_before_the_next_one_is_measured(tmp_path):
    seen = []

    def measure(told):
        for rate in (0.0, 0.4):
            for metric in ("images", "noise_seconds"):
                yield {"rate": rate, "kind": "random", "seed": 0, "method": "", "metric": metric}
                seen.append(len(json.loads((tmp_path / "r").read_text())))

    _measured({"metric": "environment"}, measure, lambda records: [], Console(quiet=True), tmp_path / "r")
    assert seen == [1, 1, 3, 3]


def test_whoever_interrupts_keeps_what_is_measured(tmp_path):
    def measure(told):
        for metric in ("images", "cider_d"):
            measured = {"rate": 0.0, "kind": "random", "seed": 0, "method": "nearest", "subset": "all"}
            yield {**measured, "metric": metric, "value": 1}
        raise KeyboardInterrupt

    shown = Console(record=True, width=100)
    with pytest.raises(KeyboardInterrupt):
        _measured({"metric": "environment"}, measure, lambda r: caption_tables(r, "default"), shown, tmp_path / "r")
    assert [record["metric"] for record in json.loads((tmp_path / "r").read_text())] == [
        "environment", "images", "cider_d"
    ]  # fmt: skip
    assert "CIDEr-D" in shown.export_text()
