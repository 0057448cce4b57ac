from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.completion.merge import MARK, known_by_original, merge, pieces
from curate.models.words import GLUE


def test_the_original_stands_first_and_unchanged():
    merged = merge("IMG_2031 Eiffel Tower, Paris 2004", "a tall iron tower at night")
    assert merged.caption == "IMG_2031 Eiffel Tower, Paris 2004" + MARK + "a tall iron tower at night"
    assert merged.added == ("tall", "iron", "night")
    assert merged.kept == ("IMG_2031", "Eiffel", "Paris", "2004")


def test_nothing_is_added_where_the_original_says_it_all():
    merged = merge("A red ball on the green grass", "the red ball")
    assert merged.caption == "A red ball on the green grass"
    assert merged.added == ()


def test_without_an_original_the_synthetic_caption_stands_alone():
    assert merge("  ", "a red ball").caption == "a red ball"


@pytest.mark.parametrize(
    ("caption", "known"),
    [
        ("A dog in Paris", ("Paris",)),
        ("dog", ()),
        ("A dog at 12:30", ("12:30",)),
        ("HOT DOGS FOR SALE", ()),
        ("Flat Icon Collection", ()),
        ("", ()),
    ],
)
def test_names_and_numbers_are_known_by_the_original(caption: str, known: tuple[str, ...]):
    assert known_by_original(caption) == known


def marked(original: str, caption: str) -> str:
    return "".join(f"+{piece.text}+" if piece.added else piece.text for piece in pieces(original, caption))


@pytest.mark.parametrize(
    ("original", "caption", "expected"),
    [
        ("A Dog in Paris", "the dog, at night, in the snow", "the dog, at +night+, in the +snow+"),
        ("", "two white cats", "+two white cats+"),
        ("a cat", "a cat", "a cat"),
        ("Paris 2004", "Paris 2004 | a (tall) tower", "Paris 2004 | a (+tall+) +tower+"),
        ("a cat", "", ""),
    ],
)
def test_words_that_the_original_does_not_have_are_marked(original: str, caption: str, expected: str):
    assert marked(original, caption) == expected


@settings(deadline=None)
@given(st.text(), st.text())
def test_pieces_joined_are_the_caption(original: str, caption: str):
    caption = caption.replace(GLUE, "")
    cut = pieces(original, caption)
    assert "".join(piece.text for piece in cut) == caption
    assert all(one.added != other.added for one, other in pairwise(cut))
