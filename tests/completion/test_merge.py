from __future__ import annotations

import pytest

from curate.completion.merge import MARK, known_by_original, merge


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
