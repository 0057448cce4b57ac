"""Conditions: what they select, and what is said about those that cannot be read."""

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import InputError
from curate.where import parse_where

TABLE = pa.table(
    {
        "noise_prob": pa.array([0.1, 0.4, 0.9, None], pa.float32()),
        "label": ["clean", "uncertain", "noisy", None],
        "caption": ["a", None, "c", "d"],
        "width": [10, 20, 30, 40],
        "signals": pa.array([{"clip": 0.3}, {"clip": None}, {"clip": 0.1}, None], pa.struct([("clip", pa.float32())])),
    }
)


def rows(text):
    return [row - 1 for row in (TABLE.filter(parse_where(text, TABLE.schema))["width"].to_numpy() // 10).tolist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("noise_prob < 0.5", [0, 1]),
        ("noise_prob >= .4", [1, 2]),
        ("0.2 < noise_prob < 0.5", [1]),
        ("noise_prob < 0.5 and label != 'uncertain'", [0]),
        ("label == 'noisy' or width == 40", [2, 3]),
        ("not label == 'noisy'", [0, 1]),
        ("label in ['clean', 'noisy']", [0, 2]),
        ("width not in (10, 20)", [2, 3]),
        ("caption is None", [1]),
        ("caption is not None and noise_prob is None", [3]),
        ("signals.clip > 0.2", [0]),
        ("width > -5 and width <= 10", [0]),
        ("10 == width", [0]),
    ],
)
def test_rows_that_fulfil_it(text, expected):
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("noise_prob <", "not a condition"),
        ("noise_prob = 0.5", "not a condition"),
        ("", "not a condition"),
        ("noise_prb < 0.5", "there is no column 'noise_prb'. Did you mean noise_prob?"),
        ("signals.clp < 0.5", "Did you mean signals.clip?"),
        ("label.x == 1", "There are: none inside it"),
        ("__import__('os').system('true')", "is not understood"),
        ("noise_prob < len('a')", "'len\\('a'\\)' is not understood"),
        ("label in 'clean'", "is not understood"),
        ("label is 'clean'", "is not understood"),
        ("noise_prob + 1 < 2", "is not understood"),
        ("[x for x in label]", "is not understood"),
        ("noise_prob < 1j", "is not understood"),
        ("label < 0.5", "cannot be compared"),
        ("label", "cannot be compared"),
        ("signals == 1", "cannot be compared"),
        ("a" * 20_000, "too many"),
        ("(" * 3_000 + "width" + ")" * 3_000, "not a condition|too deeply"),
        ("not " * 2_000 + "width == 1", "not a condition|too deeply"),
    ],
)
def test_what_cannot_be_read_is_your_input(text, told):
    with pytest.raises(InputError, match=told):
        parse_where(text, TABLE.schema)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_clear_refusal(text):
    with contextlib.suppress(InputError):
        TABLE.filter(parse_where(text, TABLE.schema))
