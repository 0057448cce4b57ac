"""Captions as whole words and back, so that a decoder can't write a word that no caption holds.

A token is a lower-case word, number, address or mark. Marks that stand without a space at their side say so with the
sign ⁀, so that joining tokens gives the caption its own spacing back. Scripts without spaces are cut into signs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

GLUE = "⁀"
PAD, START, END, UNKNOWN = range(4)
SPECIAL = 4

_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECES = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")
_OPENING, _CLOSING = "([{\"'“‘«¿¡", ")]}\"'”’».,;:!?…"


def tokens_of(caption: str) -> list[str]:
    """Tokens in their own spelling, with GLUE where no space stands between them."""
    tokens: list[str] = []
    for chunk in caption.split():
        parts = [part for piece in _PIECES.findall(chunk) for part in _without_marks(piece)]
        tokens += [
            part if number == 0 or part.startswith(GLUE) else _glued(parts[number - 1], part)
            for number, part in enumerate(parts)
        ]
    return tokens


def _glued(before: str, part: str) -> str:
    return part if before.endswith(GLUE) else GLUE + part


def _without_marks(piece: str) -> list[str]:
    """A run of characters without its marks at both ends: "(dog)." -> "(⁀", "dog", "⁀)", "⁀."."""
    body = piece.lstrip(_OPENING)
    opening = piece[: len(piece) - len(body)]
    core = body.rstrip(_CLOSING)
    if not core:
        return [piece]
    return [mark + GLUE for mark in opening] + [core] + [GLUE + mark for mark in body[len(core) :]]


def joined(tokens: Iterable[str]) -> str:
    """The caption that tokens stand for, with single spaces."""
    return " ".join(tokens).replace(" " + GLUE, "").replace(GLUE + " ", "").replace(GLUE, "")


def is_word(token: str) -> bool:
    """Whether a token says something: it has a letter or a digit."""
    return any(character.isalnum() for character in token)


@dataclass(frozen=True)
class Words:
    """The words that a captioner can read and write.

    Attributes:
        tokens: lower case, most frequent first; token i has id i + SPECIAL.
        spelling: how each is mostly written inside a caption.
        first_spelling: how it is mostly written as the first word; that inside a caption where it never was first.
    """

    tokens: tuple[str, ...]
    spelling: tuple[str, ...]
    first_spelling: tuple[str, ...]

    def __len__(self) -> int:
        return SPECIAL + len(self.tokens)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: SPECIAL + number for number, token in enumerate(self.tokens)}

    def encode(self, caption: str, longest: int | None) -> list[int]:
        """Ids of the first `longest` tokens, None: of all; UNKNOWN for those it does not have."""
        return [self._ids.get(token.lower(), UNKNOWN) for token in tokens_of(caption)[:longest]]

    def decode(self, ids: Sequence[int]) -> str:
        """The caption up to END; special ids are left out."""
        kept: list[int] = []
        for number in ids:
            if number == END:
                break
            if number >= SPECIAL:
                kept.append(number - SPECIAL)
        return joined(self.first_spelling[i] if not place else self.spelling[i] for place, i in enumerate(kept))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"tokens": self.tokens, "spelling": self.spelling, "first_spelling": self.first_spelling}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Words:
        """The words that `to_json` wrote."""
        return cls(tuple(held["tokens"]), tuple(held["spelling"]), tuple(held["first_spelling"]))


def fit_words(captions: Iterable[str], least: int, most: int) -> Words:
    """The words of captions, most frequent first, ties in alphabetical order.

    Args:
        captions: each counts once, however often it occurs.
        least: captions a word must occur in.
        most: words that are kept.
    """
    occurs: Counter[str] = Counter()
    inside: defaultdict[str, Counter[str]] = defaultdict(Counter)
    first: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for caption in sorted(set(captions)):
        spelled = tokens_of(caption)
        occurs.update({token.lower() for token in spelled})
        for place, token in enumerate(spelled):
            (inside if place else first)[token.lower()][token] += 1
    kept = [token for token, count in occurs.items() if count >= least]
    kept = sorted(kept, key=lambda token: (-occurs[token], token))[:most]
    spelling = [_most_common(inside[token] or first[token]) for token in kept]
    first_spelling = [_most_common(first[token] or inside[token]) for token in kept]
    return Words(tuple(kept), tuple(spelling), tuple(first_spelling))


def _most_common(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda spelling: (-spellings[spelling], spelling))
