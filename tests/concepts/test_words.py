"""Tagging and lemmas: what the vocabulary rests on."""

import pytest

from curate.concepts.words import english_tokenizer, singulars, split_words

tokens = english_tokenizer()


def keys(caption, *kinds):
    return [token.key for token in tokens(caption) if not kinds or token.kind in kinds]


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("Two dogs are playing with frisbees in the park.", ["dog", "frisbee", "park"]),
        ("men and women on benches", ["man", "woman", "bench"]),
        ("giraffes eating leaves", ["giraffe", "leaf"]),
        ("potatoes in boxes", ["potato", "box"]),
        ("A man riding a wave", ["man", "wave"]),
        ("A RED FOX", ["fox"]),
    ],
)
def test_nouns_are_found_and_stand_in_their_singular(caption, nouns):
    assert keys(caption, "noun") == nouns


def test_what_is_no_noun_keeps_its_form():
    assert keys("three parked cars") == ["three", "parked", "car"]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("arrowRight", ["arrow", "Right"]),
        ("fire_hydrant2", ["fire", "hydrant", "2"]),
        ("a t-shirt, don't", ["a", "t-shirt", ",", "don't"]),
        ("", []),
        (" \n\t ", []),
        ("x" * 1000, []),
    ],
)
def test_captions_are_split_as_people_write_them(caption, words):
    assert split_words(caption) == words


def test_words_of_other_scripts_are_kept_and_marked():
    found = tokens("красный КОТ and 猫 cat")
    assert [(token.key, token.kind) for token in found if token.kind == "other_script"] == [
        ("красный", "other_script"),
        ("кот", "other_script"),
        ("猫", "other_script"),
    ]
    assert keys("красный КОТ and 猫 cat", "noun") == ["cat"]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("बिल्ली चटाई पर है", ["बिल्ली", "चटाई", "पर", "है"]),
        ("قِطَّة على السجادة", ["قِطَّة", "على", "السجادة"]),
        ("کتاب\u200cها روی میز", ["کتاب\u200cها", "روی", "میز"]),
        ("кот, на коврике", ["кот", ",", "на", "коврике"]),
        ("고양이 매트 위", ["고양이", "매트", "위"]),
        ("一只猫在垫子上 cat", ["一只猫在垫子上", "cat"]),
        ("แมวบนเสื่อ", ["แมวบนเสื่อ"]),
        ("cafe\u0301", ["café"]),
    ],
)
def test_signs_that_belong_to_a_letter_do_not_end_a_word(caption, words):
    assert split_words(caption) == words


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("dogs", "dog"), ("boxes", "box"), ("puppies", "puppy"), ("wolves", "wolf"), ("women", "woman"), ("dog", "dog")],
)
def test_a_regular_plural_has_its_key_among_its_singulars(plural, singular):
    assert singular in singulars(plural)
    assert keys(plural) == [singular]


def test_a_caption_is_tagged_alike_whatever_came_before():
    before = tokens("a cat on a mat")
    for caption in ("mat", "on", "zzxxqq blorb"):
        tokens(caption)
    assert tokens("a cat on a mat") == before
