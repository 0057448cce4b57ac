"""What a finished run found, small enough to print: counts, pairs worth a look, one pair in full."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import LEARNED, CurateError, InputError
from curate.ranking import ORDERS, BestRows, Order, doubles, unscored_last
from curate.rounds import rounds_of
from curate.run_format import check_format
from curate.schema import ANNOTATION_SCHEMA, Status, annotation_table
from curate.store import RunStore
from curate.where import parse_where

ANNOTATIONS = "annotations"
_FITS_WITH_VERDICTS = ("concepts", "caption")
LABELS = ("clean", "uncertain", "noisy")
HISTOGRAM_BINS = 10
_PAIR_COLUMNS = ["row_id", "key", "shard", "row", "caption", "noise_prob", "label", "status", "error"]
_SUMMARY_COLUMNS = [*_PAIR_COLUMNS, "noise_rank"]


@dataclass(frozen=True)
class PairFilter:
    """Which pairs of a run to look at; without a status and a condition: all.

    Attributes:
        status: those with this status.
        where: those that fulfil this condition, see `curate.where`.

    Raises:
        InputError: there is no such status.
    """

    status: str | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        known = [status.value for status in Status]
        if self.status is not None and self.status not in known:
            close = difflib.get_close_matches(self.status, known, 1)
            hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
            raise InputError(f"--status {self.status}: there is no such status. {hint}")

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return self.status is None and self.where is None

    def of(self, table: pa.Table) -> pa.Table:
        """The rows of annotations that are meant.

        Raises:
            InputError: the condition is not understood, or names a column that is not there.
        """
        if self.status is not None:
            table = table.filter(pc.equal(table.column("status"), self.status))
        return table if self.where is None else table.filter(parse_where(self.where, table.schema))


@dataclass(frozen=True)
class ShownPair:
    """A pair worth a look. What the run does not know of it is None.

    Attributes:
        row_id, key, shard, row: its identity.
        caption: as it came.
        noise_prob, label: of a usable pair.
        status, error: why it is not usable.
    """

    row_id: str
    key: str
    shard: str
    row: int
    caption: str | None
    noise_prob: float | None
    label: str | None
    status: str
    error: str | None


@dataclass(frozen=True)
class Summary:
    """Counts over the annotations of a run, or over those of its pairs that were asked for.

    Attributes:
        run_pairs: pairs of the run.
        pairs: pairs that were asked for; all that follows is about these.
        labels: pairs by label (clean, uncertain, noisy); only usable pairs have one.
        statuses: pairs by status.
        histogram: by label, the pairs by noise_prob in HISTOGRAM_BINS bins of equal width from 0 to 1.
        shard_errors: what in the shards of the run could not become a row.
        order: of the pairs shown.
        shown: pairs worth a look, one for each caption.
        noise: diagnostics of the noise fit (method, separable, noise share...), empty without one.
        verdicts: one sentence for each fit that found too little to learn from.
        refine: what the rounds of refinement did, see `curate.rounds.rounds_of`; empty without them.
    """

    run_pairs: int
    pairs: int
    labels: dict[str, int]
    statuses: dict[str, int]
    histogram: dict[str, list[int]]
    shard_errors: int
    order: Order
    shown: list[ShownPair]
    noise: dict[str, Any] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    refine: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def annotation_files(store: RunStore) -> list[str]:
    """Names of the run's annotation files, in input order.

    Raises:
        InputError: there are none: not a run directory, or a run that did not finish.
        CurateError: a newer version of curate made the run.
    """
    check_format(store)
    names = sorted(n for n in store.list_stamps(ANNOTATIONS) if n.startswith("part-") and n.endswith(".parquet"))
    if not names:
        raise InputError(f"{store.url}: no annotations here. Is it a run directory, and did `curate run` finish?")
    files = [f"{ANNOTATIONS}/{name}" for name in names]
    _check_columns(store, files[0])
    return files


def _check_columns(store: RunStore, file: str) -> None:
    """Raises CurateError if the annotations lack what every version has, or hold it as something else."""
    found = store.read_schema(file)
    for name in ("row_id", "shard", "row", "key", "caption", "status", "noise_prob", "label"):
        expected = ANNOTATION_SCHEMA.field(name).type
        if name not in found.names or found.field(name).type != expected:
            held = found.field(name).type if name in found.names else "nothing"
            raise CurateError(
                f"{store.path(file)}: column {name} must hold {expected}, but holds {held}: these are no annotations. "
                "Delete them and run again."
            )


def annotations_of(
    store: RunStore, columns: Sequence[str], pairs: PairFilter | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """(rows of a part, those of its rows that are asked for), part by part in input order.

    Args:
        store: a run directory.
        columns: of the annotations; one that an older run does not have is null.
        pairs: which; None: all.

    Raises:
        InputError: there are no annotations, or the condition does not fit them.
    """
    wanted = pairs or PairFilter()
    for name in annotation_files(store):
        table = store.read_table(name, None if wanted.where else columns)
        chosen = wanted.of(table)
        yield table.num_rows, annotation_table(chosen).select(columns)


def summarize(store: RunStore, top: int = 5, order: Order = "noisy", pairs: PairFilter | None = None) -> Summary:
    """Read the annotations of a run, one part at a time.

    Args:
        store: a run directory.
        top: most pairs to show.
        order: which pairs to show: the most suspicious, the least, or those with a noise_prob near one half. Pairs
            without a noise_prob come last where `pairs` leaves any out, and are not shown otherwise.
        pairs: which pairs to count and to show; None: all.

    Raises:
        InputError: there are no annotations, or the condition does not fit them.
    """
    labels: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    histogram = {label: np.zeros(HISTOGRAM_BINS, dtype=np.int64) for label in LABELS}
    run_pairs = found = 0
    cost = ORDERS[order] if pairs is None or pairs.takes_all else unscored_last(ORDERS[order])
    best = BestRows(cost, top)
    for rows, table in annotations_of(store, _SUMMARY_COLUMNS, pairs):
        run_pairs += rows
        found += table.num_rows
        labels.update(_counts(table, "label"))
        statuses.update(_counts(table, "status"))
        for label, counts in histogram.items():
            counts += _by_noise_prob(table.filter(pc.equal(table.column("label"), label)))
        best.look_at(table)
    facts = store.read_object("artifacts/noise/artifact.json") or {}
    return Summary(
        run_pairs=run_pairs,
        pairs=found,
        labels={label: labels.get(label, 0) for label in LABELS} if labels else {},
        statuses=dict(statuses.most_common()),
        histogram={label: counts.tolist() for label, counts in histogram.items()} if labels else {},
        shard_errors=store.read_table("shard_errors.parquet", ["shard"]).num_rows,
        order=order,
        shown=[ShownPair(**{name: row[name] for name in _PAIR_COLUMNS}) for row in best.rows],
        noise=facts.get("diagnostics", {}),
        verdicts=verdicts(store),
        refine=rounds_of(store, annotation_files(store)),
    )


def verdicts(store: RunStore) -> list[str]:
    """One sentence for each fit behind a run's annotations that found too little to learn from.

    Raises:
        InputError: there are no annotations.
    """
    used = store.read_facts(annotation_files(store)[0]) or {}
    found = [store.read_object(f"artifacts/{fit}/artifact.json") or {} for fit in _FITS_WITH_VERDICTS]
    pairs = zip(_FITS_WITH_VERDICTS, found, strict=True)
    told = [facts["diagnostics"] for fit, facts in pairs if facts and facts["fingerprint"] == used.get(f"{fit}_fit")]
    return [each["verdict"] for each in told if each.get("verdict", LEARNED) != LEARNED]


def _counts(table: pa.Table, column: str) -> dict[str, int]:
    counted = pc.value_counts(table.column(column).drop_null())
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _by_noise_prob(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    bins = (doubles(table.column("noise_prob")) * HISTOGRAM_BINS).astype(np.int64)
    return np.bincount(np.minimum(bins, HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS)


def check_completed(store: RunStore, asked: str) -> None:
    """Whether the run completes captions.

    Args:
        store: a run directory.
        asked: the option that needs them, for the message.

    Raises:
        InputError: it has no annotations, or no caption stage.
    """
    if "caption_fit" not in (store.read_facts(annotation_files(store)[0]) or {}):
        raise InputError(f"{asked}: this run completed no captions; add the stage caption and run it again")


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
