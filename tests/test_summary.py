"""What is printed about a run is what its annotations say."""

import numpy as np
import pandas as pd
import pytest

from curate.errors import InputError
from curate.store import RunStore
from curate.summary import HISTOGRAM_BINS, PairFilter, find_pairs, summarize
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_shard


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, tiny_encoder):
    """A run with one broken picture."""
    folder = tmp_path_factory.mktemp("damaged")
    members = [
        (f"{number:03d}.{end}", data) for number, pair in enumerate(make_pairs(120)) for end, data in named(pair)
    ]
    write_shard(folder / "0.tar", [*members, ("b.png", b"no picture"), ("b.txt", b"broken")])
    made = Pipeline(folder, folder / "run", tiny_encoder)
    made.run()
    return made


def named(pair):
    image, caption = pair
    return ("png", image), ("txt", caption.encode())


def test_counts_are_those_of_the_annotations(finished):
    table = pd.read_parquet(finished.output / "annotations")
    summary = summarize(RunStore(str(finished.output)))
    assert summary.pairs == len(table)
    assert summary.labels == {label: int((table.label == label).sum()) for label in ("clean", "uncertain", "noisy")}
    assert summary.statuses == {"ok": len(table)}
    assert summary.shard_errors == 0
    expected, _ = np.histogram(table.noise_prob, HISTOGRAM_BINS, (0, 1))
    assert np.sum(list(summary.histogram.values()), axis=0).tolist() == expected.tolist()
    assert {label: sum(counts) for label, counts in summary.histogram.items()} == summary.labels


def test_the_most_suspicious_pairs_have_different_captions(finished):
    table = pd.read_parquet(finished.output / "annotations")
    shown = summarize(RunStore(str(finished.output)), top=7).shown
    best = table.groupby("caption").noise_prob.max().sort_values(ascending=False)
    assert [pair.noise_prob for pair in shown] == pytest.approx(best[:7].tolist())
    assert len({pair.caption for pair in shown}) == 7


def test_a_pair_is_found_by_key_and_by_row_id(finished):
    store = RunStore(str(finished.output))
    (pair,) = find_pairs(store, "000000042")
    assert find_pairs(store, pair["row_id"]) == [pair]
    with pytest.raises(InputError, match="nobody"):
        find_pairs(store, "nobody")


def test_only_the_pairs_that_were_asked_for_are_counted_and_shown(finished):
    table = pd.read_parquet(finished.output / "annotations")
    middle = table.noise_prob.median()
    summary = summarize(RunStore(str(finished.output)), 200, "clean", PairFilter(where=f"noise_prob < {middle}"))
    kept = table[table.noise_prob < middle]
    assert (summary.run_pairs, summary.pairs) == (160, len(kept))
    assert sum(map(sum, summary.histogram.values())) == len(kept)
    best = kept.sort_values(["noise_rank", "row_id"]).drop_duplicates("caption")
    assert [pair.row_id for pair in summary.shown] == best.row_id.tolist()


def test_unusable_pairs_are_shown_where_they_are_asked_for(damaged):
    store = RunStore(str(damaged.output))
    summary = summarize(store, 5, pairs=PairFilter(status="corrupt_image"))
    assert [(pair.key, pair.noise_prob, pair.status) for pair in summary.shown] == [("b", None, "corrupt_image")]
    assert summary.shown[0].error
    assert all(pair.status == "ok" for pair in summarize(store, 500).shown)
    assert summarize(store, 5, pairs=PairFilter(status="missing_caption")).shown == []


def test_an_unknown_status_is_your_input():
    with pytest.raises(InputError, match=r"Did you mean corrupt_image\?"):
        PairFilter(status="corupt_image")
    with pytest.raises(InputError, match="There are: ok, missing_image"):
        PairFilter(status="xyz")
