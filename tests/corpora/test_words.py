from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpora import word_lists as lists
from curate.corpora.words import Slot, alike, find_words, singular, with_word


def slots(caption: str, *others: str) -> dict[str, str]:
    return {slot.word: slot.word_class for slot in find_words([caption, *others])[0].slots}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red bus on the street", {"red": "colour", "bus": "vehicle", "street": "place"}),
        ("Two dogs play in the snow.", {"two": "number", "dogs": "animal, plural", "snow": "ground"}),
        ("a dog runs", {"dog": "animal"}),
        ("A small wooden table", {"small": "size", "wooden": "material", "table": "furniture"}),
        ("an old man on a bench", {"old": "age of the living", "man": "person", "bench": "furniture"}),
        ("a man rides his horse", {"horse": "animal"}),  # "his" would give the change away
        ("a black man laughs", {"man": "person"}),  # a colour of people is not exchanged
        ("an old house by a lake", {"old": "age", "house": "building", "lake": "place"}),
        ("a cat under 3 umbrellas", {"cat": "animal", "3": "digits", "umbrellas": "bag, plural"}),
        ("jigsaw_red_10", {"red": "colour"}),
        ("LED Square (Black)", {"black": "colour"}),
        ("A plate of apples. A red bus.", {"plate": "tableware", "apples": "food, plural"}),
        ("This is it. A red bus.", {"red": "colour", "bus": "vehicle"}),
    ],
)
def test_words_of_each_class_are_found_where_they_stand_as_such(caption, expected):
    assert slots(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "the dog bed rots",  # describes the bed
        "hot dog eaten hot",
        "eaten by a teddy bear",
        "A black and white photo",
        "going to fish there sometimes",
        "a dog",  # nothing would be left
        "dog dog dog",  # the others would give it away
        "A horse. It is the horse.",
        "channel 3 news",
        "flight 12:30 and 2.5 x 10-4",
        "dog-eared pages, bus-sized",
        "one drawn thing",
        "la vache et le prisonnier",
        "",
        " \n",
        "犬が二匹",
    ],
)
def test_what_would_make_nonsense_is_left_alone(caption):
    assert slots(caption) == {}


def test_a_noun_that_the_corpus_uses_as_one_is_an_object():
    captions = ["A gadget on sale today", "the old gadget lies there", "Gadgets everywhere"]
    assert slots("seen beside a gadget", *captions) == {"gadget": "counted"}
    assert slots("seen beside a gadget") == {}


def test_a_phrase_that_many_captions_repeat_says_no_more_than_once():
    captions = [f"picture {number} made with a gadget" for number in range(20)]
    assert slots("seen beside a gadget, finally") == {}
    assert all(slot.word != "gadget" for words in find_words(captions) for slot in words.slots)


def test_names_are_no_objects():
    captions = ["the Wii in use", "a new Wii works", "played on the Wii"]
    assert all(not words.slots or {slot.word for slot in words.slots} == {"new"} for words in find_words(captions))


def test_verbs_adverbs_and_vague_nouns_are_no_objects():
    captions = ["the parked", "a parked of", "a really", "the really of", "a group of", "the group of"]
    assert all(not words.slots for words in find_words([f"{caption} nonsense" for caption in captions]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog", "dogs"), ("man", "men"), ("grey", "gray"), ("boy", "child"), ("boy", "man"), ("boat", "sailboat"),
        ("bird", "owl"), ("boat", "canoe"), ("big", "huge"), ("buses", "bus"), ("knife", "knives"), ("sofa", "couch"),
    ],
)  # fmt: skip
def test_words_of_which_both_may_be_true_are_alike(one, other):
    assert alike(one, other)
    assert alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("dog", "cat"), ("boy", "girl"), ("two", "three"), ("owl", "duck"), ("big", "small"), ("red", "green")],
)
def test_words_of_which_one_is_wrong_are_not(one, other):
    assert not alike(one, other)
    assert not alike(other, one)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("dogs", "dog"), ("buses", "bus"), ("bus", "bus"), ("glass", "glass"), ("glasses", "glass"), ("men", "man"),
        ("berries", "berry"), ("benches", "bench"), ("boxes", "box"), ("shoes", "shoe"), ("tomatoes", "tomato"),
        ("tennis", "tennis"), ("tie", "tie"), ("ties", "tie"), ("gas", "gas"), ("horses", "horse"),
        ("people", "person"),
    ],
)  # fmt: skip
def test_singulars(plural, one):
    assert singular(plural) == one


def plural_of(noun: str) -> str:
    if noun in lists.IRREGULAR_PLURALS:
        return lists.IRREGULAR_PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) or noun in lists.WITH_OES_IN_PLURAL else f"{noun}s"


def test_every_listed_object_is_known_in_the_plural():
    nouns = lists.PEOPLE.union(*lists.SORTS_OF_OBJECTS.values()) - lists.WORN_IN_PAIRS - {"stairs", "broccoli"}
    assert [noun for noun in sorted(nouns) if singular(plural_of(noun)) != noun] == []


def put(caption: str, word: str, new: str) -> str:
    start = caption.lower().index(word)
    return with_word(caption, Slot(start, start + len(word), word, "", "", ("", "", "")), new)


@pytest.mark.parametrize(
    ("caption", "word", "new", "expected"),
    [
        ("an apple falls", "apple", "dog", "a dog falls"),
        ("A dog falls", "dog", "apple", "An apple falls"),
        ("a  big\tdog", "big", "old", "an  old\tdog"),
        ("the dog and an owl", "dog", "apple", "the apple and an owl"),
        ("Dog and owl", "dog", "apple", "Apple and owl"),
        ("The Old Dog", "dog", "apple", "The Old Apple"),
        ("A DOG BARKS", "dog", "owl", "AN OWL BARKS"),
        ("A cat on a TV.", "tv", "oven", "A cat on an oven."),
        ("a phone rings", "phone", "tv", "a tv rings"),
        ("a round table", "table", "hour", "a round hour"),
        ("a table", "table", "hour", "an hour"),
        ("an owl", "owl", "unicorn", "a unicorn"),
        ("an owl", "owl", "umbrella", "an umbrella"),
        ("pizza owl", "owl", "dog", "pizza dog"),
        ("  dog \n", "dog", "cat", "  cat \n"),
        ("a red_dog", "red", "orange", "an orange_dog"),
    ],
)
def test_the_new_word_fits_in(caption, word, new, expected):
    assert put(caption, word, new) == expected


def test_lists_do_not_contradict_each_other():
    sorts = list(lists.SORTS_OF_OBJECTS.values())
    assert sum(map(len, sorts)) == len(frozenset().union(*sorts))
    assert not lists.PEOPLE & frozenset().union(*sorts)
    everything = (
        lists.COLOURS | lists.SIZES | lists.EXTENTS | lists.MATERIALS | lists.NUMBERS | frozenset().union(*sorts)
    )
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in everything)
    assert not everything & lists.SMALL_WORDS


@pytest.mark.parametrize("words", [lists.SIZES, lists.COLOURS, lists.MATERIALS, *lists.SORTS_OF_OBJECTS.values()])
def test_every_class_holds_words_that_can_be_exchanged(words):
    assert all(any(not alike(word, other) for other in words) for word in words)


@given(st.lists(st.text(alphabet="aA nbdogscat.-_'’ßİ\n2", max_size=30), max_size=6))
def test_slots_are_words_of_their_caption(captions):
    for caption, words in zip(captions, find_words(captions), strict=True):
        for slot in words.slots:
            assert caption[slot.start : slot.end].lower() == slot.word
            assert singular(slot.word) in words.singulars
