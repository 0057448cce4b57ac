"""What is said arrives as it was said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from curate.decoding.protocol import Batch, Start, outcomes_from_bytes, outcomes_to_bytes
from curate.stages.decode import DecodeOptions, Outcome
from curate.status import Status

LENGTHS = st.none() | st.integers(0, 2**31 - 1)
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
OUTCOMES = st.builds(Outcome, st.sampled_from(list(Status)), TEXTS, LENGTHS, LENGTHS)
PLACES = st.none() | st.tuples(st.integers(0, 2**40), st.integers(0, 2**40))


@given(st.lists(OUTCOMES))
def test_outcomes(outcomes: list[Outcome]) -> None:
    assert outcomes_from_bytes(outcomes_to_bytes(outcomes)) == outcomes


@given(st.builds(Batch, st.integers(0, 2**40), st.integers(0, 2**40), st.lists(PLACES).map(tuple)))
def test_batches(batch: Batch) -> None:
    assert Batch.from_bytes(batch.to_bytes()) == batch


def test_start() -> None:
    start = Start(DecodeOptions(224, "longest", "bilinear", 5, 255), 0.25, 1 << 40, 4711)
    assert Start.from_bytes(start.to_bytes()) == start


def test_an_error_that_is_no_valid_text_arrives_with_escapes() -> None:
    [outcome] = outcomes_from_bytes(outcomes_to_bytes([Outcome(Status.CORRUPT_IMAGE, "bad \udcff")]))
    assert outcome.error == "bad \\udcff"
