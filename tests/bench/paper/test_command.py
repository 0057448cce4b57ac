"""`curate bench paper` on stand-ins in the published formats, with tiny towers, from the command line."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from curate.noise import fit
from tests.bench.paper.standin import TEST, write_cc152k, write_karpathy, write_scan


@pytest.fixture(autouse=True)
def quick_intervals(monkeypatch):
    monkeypatch.setattr(fit, "fit_mixture", partial(fit.fit_mixture, draws=2))


@pytest.fixture
def bench(curate, tiny_encoder, tmp_path):
    """Runs the command on a data set; (exit code, what was printed, what was complained, records)."""
    encoder = [part for name, value in tiny_encoder.items() for part in ("--set", f"encoder.{name}={value}")]
    file = tmp_path / "records.json"

    def run(dataset, folder, *options):
        given = ("--dataset", dataset, "--path", folder, "--work", tmp_path / "work", "--json", file, "--seeds", 1)
        code, out, complained = curate("bench", "paper", *given, *encoder, *options)
        return code, out, complained, json.loads(file.read_text()) if file.exists() else []

    return run


def metrics(records, subset):
    return {record["metric"] for record in records if record.get("subset") == subset and record["method"] == "raw"}


def test_a_published_index_is_followed_and_our_row_stands_beside_the_published_ones(bench, tmp_path):
    folder = write_karpathy(tmp_path / "f30k")
    write_scan(folder)
    index = np.arange(40)
    index[:16] = np.roll(index[:16], 1)
    np.save(folder / "noise_inx_0.4.npy", index)
    options = ("--noise-index", folder / "noise_inx_0.4.npy", "--rate", "0.4")
    code, out, _, records = bench("flickr30k", folder, *options)
    assert code == 0
    for word in ("DSDMR", "539.4", "zero_shot", "raw", "oracle", "residual noise", "noise_inx_0.4.npy"):
        assert word in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert (records[0]["metric"], records[0]["order"], records[0]["pairs"]) == ("environment", "scan", 200)
    assert records[0]["test_images"] == TEST
    (share,) = [record["value"] for record in records if record["metric"] == "noise_share_true"]
    assert share == 0.4
    both = {f"{way}_recall_at_{at}" for way in ("image_to_text", "text_to_image") for at in (1, 5, 10)}
    assert metrics(records, "all") == {*both, "recall_sum"}


def test_a_second_run_embeds_nothing_again_and_says_the_same(bench, tmp_path, monkeypatch):
    folder = write_karpathy(tmp_path / "f30k")
    _, first, _, records = bench("flickr30k", folder, "--rate", "0.2", "--protocol", "ncr", "--quiet")
    assert first == ""

    def refuse(*_):
        raise AssertionError("towers were loaded")

    monkeypatch.setattr("curate.bench.paper.embeddings.load_encoder", refuse)
    monkeypatch.setattr("curate.steps.load_encoder", refuse)
    _, _, _, again = bench("flickr30k", folder, "--rate", "0.2", "--protocol", "ncr")
    timed = ("noise_seconds", "train_seconds")
    assert [r for r in again if r["metric"] not in timed] == [r for r in records if r["metric"] not in timed]


def test_coco_has_a_table_for_folds_and_one_for_all(bench, tmp_path):
    code, out, _, records = bench("coco", write_karpathy(tmp_path / "coco", "coco"), "--rate", "0.6")
    assert code == 0
    assert "coco 1k at 60% noise" in out
    assert "coco 5k at 60% noise" in out
    assert metrics(records, "1k") == metrics(records, "5k")


def test_cc152k_is_noisy_as_it_is_and_images_that_cannot_be_used_are_left_out(bench, tmp_path):
    folder = write_cc152k(tmp_path / "cc")
    (folder / "images" / "3_train.png").write_bytes(b"no picture")
    (folder / "images" / "5_test.png").write_bytes(b"no picture")
    code, out, _, records = bench("cc152k", folder)
    assert code == 0
    assert "2 images cannot be used and are left out" in out
    assert (records[0]["pairs"], records[0]["test_images"]) == (118, TEST - 1)
    assert {record["rate"] for record in records[1:]} == {0}
    assert "497.7" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate", "1.5"), "--rate 1.5: must be from 0 to below 1"),
        (("--noise-index", "noise.npy"), "--noise-index noise.npy: has one rate; name it"),
        (("--noise-index", "noise.npy", "--rate", ".2,.4"), "has one rate; name it"),
        (("--noise-index", "noise.npy", "--rate", ".2"), "counts in the order of SCAN's lists"),
    ],
)
def test_options_that_make_no_sense_end_with_a_word(bench, tmp_path, options, message):
    code, _, complained, _ = bench("flickr30k", write_karpathy(tmp_path / "f30k"), *options)
    assert code == 2
    assert message in complained
    assert "Traceback" not in complained


def test_a_broken_image_of_a_set_that_needs_all_is_named(bench, tmp_path):
    folder = write_karpathy(tmp_path / "f30k")
    (folder / "images" / "1004.png").write_bytes(b"no picture")
    code, _, complained, _ = bench("flickr30k", folder)
    assert code == 2
    assert "1 of 70 images cannot be used" in complained
    assert "1004.png" in complained
