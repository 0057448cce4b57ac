"""Where a caption may end: only after words that training captions end with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from curate.models.words import END, GLUE, SPECIAL, START, Words, is_word
from curate.noise.similarity import Floats

LEAST = 0.02
"""Smallest share of a word's occurrences at which captions end."""
_WORD_PRIOR, _PAIR_PRIOR = 1.0, 4.0


@dataclass(frozen=True)
class Endings:
    """Which words a caption may end with, given the word before.

    Attributes:
        last: whether it may end after each word, bool [words].
        otherwise: pairs (before * words + word) after which it is the other way round, ascending, int64 [p].
        marks: marks that may end a caption, which follow a word on the same terms as the end itself; int64 [m].
    """

    last: torch.Tensor
    otherwise: torch.Tensor
    marks: torch.Tensor

    @cached_property
    def _closing(self) -> torch.Tensor:
        return torch.cat([torch.tensor([END]), self.marks])

    def after(self, before: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
        """Whether a caption may end after `word`, which `before` precedes (START where none does); bool [n].

        Args:
            before, word: ids, int64 [n].
        """
        pair = before * len(self.last) + word
        place = torch.searchsorted(self.otherwise, pair).clamp_max(max(len(self.otherwise) - 1, 0))
        differs = self.otherwise[place] == pair if len(self.otherwise) else torch.zeros_like(pair, dtype=torch.bool)
        return self.last[word] ^ differs

    def forbid(self, scores: torch.Tensor, before: torch.Tensor, word: torch.Tensor, never: float) -> None:
        """Set the scores [n, words] of the end and of closing marks to `never` where no caption ends."""
        broken = ~self.after(before, word)
        scores[:, self._closing] = scores[:, self._closing].masked_fill(broken.unsqueeze(1), never)

    def cut(self, ids: Sequence[int]) -> list[int]:
        """Ids up to the last word that may end them; all of them where none may."""
        row = torch.tensor([START, *ids])
        possible = self.after(row[:-1], row[1:]).nonzero().flatten()
        return list(ids[: int(possible[-1]) + 1]) if len(possible) else list(ids)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """What `from_tensors` reads."""
        return {"ends.last": self.last.to(torch.uint8), "ends.otherwise": self.otherwise, "ends.marks": self.marks}

    @classmethod
    def from_tensors(cls, held: Mapping[str, torch.Tensor]) -> Endings:
        """The endings that `to_tensors` wrote."""
        return cls(held["ends.last"].bool(), held["ends.otherwise"], held["ends.marks"])


def fit_endings(captions: Sequence[Sequence[int]], weights: Floats, words: Words) -> Endings:
    """Learn where captions end. O(all words).

    A word may end a caption if its share of occurrences that do is at least LEAST, and so may a pair of words. Shares
    of few occurrences lean towards that of all words, those of pairs towards that of their second word (a Dirichlet
    prior at both levels: MacKay & Peto, A hierarchical Dirichlet language model, 1995, section 3).

    Args:
        captions: ids of whole captions, not cut to any length.
        weights: what each caption counts, float32 [n].
        words: what the ids stand for.
    """
    marks = {SPECIAL + i for i, token in enumerate(words.tokens) if token.startswith(GLUE) and not is_word(token)}
    ends = _Counts(frozenset())
    ends.add(captions, weights)
    closing = frozenset(mark for mark in marks if ends.share(mark) >= LEAST)
    closes = _Counts(closing)
    closes.add(captions, weights)
    last = torch.tensor([closes.share(word) >= LEAST for word in range(len(words))])
    otherwise = [
        before * len(words) + word
        for before, word in closes.pairs
        if (closes.pair_share(before, word) >= LEAST) != bool(last[word])
    ]
    return Endings(last, torch.tensor(sorted(otherwise), dtype=torch.int64), torch.tensor(sorted(closing)).long())


class _Counts:
    """How often words and pairs of words occur, and how often the end or a closing mark follows them."""

    def __init__(self, closing: frozenset[int]) -> None:
        self.closing = closing | {END}
        self.words: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.pairs: defaultdict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.all = [0.0, 0.0]

    def add(self, captions: Sequence[Sequence[int]], weights: Floats) -> None:
        for ids, weight in zip(captions, weights.tolist(), strict=True):
            row = [START, *ids, END]
            for before, word, after in zip(row, row[1:], row[2:], strict=False):
                for held in (self.all, self.words[word], self.pairs[before, word]):
                    held[0] += weight
                    held[1] += weight * (after in self.closing)

    def share(self, word: int) -> float:
        occurs, ends = self.words.get(word, (0.0, 0.0))
        overall = self.all[1] / max(self.all[0], 1e-12)
        return (ends + _WORD_PRIOR * overall) / (occurs + _WORD_PRIOR)

    def pair_share(self, before: int, word: int) -> float:
        occurs, ends = self.pairs[before, word]
        return (ends + _PAIR_PRIOR * self.share(word)) / (occurs + _PAIR_PRIOR)
