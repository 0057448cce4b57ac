"""Captions before and after completion: how long they are and which words they use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.completion.merge import pieces
from curate.models.words import GLUE, is_word, tokens_of
from curate.ranking import Doubles
from curate.report.findings import Sample


@dataclass(frozen=True)
class CaptionFigures:
    """Of some captions.

    Attributes:
        captions: how many.
        lengths: words of each, float64 [captions].
        words: all words together.
        vocabulary: different words, upper and lower case being the same.
        once: words that occur once.
    """

    captions: int
    lengths: Doubles
    words: int
    vocabulary: int
    once: int

    @property
    def quartiles(self) -> tuple[float, ...]:
        """Least, first quarter, median, third quarter and most words of a caption; NaN without captions."""
        if not self.captions:
            return (float("nan"),) * 5
        return tuple(float(value) for value in np.quantile(self.lengths, [0, 0.25, 0.5, 0.75, 1]))


def caption_figures(captions: Sequence[str]) -> CaptionFigures:
    """Lengths and vocabulary of captions. O(words) time and memory."""
    counted: Counter[str] = Counter()
    lengths = np.empty(len(captions))
    for place, caption in enumerate(captions):
        words = words_of(caption)
        counted.update(words)
        lengths[place] = len(words)
    once = sum(1 for count in counted.values() if count == 1)
    return CaptionFigures(len(captions), lengths, counted.total(), len(counted), once)


def words_of(caption: str) -> list[str]:
    """Words and numbers of a caption in one case, without marks."""
    return [token.strip(GLUE).casefold() for token in tokens_of(caption) if is_word(token)]


def words_added(sample: Sample, most: int) -> list[tuple[str, int]]:
    """The words that completion most often gave to pairs whose own caption does not say them, with their pairs."""
    counted: Counter[str] = Counter()
    if sample.completed is None:
        return []
    for original, completed in zip(sample.captions, sample.completed, strict=True):
        if completed != original:
            added = " ".join(piece.text for piece in pieces(original, completed) if piece.added)
            counted.update(set(words_of(added)))
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most]
