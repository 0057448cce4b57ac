"""The best rows of a run are the same however the run is cut into parts, and no more are held than asked for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ranking import ORDERS, BestRows, at_random, from_boundary, from_noisiest, unscored_last

PAIRS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, None]), st.sampled_from(["a cat", "a dog", "", None])), max_size=30
)


def table_of(pairs):
    ids = [f"s.tar:{place}" for place in range(len(pairs))]
    rank = pa.array([rank for rank, _ in pairs], pa.float32())
    captions = pa.array([caption for _, caption in pairs], pa.string())
    return pa.table(
        {"row_id": pa.array(ids, pa.string()), "caption": captions, "noise_rank": rank, "noise_prob": rank}
    )


def best(cost, size, *tables, **more):
    rows = BestRows(cost, size, **more)
    for table in tables:
        rows.look_at(table)
    return [row["row_id"] for row in rows.rows]


@settings(deadline=None)
@given(PAIRS, st.integers(0, 8), st.integers(0, 30), st.sampled_from(list(ORDERS)), st.booleans())
def test_where_the_parts_are_cut_changes_nothing(pairs, size, cut, order, once):
    table = table_of(pairs)
    for cost in (ORDERS[order], unscored_last(ORDERS[order]), at_random(1)):
        whole = best(cost, size, table, once_per_caption=once)
        parts = best(cost, size, table.slice(0, cut), table.slice(cut), once_per_caption=once)
        assert whole == parts
        assert len(whole) <= size


def test_the_first_of_each_caption_and_no_pair_without_a_score():
    table = table_of([(0.2, "a"), (0.9, "a"), (0.5, "b"), (None, "c"), (0.6, None), (0.7, None)])
    assert best(from_noisiest, 9, table) == ["s.tar:1", "s.tar:5", "s.tar:4", "s.tar:2"]
    assert best(from_boundary, 2, table, once_per_caption=False) == ["s.tar:2", "s.tar:4"]


def test_pairs_without_a_score_can_come_last():
    table = table_of([(None, "a"), (0.1, "b"), (None, "c"), (0.9, "d")])
    found = best(unscored_last(from_noisiest), 9, table)
    assert found[:2] == ["s.tar:3", "s.tar:1"]
    assert set(found[2:]) == {"s.tar:0", "s.tar:2"}


def test_a_sample_is_spread_and_a_longer_one_begins_with_the_shorter():
    table = table_of([(0.5, None)] * 1000)
    twenty, fifty = best(at_random(0), 20, table), best(at_random(0), 50, table)
    assert fifty[:20] == twenty
    rows = np.array([int(row_id.split(":")[1]) for row_id in fifty])
    assert rows.mean() == pytest.approx(500, abs=120)
    assert set(best(at_random(1), 20, table)) != set(twenty)
