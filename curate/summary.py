"""What a finished run found, small enough to print: counts, the most suspicious pairs, one pair in full."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.store import RunStore

ANNOTATIONS = "annotations"
_SUMMARY_COLUMNS = ["key", "caption", "noise_prob", "label", "status", "row_id"]


@dataclass(frozen=True)
class SuspiciousPair:
    """One of the pairs with the highest noise_prob."""

    key: str
    row_id: str
    caption: str
    noise_prob: float


@dataclass(frozen=True)
class Summary:
    """Counts over all annotations of a run.

    Attributes:
        pairs: all pairs.
        labels: pairs by label (clean, uncertain, noisy); only usable pairs have one.
        statuses: pairs by status.
        shard_errors: what in the shards could not become a row.
        most_suspicious: pairs with the highest noise_prob, highest first, one for each caption.
        noise: diagnostics of the noise fit (method, separable, noise share...), empty without one.
        refine: diagnostics of the rounds of refinement, empty without them.
    """

    pairs: int
    labels: dict[str, int]
    statuses: dict[str, int]
    shard_errors: int
    most_suspicious: list[SuspiciousPair]
    noise: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def annotation_files(store: RunStore) -> list[str]:
    """Names of the run's annotation files, in input order.

    Raises:
        InputError: there are none: not a run directory, or a run that did not finish.
    """
    names = sorted(n for n in store.list_stamps(ANNOTATIONS) if n.startswith("part-") and n.endswith(".parquet"))
    if not names:
        raise InputError(f"{store.url}: no annotations here. Is it a run directory, and did `curate run` finish?")
    return [f"{ANNOTATIONS}/{name}" for name in names]


def summarize(store: RunStore, top: int = 5) -> Summary:
    """Read the annotations of a run, one part at a time.

    Raises:
        InputError: there are none.
    """
    labels: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    pairs = 0
    suspicious: list[SuspiciousPair] = []
    for name in annotation_files(store):
        table = store.read_table(name, _SUMMARY_COLUMNS)
        pairs += table.num_rows
        labels.update(_counts(table, "label"))
        statuses.update(_counts(table, "status"))
        suspicious = _most_suspicious(table, suspicious, top)
    errors = store.read_table("shard_errors.parquet", ["shard"]).num_rows
    noise, refine = (store.read_json(f"artifacts/{fit}/artifact.json") or {} for fit in ("noise", "refine"))
    return Summary(
        pairs,
        {label: labels.get(label, 0) for label in ("clean", "uncertain", "noisy")} if labels else {},
        dict(statuses.most_common()),
        errors,
        suspicious,
        noise.get("diagnostics", {}),
        refine.get("diagnostics", {}),
    )


def _counts(table: pa.Table, column: str) -> dict[str, int]:
    counted = pc.value_counts(table.column(column).drop_null())
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _most_suspicious(table: pa.Table, before: list[SuspiciousPair], top: int) -> list[SuspiciousPair]:
    """The best of a part and of the parts before it, one for each caption: wrong a hundred times is one finding."""
    ordered = heapq.merge(before, _by_suspicion(table), key=lambda pair: (-pair.noise_prob, pair.row_id))
    by_caption: dict[str, SuspiciousPair] = {}
    for pair in ordered:
        if len(by_caption) == top:
            break
        by_caption.setdefault(pair.caption, pair)
    return list(by_caption.values())


def _by_suspicion(table: pa.Table) -> Iterator[SuspiciousPair]:
    """Pairs from the highest noise_prob down, made only as far as somebody asks."""
    scored = table.filter(pc.is_valid(table.column("noise_prob"))).select(["key", "row_id", "caption", "noise_prob"])
    order = pc.sort_indices(scored, sort_keys=[("noise_prob", "descending"), ("row_id", "ascending")])
    for position in order.to_numpy():
        (row,) = scored.slice(int(position), 1).to_pylist()
        yield SuspiciousPair(**row)


def find_pairs(store: RunStore, key: str) -> list[dict[str, Any]]:
    """All annotations of the pairs with this key (or row_id).

    Raises:
        InputError: there is no such pair.
    """
    found: list[dict[str, Any]] = []
    for name in annotation_files(store):
        identity = store.read_table(name, ["key", "row_id"])
        hit = pc.or_(pc.equal(identity.column("key"), key), pc.equal(identity.column("row_id"), key))
        if pc.any(hit).as_py():
            found += store.read_table(name).filter(hit).to_pylist()
    if not found:
        raise InputError(f"{store.url}: no pair with key '{key}'")
    return found
