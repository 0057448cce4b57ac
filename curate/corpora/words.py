"""Which words of a caption can be exchanged for another of the same class, so that it says something nearly right.

Classes come from closed lists (numbers, colours, attributes, common objects) and from the captions themselves: a word
that captions use as the noun of "a ..." or "the old ..." is an object too, if of no known sort. A word is left alone
where it does not stand as its class stands: "dog" in "a dog bed", "white" in "black and white", "man" beside "his".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

from curate.corpora import word_lists as lists

_MIN_SURROUNDINGS = 2
_MIN_OBJECT_LETTERS = 3
_MAX_DIGITS = 3
_REMEMBERED = 1 << 16
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"\W?[.!?]\W?\s")
_ADJECTIVE_ENDINGS = ("able", "ful", "ious", "less", "ous")
_ES_ENDINGS = ("sses", "shes", "ches", "xes", "zzes")
_ABSTRACT_ENDINGS = ("ance", "ence", "ism", "ity", "ness", "sion", "tion")


@dataclass(frozen=True)
class Slot:
    """A word of a caption that can be exchanged.

    Attributes:
        start, end: where it stands in the caption.
        word: in lower case.
        word_class: it is exchanged within its class only.
        family: number, colour, attribute, object (of a listed sort), or other object.
        frame: the two words before and the one after; "" where the caption or a phrase begins or ends.
    """

    start: int
    end: int
    word: str
    word_class: str
    family: str
    frame: tuple[str, str, str]


@dataclass(frozen=True)
class CaptionWords:
    """What there is to exchange in a caption.

    Attributes:
        slots: its words that can be exchanged, in order, all of one sentence.
        singulars: every word of the caption, nouns in the singular.
    """

    slots: tuple[Slot, ...]
    singulars: frozenset[str]


def find_words(captions: Sequence[str]) -> list[CaptionWords]:
    """The words of every caption that can be exchanged: those of the first sentence that has any.

    A word that comes twice is left alone, as the other one would give the change away. A sentence must say two things,
    so that one is right still. Which nouns count as objects depends on all captions. O(words).
    """
    tokens = {caption: _tokens(caption) for caption in captions}
    nouns = _nouns_of(tokens.values())
    words = {caption: _words_of(some, nouns) for caption, some in tokens.items()}
    return [words[caption] for caption in captions]


def alike(one: str, other: str) -> bool:
    """Whether one word may be true where the other is: dog and dogs, grey and gray, boy and child, boat and canoe."""
    a, b = singular(one), singular(other)
    return (
        a.endswith(b)
        or b.endswith(a)
        or not _synonym_sets(a).isdisjoint(_synonym_sets(b))
        or b in lists.KINDS_OF.get(a, ())
        or a in lists.KINDS_OF.get(b, ())
    )


def with_word(caption: str, slot: Slot, word: str) -> str:
    """The caption with another word in the slot, capitalised like the one that was there, and "a" or "an" to fit."""
    before, old, after = caption[: slot.start], caption[slot.start : slot.end], caption[slot.end :]
    shouted = caption.isupper()
    if article := _ARTICLE.search(before):
        before = before[: article.start()] + _article_for(word, article[1], shouted) + article[2]
    if shouted:
        return before + word.upper() + after
    # TV and UFO are written in capitals for what they are, not for where they stand.
    return before + (word.capitalize() if old[0].isupper() and not old[1:].isupper() else word) + after


@lru_cache(_REMEMBERED)
def singular(word: str) -> str:
    """The singular of a noun by its spelling; a word that is none, or looks like none, as it is."""
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word in lists.SINGULAR_IN_S or not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) <= 3:
        return word
    if word.endswith("ies") and len(word) > 4 and word[:-1] not in lists.NOUNS_IN_IE:
        return word[:-3] + "y"
    if word.endswith(_ES_ENDINGS) or word[:-2] in lists.SINGULAR_IN_S | lists.WITH_OES_IN_PLURAL:
        return word[:-2]
    return word[:-1]


_SINGULARS = {plural: one for one, plural in lists.IRREGULAR_PLURALS.items()}
_SORT_OF_OBJECT = {word: sort for sort, words in lists.SORTS_OF_OBJECTS.items() for word in words}
_ATTRIBUTES = {
    word: name
    for name, words in (
        ("size", lists.SIZES),
        ("extent", lists.EXTENTS),
        ("age", lists.AGES_OF_THINGS),
        ("material", lists.MATERIALS),
        ("shape", lists.SHAPES),
        *((f"condition {min(words)}", words) for words in lists.CONDITIONS),
    )
    for word in words
}
_PEOPLE = lists.PEOPLE | {"person", "couple"}
_LIVING = _PEOPLE | lists.ANIMALS
_CHANGED_ADJECTIVES = frozenset(_ATTRIBUTES) | lists.AGES_OF_THE_LIVING | lists.COLOURS | lists.UNSURE_COLOURS
_ADJECTIVES = _CHANGED_ADJECTIVES | lists.NUMBERS | lists.PLAIN_ADJECTIVES


@lru_cache(_REMEMBERED)
def _synonym_sets(word: str) -> frozenset[int]:
    return frozenset(number for number, words in enumerate(lists.ALIKE) if word in words)


# --- words where they stand ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    """A word and what stands beside it.

    Attributes:
        start, end: where it stands in the caption.
        word: in lower case.
        capital: it begins with a capital letter.
        sentence: number of its sentence.
        earlier, before, after: the words beside it in its phrase; "" where a phrase begins or ends.
        joined: a hyphen or the like ties it to another word.
    """

    start: int
    end: int
    word: str
    capital: bool
    sentence: int
    earlier: str
    before: str
    after: str
    joined: bool

    @property
    def frame(self) -> tuple[str, str, str]:
        return self.earlier, self.before, self.after


def _tokens(caption: str) -> list[_Token]:
    found = list(_WORD.finditer(caption))
    gaps = ["", *(caption[one.end() : other.start()] for one, other in pairwise(found)), ""]
    words = [match.group().lower() for match in found]
    tokens = []
    sentence = 0
    for i, match in enumerate(found):
        sentence += _SENTENCE_END.match(gaps[i]) is not None
        before = words[i - 1] if gaps[i].isspace() else ""
        tokens.append(
            _Token(
                start=match.start(),
                end=match.end(),
                word=words[i],
                capital=match.group()[0].isupper(),
                sentence=sentence,
                earlier=words[i - 2] if before and gaps[i - 1].isspace() else "",
                before=before,
                after=words[i + 1] if gaps[i + 1].isspace() else "",
                joined=_joins(gaps[i]) or _joins(gaps[i + 1]),
            )
        )
    return tokens


def _joins(gap: str) -> bool:
    return bool(gap) and not any(character.isspace() for character in gap)


def _opens_noun(before: str) -> bool:
    """Whether a noun, or an adjective of it, can follow this word and be all there is of its name."""
    return (
        before == ""
        or before in lists.DETERMINERS
        or before in lists.POSSESSIVES
        or before in lists.PREPOSITIONS
        or before in lists.JOINING
        or _is_small_count(before)
        or _is_adjective(before)
    )


def _is_adjective(word: str) -> bool:
    return word in _ADJECTIVES or (word.endswith(_ADJECTIVE_ENDINGS) and len(word) > 5)


def _closes_noun(after: str, plural: bool) -> bool:
    """Whether a noun is complete where this word follows: no other noun does, as "bed" in "dog bed"."""
    if after in lists.NOUNS_IN_ING or after in lists.NOUNS_IN_ED:
        return False
    if after == "" or after in lists.SMALL_WORDS or after in _INFLECTED_VERBS:
        return True
    return plural if after in lists.VERBS else _ends_like_verb(after)


def _ends_like_verb(word: str) -> bool:
    return word.endswith(("ing", "ed")) and len(word) > 4


def _verb_forms(verb: str) -> Iterator[str]:
    stem = verb.removesuffix("e")
    yield from (f"{verb}s", f"{verb}es", f"{stem}ed", f"{stem}ing", f"{verb}{verb[-1]}ed", f"{verb}{verb[-1]}ing")
    if verb.endswith("y"):
        yield from (f"{verb[:-1]}ies", f"{verb[:-1]}ied")


_INFLECTED_VERBS = lists.IRREGULAR_VERB_FORMS | {form for verb in lists.VERBS for form in _verb_forms(verb)}


# --- nouns of the corpus ---------------------------------------------------------------------------------------------


def _nouns_of(captions: Iterable[Sequence[_Token]]) -> Mapping[str, str]:
    """Class of each noun that captions use as an object, by word.

    Only different surroundings count: a phrase that many captions repeat says no more than once. A word that is always
    written with a capital is a name, and no name for another thing of its class.
    """
    surroundings: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    counted: set[str] = set()
    common: set[str] = set()
    for tokens in captions:
        for token in filter(_is_used_as_noun, tokens):
            surroundings[token.word].add(token.frame)
            if _is_counted(token):
                counted.add(token.word)
            if not token.capital:
                common.add(token.word)
    return {
        word: _class_of_noun(word, word in counted)
        for word, frames in surroundings.items()
        if len(frames) >= _MIN_SURROUNDINGS and word in common
    }


def _is_used_as_noun(token: _Token) -> bool:
    opened = token.before in lists.DETERMINERS or token.before in lists.POSSESSIVES or _is_adjective(token.before)
    return (
        opened
        and not token.joined
        and _could_be_noun(token.word)
        and token.after not in lists.HALF_ADJECTIVES
        and _closes_noun(token.after, plural=singular(token.word) != token.word)
    )


def _could_be_noun(word: str) -> bool:
    if not _is_plain(word) or len(word) < _MIN_OBJECT_LETTERS or singular(word) in lists.VAGUE_NOUNS:
        return False
    if word in lists.NOUNS_IN_ING or word in lists.NOUNS_IN_ED:
        return True
    return not (
        word in lists.SMALL_WORDS
        or word in _INFLECTED_VERBS
        or _is_adjective(word)
        or _ends_like_verb(word)
        or word.endswith(("ly", *_ABSTRACT_ENDINGS))
    )


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha()


def _is_counted(token: _Token) -> bool:
    article = token.earlier if _is_adjective(token.before) else token.before
    return article in ("a", "an")


def _class_of_noun(word: str, counted: bool) -> str:
    """Sorts are not known, but "a snow" and "two sand" would give the change away."""
    if counted:
        return "counted"
    return "counted, plural" if singular(word) != word else "not counted"


# --- the words of a caption that can be exchanged --------------------------------------------------------------------


def _words_of(tokens: Sequence[_Token], nouns: Mapping[str, str]) -> CaptionWords:
    times = Counter(singular(token.word) for token in tokens)
    once = {word for word, count in times.items() if count == 1}
    gendered = any(token.word in lists.GENDERED for token in tokens)
    slots: tuple[Slot, ...] = ()
    for _, sentence in groupby(tokens, key=lambda token: token.sentence):
        slots = slots or tuple(_slots_of(list(sentence), nouns, once, gendered))
    return CaptionWords(slots, frozenset(times))


def _slots_of(sentence: Sequence[_Token], nouns: Mapping[str, str], once: Set[str], gendered: bool) -> Iterator[Slot]:
    if len({token.word for token in sentence if _says_something(token.word)}) < 2:
        return
    for token in sentence:
        if singular(token.word) not in once or _in_fixed_pair(token):
            continue
        found = _colour(token) or _class_when_free(token, nouns, gendered)
        if found is not None:
            family, word_class = found
            yield Slot(token.start, token.end, token.word, word_class, family, token.frame)


def _says_something(word: str) -> bool:
    return _is_plain(word) and word not in lists.SMALL_WORDS


def _class_when_free(token: _Token, nouns: Mapping[str, str], gendered: bool) -> tuple[str, str] | None:
    if token.joined or not _opens_noun(token.before):
        return None
    return _number(token) or _attribute(token) or _object(token, nouns, gendered)


def _in_fixed_pair(token: _Token) -> bool:
    return not lists.FIXED_PAIRS.isdisjoint((f"{token.before}_{token.word}", f"{token.word}_{token.after}"))


def _colour(token: _Token) -> tuple[str, str] | None:
    """Colours are known wherever they stand, also in arrow_red_10, but for people's and for "black and white"."""
    sure = token.word in lists.COLOURS
    unsure = token.word in lists.UNSURE_COLOURS and _opens_noun(token.before) and _describes(token)
    if not (sure or unsure) or singular(token.after) in _PEOPLE:
        return None
    if token.word in ("black", "white") and "and" in (token.before, token.after):
        return None
    return "colour", "colour"


def _describes(token: _Token) -> bool:
    """Whether it stands before a noun."""
    return token.after != "" and not token.joined and not _closes_noun(token.after, plural=False)


def _number(token: _Token) -> tuple[str, str] | None:
    if token.word in lists.NUMBERS and _describes(token):
        return "number", "number"
    # Before anything but a plural, digits name more often than they count: channel 3, a 9 volt battery.
    counts = _is_small_count(token.word) and token.after != singular(token.after)
    return ("number", "digits") if counts else None


def _is_small_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS and word[0] != "0" and word != "1"


def _attribute(token: _Token) -> tuple[str, str] | None:
    if not _describes(token):
        return None
    if singular(token.after) in _LIVING:
        if token.word in lists.AGES_OF_THE_LIVING:
            return "attribute", "age of the living"
        return ("attribute", "size") if token.word in lists.SIZES else None
    name = _ATTRIBUTES.get(token.word)
    return None if name is None else ("attribute", name)


def _object(token: _Token, nouns: Mapping[str, str], gendered: bool) -> tuple[str, str] | None:
    """Sorts from the lists keep singular and plural apart; a list goes before what the corpus seems to say."""
    one = singular(token.word)
    plural = one != token.word
    if not _closes_noun(token.after, plural):
        return None
    if one in lists.PEOPLE:
        return None if gendered else ("object", _numbered("person", plural))
    if token.word in lists.SAME_IN_PLURAL:
        return None
    sort = _SORT_OF_OBJECT.get(token.word) or _SORT_OF_OBJECT.get(one)
    if sort is not None:
        return "object", _numbered(sort, plural)
    found = nouns.get(token.word)
    return None if found is None else ("other object", found)


def _numbered(sort: str, plural: bool) -> str:
    return f"{sort}, plural" if plural else sort


# --- putting another word in -----------------------------------------------------------------------------------------

_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_CONSONANT_SOUND = re.compile(r"uni|use|usu|uten|euro|ewe|once|one$|u[bcfhjkqrst][aeiou]")
_VOWEL_SOUND = re.compile(r"[aeiou8]|hour|honest|honou?r|heir|1[18]$")


def _article_for(word: str, written: str, shouted: bool) -> str:
    article = "an" if _VOWEL_SOUND.match(word) and not _CONSONANT_SOUND.match(word) else "a"
    if shouted:
        return article.upper()
    return article.capitalize() if written[0].isupper() else article
