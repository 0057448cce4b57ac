"""Tables of a benchmark: what stands in which row, and that they fit a terminal."""

import io

import pytest
from rich.console import Console

from curate.bench.tables import caption_tables
from curate.cli.shared import print_table

SHARES = ("cosine", "recall_at_1", "recall_at_10", "distinct_ratio", "new_words")
POINTS = ("cider_d", "bleu", "chrf", "length", "captions_per_second")


def record(rate, seed, method, metric, value):
    return {"kind": "random", "rate": rate, "seed": seed, "method": method, "subset": "all",
            "metric": metric, "value": value}  # fmt: skip


@pytest.fixture
def records():
    """Two seeds; with 0.4 exchanged every figure is half of the clean one."""
    made = [{"metric": "environment"}]
    for rate, kept in ((0.0, 1.0), (0.4, 0.5)):
        for seed in range(2):
            made.append(record(rate, seed, "", "images", 250))
            for method in ("default", "consensus", "nearest", "truth"):
                figures = {**dict.fromkeys(SHARES, 0.5 + 0.1 * seed), **dict.fromkeys(POINTS, 50.0 + 10 * seed)}
                if method == "truth":
                    del figures["captions_per_second"]
                made += [record(rate, seed, method, name, value * kept) for name, value in figures.items()]
            made.append(record(rate, seed, "default", "accepted", 0.8 if rate else None))
            made.append(record(rate, seed, "default", "accepted_closer", 0.9 if rate else None))
            made.append(record(rate, seed, "default", "clean_changed", 0.02))
    return made


def test_a_table_a_rate_then_the_policy_then_what_is_kept(records):
    clean, noisy, policy, kept = caption_tables(records, "default")
    assert clean.title == "captions of 250 held-out pictures, clean"
    assert noisy.title == "captions of 250 held-out pictures, 0.4 of the captions exchanged"
    row = dict(zip(clean.heads, clean.rows[0], strict=True))
    assert row["decoder"] == "default"
    assert (row["CIDEr-D"], row["R@10"], row["R@1"], row["per s"]) == ("55.0 ±5.0", ".550 ±.050", ".550", "55")
    assert clean.ours == (True, False, False, False)
    assert policy.rows == (("0", "default", "", "", ".020"), ("0.4", "default", ".800", ".900", ".020"))
    assert [line[:2] for line in kept.rows] == [("0.4", "default"), ("0.4", "consensus"), ("0.4", "nearest")]
    assert {figure for line in kept.rows for figure in line[2:]} == {"0.50"}


def test_without_clean_pairs_nothing_is_said_of_what_is_kept(records):
    tables = caption_tables([r for r in records if r.get("rate") != 0], "default")
    assert [table.heads[0] for table in tables] == ["decoder", "exchanged"]


def test_what_was_measured_when_it_was_ended_is_shown(records):
    (table,) = caption_tables(records[:8], "default")
    assert table.rows[0][0] == "default"
    assert caption_tables(records[:2], "default") == []


def test_they_fit_100_columns_and_nothing_is_cut_where_there_are_fewer(records):
    narrow = Console(file=io.StringIO(), width=40)
    for table in caption_tables(records, "default"):
        print_table(narrow, table)
    lines = narrow.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if "…" in line]
    assert sum(line.strip().endswith("per s") for line in lines) == 2
