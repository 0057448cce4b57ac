"""Which concepts each of many captions names, as a sparse table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.noise.similarity import Floats

Positions = NDArray[np.int32]


@dataclass(frozen=True)
class MentionTable:
    """Rows of concept numbers (compressed sparse rows).

    Attributes:
        ends: where each row's concepts end in `concept`, int32 [n].
        concept: numbers, ascending within a row, int32 [m].
        concepts: how many there are.
    """

    ends: Positions
    concept: Positions
    concepts: int

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], concepts: int) -> MentionTable:
        """From lists of numbers."""
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64).astype(np.int32)
        flat = [number for row in rows for number in row]
        return cls(ends, np.array(flat, dtype=np.int32), concepts)

    @property
    def counts(self) -> Positions:
        """How many concepts each row names, int32 [n]."""
        return np.diff(self.ends, prepend=np.int32(0))

    @property
    def row(self) -> Positions:
        """The row of every entry of `concept`, int32 [m]."""
        return np.repeat(np.arange(len(self.ends), dtype=np.int32), self.counts)

    def take(self, rows: NDArray[np.intp]) -> MentionTable:
        """Some rows, in the order given."""
        counts = self.counts[rows]
        ends = np.cumsum(counts, dtype=np.int32)
        inside = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
        return MentionTable(ends, self.concept[np.repeat(self.ends[rows] - counts, counts) + inside], self.concepts)

    def first(self, concepts: int) -> MentionTable:
        """The same rows without concepts numbered `concepts` or higher."""
        kept = self.concept < concepts
        ends = np.cumsum(np.bincount(self.row[kept], minlength=len(self.ends)), dtype=np.int32)
        return MentionTable(ends, self.concept[kept], concepts)

    def dense(self, columns: slice) -> Floats:
        """1 where a row names a concept, else 0; float32 [n, columns]."""
        table = np.zeros((len(self.ends), columns.stop - columns.start), dtype=np.float32)
        inside = (self.concept >= columns.start) & (self.concept < columns.stop)
        table[self.row[inside], self.concept[inside] - columns.start] = 1
        return table

    def documents(self, weights: Floats | None = None) -> NDArray[np.float64]:
        """Rows, or their weights, that name each concept; float64 [concepts]."""
        each = None if weights is None else np.repeat(weights.astype(np.float64), self.counts)
        return np.bincount(self.concept, weights=each, minlength=self.concepts).astype(np.float64)
