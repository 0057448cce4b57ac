"""What the original caption knows and what it misses: names, places and numbers are kept, the rest is added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from curate.models.words import GLUE, is_word, tokens_of

MARK = " | "
"""Stands between what the original said and what was added."""
BELIEVED_SOURCES = ("synthetic", "merged")
"""Where a completed caption comes from when what was written was believed."""
# Words that say nothing by themselves (English, and what a wrong guess about another language can't hurt).
_LITTLE = frozenset(
    re.findall(
        r"\w+",
        "a an the and or of on in at to by with for from is are was be as it its this that these those his her their",
    )
)
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True)
class Merged:
    """A caption of two sources.

    Attributes:
        caption: original, MARK, what was added; the original alone where nothing was missing.
        kept: names and numbers of the original that the synthetic caption does not have, in order.
        added: words of the synthetic caption that the original does not have, in order.
    """

    caption: str
    kept: tuple[str, ...]
    added: tuple[str, ...]


def known_by_original(original: str) -> tuple[str, ...]:
    """What only somebody who was there knows: numbers, and words that are written with a capital inside a caption.

    A caption whose words all begin with a capital, and that has no number, tells no names: it is a title.
    """
    words = [token.strip(GLUE) for token in tokens_of(original) if is_word(token)]
    titled = all(word[:1].isupper() or not word[:1].isalpha() for word in words[1:])
    no_names = titled and len(words) > 2 and not any(_NUMBER.search(word) for word in words)
    return tuple(
        word
        for place, word in enumerate(words)
        if _NUMBER.search(word) or (place and word[:1].isupper() and not no_names)
    )


def merge(original: str, synthetic: str) -> Merged:
    """The original, then the synthetic caption where it says something more.

    The original stands unchanged, so that names, places and numbers are never lost; MARK tells a trainer or a reader
    where the synthetic part begins. Where every word of the synthetic caption is in the original, nothing is added.
    """
    said = _said(original)
    new = {token.strip(GLUE).casefold(): None for token in tokens_of(synthetic) if is_word(token)}
    added = tuple(word for word in new if word not in said and word not in _LITTLE)
    kept = tuple(word for word in known_by_original(original) if word.casefold() not in new)
    if not original.strip():
        return Merged(synthetic, (), added)
    return Merged(f"{original.rstrip()}{MARK}{synthetic}" if added else original, kept, added)


def _said(caption: str) -> frozenset[str]:
    return frozenset(token.strip(GLUE).casefold() for token in tokens_of(caption))


@dataclass(frozen=True)
class Piece:
    """A stretch of a caption; `added`: its words are not in the original."""

    text: str
    added: bool


def pieces(original: str, caption: str) -> tuple[Piece, ...]:
    """A completed caption cut where words of its own begin and end, so that what was added can be marked.

    The texts of the pieces joined are the caption. Words that say nothing by themselves, and marks, are not marked.
    """
    said = _said(original)
    cut: list[Piece] = []
    for chunk in re.split(r"(\s+)", caption):
        for token in tokens_of(chunk) or [chunk]:
            text = token.strip(GLUE)
            word = text.casefold()
            cut.append(Piece(text, is_word(text) and word not in said and word not in _LITTLE))
    return tuple(_joined_neighbours(cut))


def _joined_neighbours(cut: list[Piece]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece; white space between two added words is added too."""
    for place, piece in enumerate(cut[1:-1], start=1):
        if piece.text.isspace() and cut[place - 1].added and cut[place + 1].added:
            cut[place] = Piece(piece.text, True)
    for added, group in groupby(cut, key=lambda piece: piece.added):
        if text := "".join(piece.text for piece in group):
            yield Piece(text, added)
