from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpora.partial import exchange_words
from curate.corpora.words import alike, find_words, singular

COLOURS = ["red", "green", "blue", "orange"]
THINGS = ["bus", "train", "apple", "dog", "owl", "bench"]
CAPTIONS = [
    f"{article} {colour} {thing} {place}"
    for colour in COLOURS
    for thing in THINGS
    for article in ["An" if colour == "orange" else "A"]
    for place in ["on the street", "at the lake", "inside"]
]


def word_counts(captions: list[str]) -> Counter[str]:
    """Of all words, whatever their case, but the indefinite article."""
    words = (word for caption in captions for word in re.findall(r"\w+", caption.lower()))
    return Counter(word for word in words if word not in ("a", "an"))


def after(captions: list[str], changes: dict) -> list[str]:
    return [changes[i].caption if i in changes else caption for i, caption in enumerate(captions)]


def exchanged(captions: list[str], target: int = 1000, seed: int = 0) -> list[str]:
    return after(captions, exchange_words(captions, target, random.Random(seed)))


def test_every_word_stays_as_frequent_as_it_was():
    changed = exchanged(CAPTIONS, 50)
    assert sum(old != new for old, new in zip(CAPTIONS, changed, strict=True)) == 50
    assert word_counts(changed) == word_counts(CAPTIONS)


def test_one_word_changes_for_one_of_the_partner():
    changes = exchange_words(CAPTIONS, 60, random.Random(3))
    for i, change in changes.items():
        partner = changes[change.partner]
        assert partner.partner == i
        assert (partner.changed_from, partner.changed_to) == (change.changed_to, change.changed_from)
        old, new = CAPTIONS[i].lower().split(), change.caption.lower().split()
        assert [pair for pair in zip(old, new, strict=True) if len(set(pair)) > 1 and "a" not in pair] == [
            (change.changed_from, change.changed_to)
        ]


def test_words_are_of_one_class_and_not_alike():
    classes = {slot.word: slot.word_class for words in find_words(CAPTIONS) for slot in words.slots}
    for change in exchange_words(CAPTIONS, 60, random.Random(1)).values():
        assert classes[change.changed_from] == classes[change.changed_to]
        assert not alike(change.changed_from, change.changed_to)


def test_articles_follow_their_word():
    text = "\n".join(exchanged(CAPTIONS, 70))
    assert not re.findall(r"\bA [aeiou]|\bAn [^aeiou]", text)
    assert "An apple" not in "\n".join(CAPTIONS)
    swapped = exchanged(["an apple on a plate", "a pear lies there"])
    assert swapped == ["a pear on a plate", "an apple lies there"]


def test_capitals_stay_where_they_were():
    assert exchanged(["Dogs sleep here", "HUGE LIONS RUN"]) == ["Lions sleep here", "HUGE DOGS RUN"]


@pytest.mark.parametrize(
    "captions",
    [
        ["a dog sleeps", "two dogs sleep"],  # singular and plural
        ["a dog sleeps", "the dog eats"],  # the same word
        ["a dog sleeps", "a puppy eats"],  # the same animal
        ["a cat and a dog sleep", "a dog eats"],  # the word is there already
        ["a dog on a dog bed", "a cat on a table"],  # what is left would give it away
        ["a red bus", "a metal bench"],  # nothing of one class
        ["gramastar", "Bahrain"],
        [],
        ["a dog sleeps"],
    ],
)
def test_what_cannot_be_exchanged_stays(captions):
    assert exchange_words(captions, 1000, random.Random(0)) == {}


def test_equal_captions_exchange_with_others_only():
    captions = ["two dogs sleep"] * 30 + ["three dogs sleep"] * 10
    changed = exchanged(captions)
    assert Counter(changed) == Counter(captions)
    assert sum(old != new for old, new in zip(captions, changed, strict=True)) == 20


@pytest.mark.parametrize("target", [0, 1, 2, 9, 40])
def test_never_more_than_asked_for_and_all_where_it_can_be(target):
    assert len(exchange_words(CAPTIONS, target, random.Random(0))) == target // 2 * 2


def test_most_captions_can_change():
    assert len(exchange_words(CAPTIONS, 1000, random.Random(0))) > 0.9 * len(CAPTIONS)


def test_a_seed_gives_the_same_captions_another_one_others():
    assert exchanged(CAPTIONS, 40, 5) == exchanged(CAPTIONS, 40, 5)
    assert exchanged(CAPTIONS, 40, 5) != exchanged(CAPTIONS, 40, 6)


def test_numbers_and_colours_change_as_well_as_the_many_objects():
    captions = [f"two {colour} {one} and a {other} on a table" for colour in COLOURS for one in ("dogs", "cats")
                for other in ("fork", "kettle", "lamp")]  # fmt: skip
    captions += [caption.replace("two", "three") for caption in captions]
    words = Counter(c.changed_from for c in exchange_words(captions, 1000, random.Random(0)).values())
    assert words["two"] > 0.15 * words.total()
    assert sum(words[colour] for colour in COLOURS) > 0.15 * words.total()


def test_the_partner_with_the_same_neighbours_is_preferred():
    captions = ["asleep in a bed all day", "asleep in a couch all day", "table on lawn", "chair on lawn"] * 10
    changes = exchange_words(captions, 1000, random.Random(0))
    assert Counter(sorted((c.changed_from, c.changed_to)) == ["bed", "couch"] for c in changes.values()) == {
        True: 20,
        False: 20,
    }
    assert all(captions[i].split()[-1] == captions[change.partner].split()[-1] for i, change in changes.items())


WORDS = st.sampled_from(
    ["a", "an", "A", "the", "two", "TWO", "three", "red", "black", "and", "white", "dog", "dogs", "Dog", "cat",
     "apple", "owl", "bus", "on", "in", "of", "man", "woman", "his", ".", ",", "-", "3", "5", "\n", "é", "İ", "ß"]
)  # fmt: skip
CAPTION = st.lists(WORDS, max_size=9).map(" ".join) | st.text(max_size=15)


@given(st.lists(CAPTION, max_size=25), st.integers(0, 30), st.integers(0, 3))
def test_any_captions_can_be_given(captions, target, seed):
    changes = exchange_words(captions, target, random.Random(seed))
    assert len(changes) <= target
    assert word_counts(after(captions, changes)) == word_counts(captions)
    for i, change in changes.items():
        assert change.caption.strip().casefold() != captions[i].strip().casefold()
        assert changes[change.partner].partner == i
        assert not alike(change.changed_from, change.changed_to)
        rest = {singular(word) for word in re.findall(r"\w+", captions[i].lower())}
        assert singular(change.changed_to) not in rest
