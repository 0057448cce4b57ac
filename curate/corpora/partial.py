"""Captions that are nearly right: words of one class exchanged between two captions.

An exchange keeps every word as often as the corpus had it, so neither rare nor frequent words tell which captions were
changed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curate.corpora.tar_writer import Progress, ignore_progress
from curate.corpora.words import CaptionWords, Slot, alike, find_words, singular, with_word

_CANDIDATES = 64
"""Words looked at for each caption; among them the one whose neighbours are most alike is taken."""


@dataclass(frozen=True)
class WordChange:
    """One word of a caption exchanged for one of another caption.

    Attributes:
        partner: position of the caption that the word came from, and that got the other word.
        caption: the new caption.
        changed_from, changed_to: the words, in lower case.
    """

    partner: int
    caption: str
    changed_from: str
    changed_to: str


def exchange_words(
    captions: Sequence[str], target: int, generator: random.Random, progress: Progress = ignore_progress
) -> dict[int, WordChange]:
    """Exchange one number, colour, attribute or object word between pairs of captions.

    Both words are of one class, neither may be true where the other is, and neither is in the other caption already.
    "a" and "an" follow the new word; nothing else changes.

    Args:
        captions: any strings.
        target: at most so many captions change; fewer where too few hold words that can be exchanged.
        generator: chooses captions, words and partners.
        progress: called with (description, done, total); captions.

    Returns:
        The changes by position. O(captions); each looks at 64 others at most.
    """
    words = find_words(captions)
    free = _FreeSlots([some.slots for some in words])
    changes: dict[int, WordChange] = {}
    for done, position in enumerate(generator.sample(range(len(captions)), len(captions))):
        if len(changes) + 2 > target:
            break
        progress("choosing partners", done, len(captions))
        if position in changes:
            continue
        for slot in _in_random_order(words[position].slots, generator):
            found = _best_partner(position, slot, free, words, generator)
            if found is not None:
                partner, other = found
                free.remove(position)
                free.remove(partner)
                changes[position] = _change(captions[position], slot, partner, other)
                changes[partner] = _change(captions[partner], other, position, slot)
                break
    progress("choosing partners", len(captions), len(captions))
    return changes


def _change(caption: str, slot: Slot, partner: int, other: Slot) -> WordChange:
    return WordChange(partner, with_word(caption, slot, other.word), slot.word, other.word)


def _in_random_order(slots: Iterable[Slot], generator: random.Random) -> list[Slot]:
    """One slot of each family in turn: captions have many objects and few numbers."""
    families: dict[str, list[Slot]] = defaultdict(list)
    for slot in slots:
        families[slot.family].append(slot)
    shuffled = [generator.sample(some, len(some)) for some in generator.sample(list(families.values()), len(families))]
    return [some[turn] for turn in range(max(map(len, shuffled), default=0)) for some in shuffled if turn < len(some)]


def _best_partner(
    position: int,
    slot: Slot,
    free: _FreeSlots,
    words: Sequence[CaptionWords],
    generator: random.Random,
) -> tuple[int, Slot] | None:
    allowed = [
        (partner, other)
        for partner, other in free.draw(slot.word_class, generator)
        if partner != position
        and not alike(slot.word, other.word)
        and singular(other.word) not in words[position].singulars
        and singular(slot.word) not in words[partner].singulars
    ]
    # The first of equally good ones was drawn by chance, in proportion to how often its word stands in the corpus.
    return max(allowed, key=lambda candidate: _agreement(slot, candidate[1]), default=None)


def _agreement(one: Slot, other: Slot) -> int:
    return sum(a == b for a, b in zip(one.frame, other.frame, strict=True))


class _FreeSlots:
    """Slots by class, of captions that have not changed yet; drawing and removing take time that no size changes."""

    def __init__(self, slots: Sequence[Sequence[Slot]]) -> None:
        self._by_class: dict[str, list[tuple[int, Slot]]] = defaultdict(list)
        self._places: dict[tuple[int, Slot], int] = {}
        self._slots = slots
        for position, some in enumerate(slots):
            for slot in some:
                entries = self._by_class[slot.word_class]
                self._places[position, slot] = len(entries)
                entries.append((position, slot))

    def draw(self, word_class: str, generator: random.Random) -> list[tuple[int, Slot]]:
        entries = self._by_class[word_class]
        return generator.sample(entries, min(len(entries), _CANDIDATES))

    def remove(self, position: int) -> None:
        for slot in self._slots[position]:
            entries = self._by_class[slot.word_class]
            place, last = self._places.pop((position, slot)), entries.pop()
            if last != (position, slot):
                entries[place] = last
                self._places[last] = place
