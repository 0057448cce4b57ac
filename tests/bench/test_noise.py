"""`curate bench noise`: flat records that can be made again, and refusals of what it does not know."""

import io
import json

import pytest
import yaml
from PIL import Image

from curate.bench.noise import OURS, REFINED
from tests.conftest import Pipeline

RECORD = ("bench", "corpus", "kind", "rate", "seed", "method", "subset", "metric", "value", "unit")
PUBLISHED = ("clip_similarity", "dsdmr", "gsc", "lemon", "neg_clip_loss", "nlip", "npc", "osa", "repair")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Embeddings are made once for all tests here."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def bench(shards, tiny_encoder, work, tmp_path, curate):
    """Run `curate bench noise` in this process; returns (exit code, records, stdout, stderr)."""
    pipeline = work / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump(Pipeline(shards, work / "unused", tiny_encoder).raw))

    def call(*arguments):
        answer = tmp_path / "answer.json"
        fixed = ["--input", f"{shards}/*.tar", "--pipeline", pipeline, "--work", work / "run", "--json", answer]
        code, out, err = curate("bench", "noise", *fixed, *arguments)
        return code, json.loads(answer.read_text()) if answer.exists() else [], out, err

    return call


def values(records):
    """What is measured of what, without the time it took."""
    keyed = [({name: record[name] for name in RECORD[:-2]}, record["value"]) for record in records[1:]]
    return [entry for entry in keyed if entry[0]["metric"] != "seconds"]


def test_records_are_flat_and_the_first_is_the_environment(bench):
    code, records, out, _ = bench("--rate", "0,.4", "--seeds", 2)
    assert code == 0
    environment, *measured = records
    assert environment["metric"] == "environment"
    assert (environment["pairs"], environment["encoder"]) == (160, "tiny")
    assert {"numpy", "torch", "curate"} <= set(environment["versions"])
    assert all(tuple(record) == RECORD for record in measured)
    assert all(not isinstance(value, dict | list) for record in measured for value in record.values())
    assert {record["method"] for record in measured} == {OURS}
    aurocs = [r for r in measured if (r["metric"], r["subset"], r["rate"]) == ("auroc", "all", 0.4)]
    assert [record["seed"] for record in aurocs] == [0, 1]
    assert all(0 <= record["value"] <= 1 for record in aurocs)
    assert "AUROC" in out


def test_refined_has_records_of_every_round_and_of_the_last(bench):
    overrides = ["--set", "stages.refine.rounds=2", "--set", "stages.refine.settled=0"]
    overrides += ["--set", "stages.refine.trusted_below=0.9", "--set", "stages.refine.epochs=1"]
    code, records, _, _ = bench("--rate", "0.4", "--seeds", 1, "--method", "refined", *overrides)
    assert code == 0
    by_method = {
        method: [r["value"] for r in records[1:] if r["method"] == method and r["metric"] != "seconds"]
        for method in (REFINED, "refine_round_1", "refine_round_2")
    }
    assert by_method["refine_round_2"] == by_method[REFINED]
    assert by_method["refine_round_1"] != by_method[REFINED]
    assert {r["method"] for r in records[1:]} == {OURS, *by_method}


def test_rate_0_has_no_mismatches_to_find_but_tells_what_is_kept(bench):
    code, records, _, _ = bench("--rate", "0", "--kind", "random,nearest", "--seeds", 1)
    assert code == 0
    found = {record["metric"]: record["value"] for record in records[1:] if record["subset"] == "all"}
    assert "auroc" not in found
    assert found["noise_share_true"] == 0
    assert 0 <= found["recall_clean"] <= 1
    assert {record["kind"] for record in records[1:]} == {"random"}


def test_the_same_command_gives_the_same_values(bench):
    one, two = (bench("--kind", "random,partial", "--rate", "0.2", "--seeds", 1)[1] for _ in range(2))
    assert one[0] == two[0]
    assert values(one) == values(two)
    assert {record["kind"] for record in one[1:]} == {"random", "partial"}


def test_the_share_of_mismatched_pairs_is_the_rate(bench):
    _, records, _, _ = bench("--rate", "0.1,.3", "--seeds", 1)
    shares = {r["rate"]: r["value"] for r in records[1:] if (r["metric"], r["subset"]) == ("noise_share_true", "all")}
    assert shares == {rate: pytest.approx(rate, abs=0.02) for rate in (0.1, 0.3)}


def test_all_methods_are_the_published_ones_and_ours(bench, tmp_path):
    code, records, _, _ = bench("--method", "all", "--seeds", 1, "--plot", tmp_path / "auroc.png")
    assert code == 0
    methods = {record["method"] for record in records[1:]}
    assert records[0]["joint_space"]
    assert methods >= {OURS, *PUBLISHED}
    for method in methods:
        metrics = {record["metric"] for record in records[1:] if record["method"] == method}
        assert {"auroc", "auprc", "ece", "precision_clean", "residual_noise", "separable"} <= metrics
    assert Image.open(io.BytesIO((tmp_path / "auroc.png").read_bytes())).format == "PNG"


def test_one_published_method_alone(bench):
    _, records, _, _ = bench("--method", "osa", "--seeds", 1)
    assert {record["method"] for record in records[1:]} == {"osa"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--kind", "random,nearset"], "--kind nearset: choose among random, category, nearest, partial"),
        (["--method", "ours,lemno"], "--method lemno: choose among all, ours,"),
        (["--rate", "half"], "--rate half: give numbers separated by commas"),
        (["--rate", "1"], "give shares from 0 to below 1"),
        (["--rate", "-0.1"], "give shares from 0 to below 1"),
        (["--rate", "nan"], "give shares from 0 to below 1"),
        (["--seeds", "0"], "--seeds"),
        (["--plot", "auroc.nothing"], "--plot auroc.nothing"),
        (["--kind", "category", "--category-field", "nowhere"], "not one pair has any"),
    ],
)
def test_what_it_does_not_know_is_your_input(bench, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _, told = bench(*arguments)
    assert code == 2, told
    assert expected in " ".join(told.split())
