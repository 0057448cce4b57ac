"""Captions as words: what is a noun, and which form of it stands in a dictionary.

English is tagged and lemmatised by HanTa (Wartena 2019, "A probabilistic morphology model for German lemmatization"),
whose model comes with its package: nothing is fetched at run time. Words of other scripts are no nouns to it; they are
kept as they stand. Captions in other languages of the Latin script are tagged as if they were English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from curate.errors import CurateError

Kind: TypeAlias = Literal["noun", "name", "adjective", "other_script", "other"]
Tokenizer: TypeAlias = "Callable[[str], tuple[Token, ...]]"

MODEL = "morphmodel_en.pgz"
LONGEST_CAPTION = 2000
_LONGEST_WORD = 40
# Vowel signs and accents of their own (Hindi, Arabic, Thai), and what joins letters or keeps them apart (Persian).
_MARKS = "".join(sign for sign in map(chr, range(0x10000)) if unicodedata.category(sign).startswith("M"))
_LETTERS = rf"[^\W\d_]+(?:[{_MARKS}\u200c\u200d]+[^\W\d_]*)*"
# A word, and "don't" and "t-shirt" are one; "fire_hydrant2" is two.
_WORD = re.compile(rf"{_LETTERS}(?:['’-]{_LETTERS})*|\d+|[.,;:!?()\[\]/|\"]")
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_BREAK = "."
_PLURALS = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"))


@dataclass(frozen=True)
class Token:
    """A word of a caption.

    Attributes:
        key: what words are compared by: the lemma of a noun, else the word itself, in lower case. Punctuation and
            numbers, across which no phrase reaches, are ".".
        kind: noun, name (of a person, a place), adjective, other_script for words that are not in Latin
            letters, or other.
    """

    key: str
    kind: Kind


def english_tokenizer() -> Tokenizer:
    """Words of a caption in order, tagged; the same for the same caption, whatever came before.

    Raises:
        CurateError: HanTa is not installed.
    """
    tagger = _tagger()

    def tokens(caption: str) -> tuple[Token, ...]:
        words = split_words(caption)
        return tuple(_token(*each) for each in tagger.tag_sent(words)) if words else ()

    return tokens


@lru_cache(maxsize=1)
def _tagger() -> Any:
    try:
        from HanTa.HanoverTagger import HanoverTagger
    except ImportError:
        raise CurateError(
            "concepts: the tagger that finds nouns is missing, though curate asks for it: pip install hanta"
        ) from None
    return HanoverTagger(MODEL)


def split_words(caption: str) -> list[str]:
    """Words, numbers and punctuation of a caption; camel case is taken apart, and what shouts is calmed down."""
    text = _INNER_CAPITAL.sub(" ", unicodedata.normalize("NFC", caption[:LONGEST_CAPTION]))
    words = [word for word in _WORD.findall(text) if len(word) <= _LONGEST_WORD]
    return [word.lower() if len(word) > 1 and word.isupper() else word for word in words]


def _token(word: str, lemma: str, tag: str) -> Token:
    if not word[0].isalpha():
        return Token(_BREAK, "other")
    if not is_latin(word):
        return Token(word.casefold(), "other_script")
    if tag.startswith("NN"):
        return Token(_singular(word.lower(), lemma.lower()), "noun")
    if tag.startswith("NP"):
        return Token(lemma.lower(), "name")
    return Token(word.lower(), "adjective" if tag.startswith("AJ") else "other")


def _singular(word: str, lemma: str) -> str:
    """The lemma, but for what HanTa gets wrong: leaves, and -es, an ending after sibilants and o only (giraffes)."""
    if lemma == "leave":
        return "leaf"
    if word == f"{lemma}es" and not lemma.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{lemma}e"
    return lemma


def singulars(word: str) -> set[str]:
    """The key of a word, if it stands as it is, and all that it may be a regular plural of; a few are no words."""
    key = word.casefold()
    if not key[0].isalpha():
        return {_BREAK}
    return {key} | {
        key.removesuffix(ending) + instead for ending, instead in _PLURALS if len(key) > 2 and key.endswith(ending)
    }


def is_latin(word: str) -> bool:
    """Whether the word's first letter is of the Latin script."""
    return "LATIN" in unicodedata.name(word[0], "")
