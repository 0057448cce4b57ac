"""What is printed about a run is what its annotations say."""

import pandas as pd
import pytest

from curate.errors import InputError
from curate.store import RunStore
from curate.summary import find_pairs, summarize


def test_counts_are_those_of_the_annotations(finished):
    table = pd.read_parquet(finished.output / "annotations")
    summary = summarize(RunStore(str(finished.output)))
    assert summary.pairs == len(table)
    assert summary.labels == {label: int((table.label == label).sum()) for label in ("clean", "uncertain", "noisy")}
    assert summary.statuses == {"ok": len(table)}
    assert summary.shard_errors == 0


def test_the_most_suspicious_pairs_have_different_captions(finished):
    table = pd.read_parquet(finished.output / "annotations")
    shown = summarize(RunStore(str(finished.output)), top=7).most_suspicious
    best = table.groupby("caption").noise_prob.max().sort_values(ascending=False)
    assert [pair.noise_prob for pair in shown] == pytest.approx(best[:7].tolist())
    assert len({pair.caption for pair in shown}) == 7


def test_a_pair_is_found_by_key_and_by_row_id(finished):
    store = RunStore(str(finished.output))
    (pair,) = find_pairs(store, "000000042")
    assert find_pairs(store, pair["row_id"]) == [pair]
    with pytest.raises(InputError, match="nobody"):
        find_pairs(store, "nobody")
