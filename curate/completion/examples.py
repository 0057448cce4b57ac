"""Completed captions to read: some of a run's, beside what they came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc

from curate.completion.merge import BELIEVED_SOURCES, Piece, pieces
from curate.ranking import ORDERS, BestRows, Order, at_random, unscored_last
from curate.store import RunStore
from curate.summary import PairFilter, annotations_of, check_completed

_EXAMPLE_COLUMNS = [
    "row_id", "key", "shard", "row", "caption", "concepts", "synthetic_caption", "synthetic_score",
    "completed_caption", "caption_source", "noise_prob", "label",
]  # fmt: skip
_COLUMNS = [*_EXAMPLE_COLUMNS, "noise_rank"]


@dataclass(frozen=True)
class CompletionExample:
    """A pair whose picture got a synthetic caption, believed or not.

    Attributes:
        row_id, key, shard, row: its identity.
        caption: the original; None where there is none.
        concepts: names of what the picture shows, the best first.
        synthetic_caption, synthetic_score: what was written, and its agreement with the picture.
        completed_caption, caption_source: what trainers get, and where it comes from; original, or None where
            there is none: not believed.
        noise_prob, label: None where the pair had no caption to judge.
    """

    row_id: str
    key: str
    shard: str
    row: int
    caption: str | None
    concepts: tuple[str, ...]
    synthetic_caption: str
    synthetic_score: float
    completed_caption: str | None
    caption_source: str | None
    noise_prob: float | None
    label: str | None

    @property
    def believed(self) -> bool:
        """Whether trainers get what was written."""
        return self.caption_source in BELIEVED_SOURCES

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The completed caption, or the one that was not believed, with what the original does not say marked."""
        text = self.completed_caption if self.believed else self.synthetic_caption
        return pieces(self.caption or "", text or "")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "pieces": [asdict(piece) for piece in self.pieces]}


@dataclass(frozen=True)
class CompletionExamples:
    """Some completions of a run.

    Attributes:
        sources: all pairs asked for whose picture got a synthetic caption, by caption_source, "none" where
            it was not believed and there is no original either.
        shown: some of them.
    """

    sources: dict[str, int]
    shown: tuple[CompletionExample, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"sources": self.sources, "shown": [example.to_json() for example in self.shown]}


def completion_examples(
    store: RunStore, count: int, pairs: PairFilter | None = None, order: Order | None = None, seed: int = 0
) -> CompletionExamples:
    """Read the annotations of a run, one part at a time.

    Args:
        store: a run directory.
        count: most examples.
        pairs: which pairs; None: all.
        order: the first of this order; None: an even sample of all.
        seed: of the sample; another one, other examples.

    Raises:
        InputError: the run has no annotations or completes no captions, or the condition does not fit.
    """
    check_completed(store, "--completions")
    cost = at_random(seed) if order is None else unscored_last(ORDERS[order])
    best = BestRows(cost, count, once_per_caption=False)
    sources: Counter[str] = Counter()
    for _, table in annotations_of(store, _COLUMNS, pairs):
        written = table.filter(pc.is_valid(table.column("synthetic_caption")))
        sources.update(source or "none" for source in written.column("caption_source").to_pylist())
        best.look_at(written)
    return CompletionExamples(dict(sources.most_common()), tuple(_example(row) for row in best.rows))


def _example(row: dict[str, Any]) -> CompletionExample:
    names = tuple(concept["name"] for concept in row["concepts"] or ())
    return CompletionExample(**{**{name: row[name] for name in _EXAMPLE_COLUMNS}, "concepts": names})
