"""Pairs worth a look: the best rows of a run by some order, held while its parts are read one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.noise.grouping import hash_strings

Doubles = NDArray[np.float64]
Order: TypeAlias = Literal["noisy", "clean", "boundary"]
Cost: TypeAlias = Callable[[pa.Table], Doubles]
"""What a row costs, float64 [n]: the lowest comes first; a row whose cost is not finite has no place in the order."""


def from_noisiest(table: pa.Table) -> Doubles:
    """The highest noise_rank first, costs in [0, 1]."""
    return 1 - _rank(table)


def from_cleanest(table: pa.Table) -> Doubles:
    """The lowest noise_rank first, costs in [0, 1]."""
    return _rank(table)


def _rank(table: pa.Table) -> Doubles:
    """Runs of an older schema have no rank; the order of noise_prob is the same, but for ties."""
    return doubles(pc.coalesce(table.column("noise_rank"), table.column("noise_prob")))


def from_boundary(table: pa.Table) -> Doubles:
    """The noise_prob nearest to one half first, costs in [0, .5]."""
    return np.abs(doubles(table.column("noise_prob")) - 0.5)


ORDERS: dict[Order, Cost] = {"noisy": from_noisiest, "clean": from_cleanest, "boundary": from_boundary}


def at_random(seed: int) -> Cost:
    """An order by a seeded hash of the row's identity, costs in [0, 1]: an even sample, the same on every machine."""

    def cost(table: pa.Table) -> Doubles:
        return hash_strings(table.column("row_id").to_pylist(), seed).astype(np.float64) / 2.0**64

    return cost


def unscored_last(cost: Cost) -> Cost:
    """Rows without a place in an order whose costs are at most 1 come behind all others, an even sample of them."""
    sample = at_random(0)

    def with_the_rest(table: pa.Table) -> Doubles:
        costs = cost(table)
        return np.where(np.isfinite(costs), costs, 2 + sample(table))

    return with_the_rest


class BestRows:
    """The rows of lowest cost among all that were looked at, at most `size`; ties go by row_id.

    Args:
        cost: the order.
        size: most rows to hold.
        once_per_caption: of rows with one caption hold only the first: a caption that is wrong a hundred times is one
            finding. Rows without a caption are all different.
    """

    def __init__(self, cost: Cost, size: int, once_per_caption: bool = True) -> None:
        self._cost, self._size, self._once_per_caption = cost, size, once_per_caption
        self._held: list[tuple[float, str, dict[str, Any]]] = []

    def look_at(self, table: pa.Table) -> None:
        """Hold the best of these rows and those held; the table has `row_id`, `caption` and what the cost needs."""
        cost = self._cost(table)
        if self._size and len(self._held) == self._size:
            # All others cost more than each of those held, whatever their captions: sorting them would be in vain.
            hopeful = np.flatnonzero(cost <= self._held[-1][0])
            if not len(hopeful):
                return
            table, cost = table.take(pa.array(hopeful)), cost[hopeful]
        places = self._best_places(table, cost)
        rows = table.take(pa.array(places, pa.int64())).to_pylist()
        new = [(float(cost[place]), row["row_id"], row) for place, row in zip(places, rows, strict=True)]
        best: dict[str, tuple[float, str, dict[str, Any]]] = {}
        for each in sorted(self._held + new, key=lambda each: each[:2]):
            best.setdefault(self._sameness(each[2]["caption"], each[1]), each)
        self._held = list(best.values())[: self._size]

    def _best_places(self, table: pa.Table, cost: Doubles) -> list[int]:
        captions, ids = table.column("caption").to_pylist(), table.column("row_id").to_pylist()
        found: dict[str, int] = {}
        for place in np.lexsort((np.array(ids), cost)).tolist():
            if len(found) == self._size or not np.isfinite(cost[place]):
                break
            found.setdefault(self._sameness(captions[place], ids[place]), place)
        return list(found.values())

    def _sameness(self, caption: str | None, row_id: str) -> str:
        return caption or row_id if self._once_per_caption else row_id

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is held, the best first, with all columns of the tables."""
        return [row for _, _, row in self._held]


def doubles(column: pa.ChunkedArray) -> Doubles:
    """A column of numbers as float64 [n]; nulls become NaN."""
    values: Doubles = column.to_numpy().astype(np.float64)
    return values
