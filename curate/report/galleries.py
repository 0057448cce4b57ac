"""Pairs to look at: by what they are picked, and what becomes of them while the parts of a run go by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.completion.merge import BELIEVED_SOURCES
from curate.ranking import ORDERS, BestRows, Cost, Doubles, doubles
from curate.schema import STATUS_DESCRIPTIONS, Status
from curate.summary import LABELS

RANDOM_COLUMN = "random"
"""A column of even random numbers in [0, 1), float64, which galleries that are samples go by."""

Kind: TypeAlias = Literal["reason", "label", "status"]


@dataclass(frozen=True)
class Gallery:
    """Pairs that are worth a look for one reason.

    Attributes:
        name: short, for links.
        kind: "reason": they answer a question; "label", "status": an even sample of all pairs that have it.
        title, hint: what these pairs are, for a person.
        rows: their annotations, first the most telling.
    """

    name: str
    kind: Kind
    title: str
    hint: str
    rows: tuple[dict[str, Any], ...]


class Galleries:
    """Holds the best pairs of every gallery among all that it looked at, whatever the size of the run.

    Args:
        pairs: most pairs of a gallery that answers a question.
        examples: most pairs of a gallery that shows examples of a label or a status.
    """

    def __init__(self, pairs: int, examples: int) -> None:
        sizes = {"reason": pairs, "label": examples, "status": examples}
        self._gathered = [(gallery, BestRows(cost, sizes[gallery.kind])) for gallery, cost in _all_galleries()]

    def look_at(self, table: pa.Table) -> None:
        """Hold the best of these annotations, which have the column RANDOM_COLUMN, and of those held."""
        for _, best in self._gathered:
            best.look_at(table)

    @property
    def found(self) -> tuple[Gallery, ...]:
        """The galleries that have any pairs."""
        made = (Gallery(g.name, g.kind, g.title, g.hint, tuple(best.rows)) for g, best in self._gathered)
        return tuple(gallery for gallery in made if gallery.rows)


def _all_galleries() -> Iterator[tuple[Gallery, Cost]]:
    reasons = [
        ("noisy", "Most doubtful", "Captions that least seem to belong to their picture.", ORDERS["noisy"]),
        ("boundary", "On the boundary", "noise_prob nearest to one half: look here to judge.", ORDERS["boundary"]),
        ("clean", "Least doubtful", "The best matches of the corpus.", ORDERS["clean"]),
        ("completed", "Completed captions", "Pairs for which trainers get another caption.", _at_random(_completed)),
        ("returned", "Came back", "Pairs that a round of refinement had rejected and a later one trusted again.",
         _at_random(_returned)),
        ("random", "At random", "What the corpus is like.", _at_random(_usable)),
    ]  # fmt: skip
    for name, title, hint, cost in reasons:
        yield Gallery(name, "reason", title, hint, ()), cost
    for label in LABELS:
        yield (
            Gallery(f"label-{label}", "label", label, f"Pairs labelled {label}, at random.", ()),
            _at_random(_equals("label", label)),
        )
    for status in Status:
        if status is not Status.OK:
            hint = f"Pairs that cannot be used: {STATUS_DESCRIPTIONS[status]}."
            yield (
                Gallery(f"status-{status.value}", "status", status.value, hint, ()),
                _at_random(_equals("status", status.value)),
            )


def _at_random(chosen: Callable[[pa.Table], pa.ChunkedArray]) -> Cost:
    """An even sample of the rows for which `chosen` is true."""

    def cost(table: pa.Table) -> Doubles:
        mask = pc.fill_null(chosen(table), fill_value=False).to_numpy()
        return np.where(mask, doubles(table.column(RANDOM_COLUMN)), np.inf)

    return cost


def _equals(column: str, value: str) -> Callable[[pa.Table], pa.ChunkedArray]:
    return lambda table: pc.equal(table.column(column), value)


def _usable(table: pa.Table) -> pa.ChunkedArray:
    return pc.equal(table.column("status"), Status.OK.value)


def _completed(table: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(table.column("caption_source"), pa.array(BELIEVED_SOURCES))


def _returned(table: pa.Table) -> pa.ChunkedArray:
    rejected = pc.is_valid(table.column("rejected_in_round"))
    return pc.and_(rejected, pc.not_equal(table.column("label"), "noisy"))
