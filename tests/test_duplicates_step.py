"""Pairs that occur twice, and pictures that do, over all parts of a run."""

import random

import pandas as pd
import pytest

from tests.conftest import Pipeline
from tests.corpus import draw, make_pairs, write_shard
from tests.test_fits_from import files_of

PAIRS = make_pairs(120, seed=4)
# A caption that no drawn pair has, so that only what is planted here can be a duplicate of it.
PAIR, OTHER_CAPTION = (PAIRS[5][0], "planted"), "another planted caption"


def members_of(pairs, prefix):
    return [
        (f"{prefix}{number}.{extension}", data)
        for number, (image, caption) in enumerate(pairs)
        for extension, data in (("png", image), ("txt", caption.encode()))
    ]


@pytest.fixture
def corpus(tmp_path, tiny_encoder):
    """Two shards: `a` with the planted pair once, `b` with it again, and its picture with other captions."""
    shards = tmp_path / "shards"
    write_shard(shards / "a.tar", members_of([*PAIRS[:60], PAIR], "a"))
    extra = [PAIR, (PAIR[0], OTHER_CAPTION), PAIR, (PAIR[0], " ")]
    write_shard(shards / "b.tar", members_of([*PAIRS[60:], *extra, (b"no picture", "planted")], "b"))
    return Pipeline(shards, tmp_path / "run", tiny_encoder)


def marks(pipeline):
    return pd.read_parquet(pipeline.output / "annotations").set_index("key")


def test_a_pair_that_occurs_again_names_the_first_in_input_order(corpus):
    corpus.run()
    table = marks(corpus)
    assert pd.isna(table.duplicate_of["a60"])
    assert table.duplicate_of[["b60", "b62"]].tolist() == ["a.tar:60"] * 2
    assert pd.isna(table.duplicate_of["b61"])


def test_the_same_picture_shares_a_cluster_whatever_its_caption(corpus):
    corpus.run()
    table = marks(corpus)
    (cluster,) = set(table.near_duplicate_cluster[["a5", "a60", "b60", "b61", "b62"]])
    assert len(bytes.fromhex(cluster)) == 8
    counts = table.near_duplicate_cluster.value_counts()
    assert (counts > 1).all()


def test_marks_are_those_of_a_plain_search(corpus):
    corpus.run()
    table = marks(corpus)
    first = {}
    for row in table[table.status == "ok"].itertuples():
        leader = first.setdefault((row.image_sha256, row.caption), row.row_id)
        assert (None if pd.isna(row.duplicate_of) else row.duplicate_of) == (None if leader == row.row_id else leader)


def test_unusable_pairs_are_not_marked(corpus):
    corpus.run()
    unusable = marks(corpus).loc[["b63", "b64"]]
    assert unusable.status.tolist() == ["empty_caption", "corrupt_image"]
    assert unusable[["duplicate_of", "near_duplicate_cluster"]].isna().all(axis=None)


def test_a_second_run_marks_nothing_again(corpus):
    corpus.run()
    before = files_of(corpus.output / "duplicates")
    heard = corpus.run()
    assert "duplicates" not in {report.name for report in heard.steps}
    assert files_of(corpus.output / "duplicates") == before


def test_an_added_input_is_compared_with_all(corpus):
    corpus.run()
    fresh = (draw("red", "circle", random.Random(99)), "new")
    write_shard(corpus.output.parent / "shards" / "c.tar", members_of([PAIR, fresh, fresh], "c"))
    heard = corpus.run()
    assert next(report.rows for report in heard.steps if report.name == "duplicates") == 60 + 1 + 60 + 3 + 3
    table = marks(corpus)
    assert table.duplicate_of["c0"] == "a.tar:60"
    assert table.duplicate_of["c2"] == "c.tar:1"


def test_a_lost_column_file_is_made_again_with_the_same_bytes(corpus):
    corpus.run()
    contents = corpus.contents()
    (corpus.output / "duplicates" / "part-00000001.parquet").unlink()
    assert corpus.run().parts == []
    assert corpus.contents() == contents


def test_the_part_size_changes_no_mark(corpus, tmp_path):
    corpus.run()
    whole = Pipeline(tmp_path, tmp_path / "whole", corpus.raw["encoder"])
    whole.raw["input"] = {**corpus.raw["input"], "part_rows": 1000}
    whole.run()
    names = ["duplicate_of", "near_duplicate_cluster"]
    pd.testing.assert_frame_equal(marks(corpus)[names], marks(whole)[names])
