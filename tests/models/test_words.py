from __future__ import annotations

import pytest

from curate.models.words import SPECIAL, UNKNOWN, Words, fit_words, joined, tokens_of

CAPTIONS = ["A dog runs (fast).", "A cat, a Lada.", "my dog", "The Lada at 23:29"]


@pytest.mark.parametrize(
    "caption",
    [
        "A dog runs (fast).",
        "AIGA_Symbol_Signs. EPS from http://aiga.org",
        "Wed 23:29:46 2004",
        "猫の絵 2枚",
        '"Hi," he said...',
        "...",
    ],
)
def test_joined_tokens_are_the_caption(caption: str):
    assert joined(tokens_of(caption)) == caption


def test_ideographs_are_tokens_of_their_own():
    assert tokens_of("猫の絵") == ["猫", "⁀の", "⁀絵"]


def test_words_keep_what_occurs_often_enough_most_frequent_first():
    words = fit_words(CAPTIONS, least=2, most=10)
    assert words.tokens == ("a", "dog", "lada", "⁀.")
    assert fit_words(CAPTIONS, least=2, most=2).tokens == ("a", "dog")


def test_a_caption_counts_once_however_often_it_occurs():
    assert fit_words(["red card"] * 9, least=2, most=10).tokens == ()


def test_words_are_spelled_as_the_corpus_does_at_their_place():
    words = fit_words(CAPTIONS, least=2, most=10)
    a, dog, lada = (SPECIAL + number for number in range(3))
    assert words.decode([a, dog, a, lada]) == "A dog a Lada"
    assert words.decode([dog]) == "dog"


def test_unknown_words_are_read_and_never_written():
    words = fit_words(CAPTIONS, least=2, most=10)
    assert words.encode("A zebra", 10) == [SPECIAL, UNKNOWN]
    assert words.decode([SPECIAL, UNKNOWN]) == "A"


def test_json_round_trip():
    words = fit_words(CAPTIONS, least=1, most=100)
    assert Words.from_json(words.to_json()) == words
