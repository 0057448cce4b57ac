"""`curate bench concepts`: figures by the book, flat records that can be made again."""

import json
import tarfile

import numpy as np
import pytest
import yaml

from curate.bench.concepts import METHODS, keywords_of, ranking_figures
from tests.conftest import Pipeline
from tests.corpus import write_shard

RECORD = ("bench", "corpus", "kind", "rate", "seed", "method", "subset", "metric", "value", "unit")
STAGES = ["embed", {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}}, {"concepts": {"min_documents": 2}}]


def test_figures_are_those_of_the_book():
    scores = np.array([[5, 4, 3, 2, 1, 0, -1], [0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1, 1]], np.float32)
    shown = np.array([[1, 0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool)
    found = ranking_figures(scores, shown)
    assert found["precision_at_5"] == pytest.approx((2 / 5 + 0) / 2)
    assert found["recall_at_10"] == 1
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 7) / 2)


def test_where_nothing_is_shown_there_are_no_figures():
    assert set(ranking_figures(np.ones((2, 3), np.float32), np.zeros((2, 3), bool)).values()) == {None}


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, []), ("", []), ('["a dog", "cat"]', ["a dog", "cat"]), ("dog,cat", ["dog", "cat"]), ("7", ["7"])],
)
def test_keywords_are_a_list_or_text_with_commas(text, words):
    assert keywords_of(text) == words


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Embeddings are made once for all tests here."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def bench(shards, tiny_encoder, work, tmp_path, curate):
    """Run `curate bench concepts` in this process; returns (exit code, records, stdout, stderr)."""
    pipeline = work / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump(Pipeline(shards, work / "unused", tiny_encoder, stages=STAGES).raw))

    def call(*arguments, inputs=shards, folder=work):
        answer = tmp_path / "answer.json"
        fixed = ["--input", f"{inputs}/*.tar", "--pipeline", pipeline, "--work", folder / "run", "--json", answer]
        code, out, err = curate("bench", "concepts", *fixed, *arguments)
        return code, json.loads(answer.read_text()) if answer.exists() else [], out, err

    return call


@pytest.mark.parametrize("option", [["--method", "magic"], ["--rate", "x"], ["--rate", "1.5"]])
def test_what_it_does_not_know_is_refused(bench, option):
    code, _, _, err = bench(*option)
    assert code == 2
    assert option[0] in err


def test_records_are_flat_and_can_be_made_again(bench):
    code, records, out, _ = bench("--rate", "0,.4", "--seeds", 1)
    assert code == 0
    environment, *measured = records
    assert environment["metric"] == "environment"
    assert "hanta" in environment["versions"]
    assert all(tuple(record) == RECORD for record in measured)
    assert all(not isinstance(value, dict | list) for record in measured for value in record.values())
    assert {record["method"] for record in measured} == set(METHODS)
    found = {(r["method"], r["rate"]): r["value"] for r in measured if r["metric"] == "map"}
    assert all(0 < value <= 1 for value in found.values())
    assert "mAP" in out
    again = bench("--rate", "0,.4", "--seeds", 1)[1][1:]
    assert [r for r in again if r["unit"] != "s"] == [r for r in measured if r["unit"] != "s"]


def test_human_keywords_are_a_truth_of_their_own(bench, tmp_path, shards):
    folder = tmp_path / "tagged"
    for shard, tar in enumerate(sorted(shards.glob("*.tar"))):
        with tarfile.open(tar) as old:
            members = [(member.name, old.extractfile(member).read()) for member in old.getmembers()]
        captions = {name: data.decode() for name, data in members if name.endswith(".txt")}
        write_shard(
            folder / f"{shard}.tar", [(n, tagged(d, captions) if n.endswith(".json") else d) for n, d in members]
        )
    code, records, _, _ = bench("--rate", "0", "--seeds", 1, inputs=folder, folder=tmp_path)
    assert code == 0
    assert {r["subset"] for r in records if r.get("metric") == "map"} == {"caption_nouns", "keywords"}


def tagged(description, captions):
    """The JSON member with keywords: the last two words of the caption."""
    described = json.loads(description)
    words = captions[f"{described['key']}.txt"].split()
    return json.dumps({**described, "keywords": words[-2:]}).encode()
