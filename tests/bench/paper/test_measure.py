"""A data set under noise, annotated, trained on and tested; and the tables with the published rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from curate.bench.paper.embeddings import EmbeddedDataset, Part
from curate.bench.paper.measure import Noising, PaperBench, bench_paper
from curate.bench.paper.published import FILTERS, ROWS, published_rows
from curate.bench.paper.splits import PaperDataset, Split
from curate.bench.paper.tables import paper_tables
from curate.bench.paper.training import Embedded
from curate.errors import InputError
from curate.noise import fit
from tests.noise.synthetic import SMALL, halved


@pytest.fixture(autouse=True)
def quick_intervals(monkeypatch):
    monkeypatch.setattr(fit, "fit_mixture", partial(fit.fit_mixture, draws=2))


def part(images, name, captions=2, topics=8):
    rng = np.random.default_rng([7, len(name)])
    maps = np.random.default_rng(6)
    to_image = maps.standard_normal((topics, 48))
    image_of = np.repeat(np.arange(images), captions)
    latent = rng.standard_normal((images, topics))
    image = halved(latent @ to_image + 0.3 * rng.standard_normal((images, 48)))
    text = halved(latent[image_of] @ to_image + 2.0 * rng.standard_normal((len(image_of), 48)))
    names = tuple(f"{name} {row}" for row in range(len(image_of)))
    split = Split(tuple(Path(f"{name}-{row}.jpg") for row in range(images)), names, image_of)
    return Part(split, tuple(f"sha {name} {row}" for row in range(images)), Embedded(image, text, image_of))


@pytest.fixture(scope="module")
def data():
    train, dev, test = part(150, "training"), part(10, "dev"), part(50, "test")
    dataset = PaperDataset("flickr30k", "scan", train.split, dev.split, test.split)
    return dataset, EmbeddedDataset(train, dev, test, joint_space=True, left_out=0)


class Noting:
    """A trainer that notes what it is given and changes nothing."""

    def __init__(self):
        self.calls = []

    def __call__(self, training, hints, dev, seed):
        self.calls.append((training, hints, dev, seed))
        return lambda image, text: (image, text)


def measured(data, rates=(0.4,), seeds=1, noising=None, train=None, fit_rows=1000):
    bench = PaperBench(replace(SMALL, folds=3), fit_rows, smoothing=0.5, train=train or Noting())
    return list(bench_paper(*data, bench, noising or Noising(), rates, seeds))


def value(records, method, metric, subset="train"):
    (found,) = [r["value"] for r in records if (r["method"], r["metric"], r["subset"]) == (method, metric, subset)]
    return found


def test_mismatches_are_found_and_each_method_trains_on_its_rows(data):
    train = Noting()
    records = measured(data, train=train)
    assert value(records, "ours", "auroc") > 0.95
    assert value(records, "ours", "residual_noise") < 0.1
    assert value(records, "ours", "recall_clean") > 0.9
    assert value(records, "ours", "noise_share_true") == pytest.approx(0.4, abs=0.03)
    raw, ours, oracle = (hints for _, hints, _, _ in train.calls)
    given, right = train.calls[0][0].image_of, data[0].train.image_of
    assert len(raw.rows) == len(right)
    assert not raw.smoothing.any()
    assert (given[oracle.rows] == right[oracle.rows]).all()
    assert len(oracle.rows) == (given == right).sum()
    assert (ours.smoothing < 0.25).all()
    assert ours.smoothing.max() > 0
    assert value(records, "ours", "trained_pairs") == len(ours.rows)
    assert all(dev is data[1].dev.embedded for _, _, dev, _ in train.calls)


def test_the_fit_s_sample_is_bounded_and_all_pairs_are_scored(data):
    records = measured(data, fit_rows=200)
    assert value(records, "ours", "auroc") > 0.9


def test_nothing_is_mismatched_at_rate_zero_and_nothing_invented(data):
    records = measured(data, rates=(0.0,))
    assert {record["method"] for record in records} == {"zero_shot", "raw", "ours"}
    assert "residual_noise" not in {record["metric"] for record in records}
    assert value(records, "ours", "recall_clean") > 0.9


def test_what_a_trainer_makes_is_tested_on_the_test_part(data):
    records = measured(data)
    same = {value(records, method, "recall_sum", "all") for method in ("zero_shot", "raw", "ours")}
    assert len(same) == 1
    for direction in ("image_to_text", "text_to_image"):
        shares = [value(records, "ours", f"{direction}_recall_at_{at}", "all") for at in (1, 5, 10)]
        assert shares == sorted(shares)


def test_coco_is_tested_on_folds_and_on_all(data):
    dataset, embedded = data
    records = measured((replace(dataset, name="coco"), embedded))
    assert value(records, "ours", "recall_sum", "1k") > value(records, "ours", "recall_sum", "5k")


def test_towers_that_never_met_have_no_zero_shot(data):
    dataset, embedded = data
    records = measured((dataset, replace(embedded, joint_space=False)), rates=(0.0,))
    assert "zero_shot" not in {record["method"] for record in records}


def test_a_published_index_needs_the_order_it_counts_in(data, tmp_path):
    dataset, embedded = data
    file = tmp_path / "noise_inx_0.4.npy"
    index = np.arange(150)
    index[:60] = np.roll(index[:60], 1)
    np.save(file, index)
    records = measured(data, noising=Noising(file=file))
    assert value(records, "ours", "noise_share_true") == 0.4
    assert {record["kind"] for record in records} == {"noise_inx_0.4.npy"}
    with pytest.raises(InputError, match="counts in the order of SCAN's lists"):
        measured((replace(dataset, order="karpathy"), embedded), noising=Noising(file=file))


def test_tables_show_our_rows_beside_the_published_ones(data):
    records = measured(data, seeds=2)
    retrieval, filtering = paper_tables("flickr30k", records)
    methods = [row[0] for row in retrieval.rows]
    assert methods[-4:] == ["zero_shot", "raw", "ours", "oracle"]
    assert {"NPC", "DSDMR", "BiCro", "CRCL"} <= set(methods)
    npc = retrieval.rows[methods.index("NPC")]
    assert npc[1:8] == ("85.6", "97.5", "98.4", "71.3", "91.3", "95.3", "539.4")
    assert retrieval.ours == tuple(row[0] == "ours" for row in retrieval.rows)
    assert {row[-1] for row in retrieval.rows} == {"DECL", "NPC", "here"}
    assert "±" in retrieval.rows[-2][-2]
    assert filtering.rows[0][:2] == ("DSDMR", "1.3")
    assert filtering.rows[1][0] == "ours"
    assert retrieval.title == "flickr30k at 40% noise (here: decl, 2 seeds)"


def test_published_figures_are_possible_and_say_where_they_are_from():
    for row in ROWS:
        assert row.source
        assert row.draw
        assert 0 < row.text_r1 <= row.image_r1 + 3 < 100
        if row.total is not None:
            assert row.total <= 600
        if row.recalls is not None:
            assert (row.image_r1, row.text_r1) == (row.recalls[0], row.recalls[3])
            assert row.total == pytest.approx(sum(row.recalls), abs=0.11)
            assert list(row.recalls[:3]) == sorted(row.recalls[:3])
    assert len({(row.dataset, row.subset, row.rate, row.method) for row in ROWS}) == len(ROWS)
    assert all(0 < row.residual_noise < 0.2 for row in FILTERS)
    assert published_rows("cc152k", "all", 0.0)
    assert not published_rows("cc152k", "all", 0.4)
