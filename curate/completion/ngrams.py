"""How alike captions are by the words they share, runs of one to four at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curate.models.words import GLUE, is_word, tokens_of
from curate.noise.similarity import Floats

LONGEST = 4
_SIGMA = 6.0
"""Standard deviation of the Gaussian that punishes unequal lengths, in words."""
Ngram = tuple[str, ...]


@dataclass(frozen=True)
class NgramLikeness:
    """CIDEr-D (Vedantam et al., CVPR 2015, equations 1 to 4 and section 7) of captions with each other, in [0, 1].

    Attributes:
        occurs: in how many different captions each run of 1 to 4 words occurs.
        captions: how many different captions there were.
    """

    occurs: Counter[Ngram]
    captions: int

    def __call__(self, captions: Sequence[str]) -> Floats:
        """Row i, column j: how alike caption i is to caption j as its reference; float32 [n, n]. O(n^2 words)."""
        said = [_ngrams(caption) for caption in captions]
        lengths = np.array([sum(count for gram, count in grams.items() if len(gram) == 1) for grams in said])
        likeness = sum(self._likeness(said, n) for n in range(1, LONGEST + 1))
        penalty = np.exp(-((lengths[:, None] - lengths) ** 2) / (2 * _SIGMA**2))
        alike: Floats = (penalty * likeness / LONGEST).astype(np.float32)
        return alike

    def _likeness(self, said: Sequence[Counter[Ngram]], n: int) -> Floats:
        place: dict[Ngram, int] = {}
        for grams in said:
            for gram in grams:
                if len(gram) == n:
                    place.setdefault(gram, len(place))
        weights = np.zeros((len(said), len(place)))
        for row, grams in enumerate(said):
            for gram, count in grams.items():
                if len(gram) == n:
                    weights[row, place[gram]] = count * np.log(self.captions / max(self.occurs[gram], 1))
        norm = np.maximum(np.sqrt((weights**2).sum(axis=1)), 1e-12)
        shared = (np.minimum(weights[:, None], weights) * weights).sum(axis=2)
        alike: Floats = shared / (norm[:, None] * norm)
        return alike


def fit_ngrams(captions: Iterable[str]) -> NgramLikeness:
    """Count in how many different captions each run of words occurs."""
    different = set(captions)
    return NgramLikeness(Counter(gram for caption in different for gram in _ngrams(caption)), len(different))


def _ngrams(caption: str) -> Counter[Ngram]:
    words = [token.strip(GLUE).casefold() for token in tokens_of(caption) if is_word(token)]
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST + 1) for start in range(len(words) - n + 1)
    )
