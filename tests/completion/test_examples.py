"""Completions to read: an even sample of the pictures that got a synthetic caption, as the annotations have them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.completion.examples import completion_examples
from curate.errors import InputError
from curate.schema import ANNOTATION_SCHEMA
from curate.store import RunStore, part_file
from curate.summary import PairFilter


def write_part(store, number, rows, facts):
    store.write_table(part_file("annotations", number), pa.Table.from_pylist(rows, ANNOTATION_SCHEMA), facts)


def pair(row, synthetic=None, source="original", **more):
    caption = more.pop("caption", "a dog in Paris")
    return {
        "row_id": f"a.tar:{row}",
        "key": f"{row:03d}",
        "shard": "a.tar",
        "row": row,
        "caption": caption,
        "status": "ok",
        "noise_prob": row / 100,
        "noise_rank": row / 100,
        "label": "noisy",
        "duplicate_key": False,
        "concepts": [{"name": "cat", "score": 2.0}, {"name": "sofa", "score": 1.0}],
        "synthetic_caption": synthetic,
        "synthetic_score": None if synthetic is None else 3.0,
        "completed_caption": synthetic if source == "synthetic" else caption,
        "caption_source": source,
        **more,
    }


@pytest.fixture
def store(tmp_path):
    """Every second of 100 pairs got a synthetic caption, the first ten of these were not believed."""
    store = RunStore(str(tmp_path))
    rows = [
        pair(row, *(["a cat on a sofa", "original" if row < 20 else "synthetic"] if row % 2 else []))
        for row in range(100)
    ]
    write_part(store, 0, rows[:30], {"caption_fit": "x"})
    write_part(store, 1, rows[30:], {"caption_fit": "x"})
    return store


def test_an_even_sample_of_what_was_written_and_what_became_of_it(store):
    found = completion_examples(store, 20)
    assert found.sources == {"synthetic": 40, "original": 10}
    rows = [example.row for example in found.shown]
    assert len(set(rows)) == 20
    assert all(row % 2 for row in rows)
    assert min(rows) < 30 < 70 < max(rows)
    assert [example.row for example in completion_examples(store, 5).shown] == rows[:5]
    assert [example.row for example in completion_examples(store, 5, seed=1).shown] != rows[:5]


def test_an_example_says_what_the_annotations_say(store):
    (example,) = completion_examples(store, 5, PairFilter(where="row == 55")).shown
    assert (example.key, example.caption, example.synthetic_score) == ("055", "a dog in Paris", 3.0)
    assert example.concepts == ("cat", "sofa")
    assert example.believed
    assert [(piece.text, piece.added) for piece in example.pieces] == [
        ("a ", False),
        ("cat", True),
        (" on a ", False),
        ("sofa", True),
    ]


def test_what_was_not_believed_is_shown_as_it_was_written(store):
    (example,) = completion_examples(store, 5, PairFilter(where="row == 3")).shown
    assert not example.believed
    assert example.completed_caption == "a dog in Paris"
    assert "".join(piece.text for piece in example.pieces) == "a cat on a sofa"


def test_an_order_and_a_filter(store):
    rows = [example.row for example in completion_examples(store, 3, order="noisy").shown]
    assert rows == [99, 97, 95]
    rows = [example.row for example in completion_examples(store, 3, PairFilter(where="row < 50"), "clean").shown]
    assert rows == [1, 3, 5]


def test_a_picture_without_a_caption_is_completed_too(tmp_path):
    store = RunStore(str(tmp_path))
    blank = {"caption": None, "noise_prob": None, "noise_rank": None, "label": None, "status": "missing_caption"}
    write_part(store, 0, [pair(1, "a cat", "synthetic", **blank)], {"caption_fit": "x"})
    (example,) = completion_examples(store, 3, order="noisy").shown
    assert (example.caption, example.noise_prob) == (None, None)
    assert [piece.added for piece in example.pieces] == [False, True]


def test_a_picture_that_still_has_no_caption_is_not_believed(tmp_path):
    store = RunStore(str(tmp_path))
    blank = {"caption": None, "status": "missing_caption"}
    write_part(store, 0, [pair(1, "a cat", None, **blank)], {"caption_fit": "x"})
    found = completion_examples(store, 3)
    assert found.sources == {"none": 1}
    assert not found.shown[0].believed
    assert [piece.text for piece in found.shown[0].pieces] == ["a ", "cat"]


def test_a_run_without_the_stage_is_your_input(tmp_path):
    store = RunStore(str(tmp_path))
    write_part(store, 0, [pair(1)], {})
    with pytest.raises(InputError, match="--completions: this run completed no captions; add the stage caption"):
        completion_examples(store, 3)
