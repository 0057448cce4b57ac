"""The manifest: which parts the input is cut into, numbered once and for good."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from curate.errors import CurateError
from curate.sources.base import Part, Shard, ShardError, ShardIndex, Source
from curate.store import MANIFEST_FILE, RunStore

ERRORS_FILE = "shard_errors.parquet"
STAMPS_FILE = "_state/sources.json"

Indexer = Callable[[Source, Sequence[Shard]], Iterable[tuple[Shard, ShardIndex]]]

_MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("part", pa.int32(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("checksum", pa.string(), nullable=False),
        pa.field("duplicate_rows", pa.list_(pa.int64()), nullable=False),
    ]
)

_ERRORS_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """The input as parts.

    Attributes:
        parts: part by number, ascending.
        errors: what could not become a row, by shard and offset.
        shards: the shards that the parts come from, by name.
        next_number: number of the next new part; numbers are never given twice.
        downloaded: digest of what was downloaded for each part, None where that is still to do; empty where nothing is
            to be downloaded.
    """

    parts: dict[int, Part]
    errors: tuple[ShardError, ...]
    shards: dict[str, Shard]
    next_number: int
    downloaded: dict[int, str | None] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Pairs in all parts."""
        return sum(part.rows for part in self.parts.values())


@dataclass(frozen=True)
class ManifestChange:
    """How the input differs from the last run's, by names of shards."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()


def update_manifest(
    store: RunStore, source: Source, shards: Sequence[Shard], cutting: str, index: Indexer, limit: int | None = None
) -> tuple[Manifest, ManifestChange]:
    """Bring the run's manifest in step with the input and write it.

    A shard whose stamp is the recorded one is not read again. Parts whose content is unchanged keep their numbers.

    Args:
        store: the run directory.
        source: reads the shards.
        shards: all shards of the input, in order.
        cutting: fingerprint of the options that decide where parts are cut and what they hold; with another one
            the parts are numbered anew.
        index: reads shards; a runner's.
        limit: only the first parts that together hold so many pairs.
    """
    old = _read_old(store, cutting)
    if limit is not None:
        shards, found = _index_up_to(source, shards, old, index, limit)
    else:
        found = _index_changed(source, shards, old, index)
    manifest, change = _number(shards, found, old, limit)
    if old.next_number is None or (manifest.parts, manifest.errors) != (old.parts, old.errors):
        _write_tables(store, manifest, cutting)
    stamps = {name: shard.stamp for name, shard in manifest.shards.items()}
    if stamps != old.stamps:
        store.write_json(STAMPS_FILE, {"cutting": cutting, "shards": stamps})
    return manifest, change


@dataclass(frozen=True)
class _Old:
    parts: dict[int, Part]
    errors: tuple[ShardError, ...]
    stamps: dict[str, str]
    next_number: int | None


def _read_old(store: RunStore, cutting: str) -> _Old:
    facts = store.read_facts(MANIFEST_FILE)
    state = store.read_object(STAMPS_FILE) or {}
    if facts is None or facts.get("cutting") != cutting or not store.exists(ERRORS_FILE):
        return _Old({}, (), {}, None)
    parts = read_parts(store)
    errors = tuple(ShardError(**row) for row in store.read_table(ERRORS_FILE).to_pylist())
    stamps = state.get("shards", {}) if state.get("cutting") == cutting else {}
    return _Old(parts, errors, stamps, facts["next_number"])


def read_parts(store: RunStore) -> dict[int, Part]:
    """The parts of a run by number, as its manifest has them.

    Raises:
        CurateError: there is no manifest, or it cannot be read.
    """
    try:
        return {
            row.pop("part"): Part(**{**row, "duplicate_rows": tuple(row["duplicate_rows"])})
            for row in store.read_table(MANIFEST_FILE).to_pylist()
        }
    except (KeyError, TypeError):
        raise CurateError(
            f"{store.path(MANIFEST_FILE)}: does not hold the parts of a run. Delete it and run again."
        ) from None


def _index_changed(source: Source, shards: Sequence[Shard], old: _Old, index: Indexer) -> dict[str, ShardIndex]:
    by_shard: dict[str, list[Part]] = {}
    for part in old.parts.values():
        by_shard.setdefault(part.shard, []).append(part)
    errors: dict[str, list[ShardError]] = {}
    for error in old.errors:
        errors.setdefault(error.shard, []).append(error)
    found = {
        shard.name: ShardIndex(tuple(by_shard.get(shard.name, ())), tuple(errors.get(shard.name, ())))
        for shard in shards
        if old.stamps.get(shard.name) == shard.stamp
    }
    unread = [shard for shard in shards if shard.name not in found]
    found.update((shard.name, result) for shard, result in index(source, unread))
    return found


def _index_up_to(
    source: Source, shards: Sequence[Shard], old: _Old, index: Indexer, limit: int
) -> tuple[list[Shard], dict[str, ShardIndex]]:
    """Read shards only until they hold `limit` pairs."""
    taken: list[Shard] = []
    found: dict[str, ShardIndex] = {}
    for shard in shards:
        if sum(part.rows for result in found.values() for part in result.parts) >= limit:
            break
        taken.append(shard)
        found.update(_index_changed(source, [shard], old, index))
    return taken, found


def _up_to(parts: Iterable[Part], limit: int) -> Iterator[Part]:
    taken = 0
    for part in parts:
        if taken >= limit:
            return
        yield part
        taken += part.rows


def _number(
    shards: Sequence[Shard], found: dict[str, ShardIndex], old: _Old, limit: int | None
) -> tuple[Manifest, ManifestChange]:
    parts_in_order: Iterable[Part] = [part for shard in shards for part in found[shard.name].parts]
    if limit is not None:
        parts_in_order = list(_up_to(parts_in_order, limit))
    wanted: dict[str, list[Part]] = {shard.name: [] for shard in shards}
    for part in parts_in_order:
        wanted[part.shard].append(part)
    old_numbers: dict[str, list[int]] = {}
    for number, part in old.parts.items():
        old_numbers.setdefault(part.shard, []).append(number)
    numbered: dict[int, Part] = {}
    next_number = old.next_number or 0
    for name, parts in wanted.items():
        numbers = old_numbers.get(name, [])
        fresh = max(0, len(parts) - len(numbers))
        numbers = numbers[: len(parts)] + list(range(next_number, next_number + fresh))
        next_number += fresh
        numbered.update(zip(numbers, parts, strict=True))
    change = ManifestChange(
        added=tuple(name for name in wanted if old.parts and name not in old_numbers and wanted[name]),
        changed=tuple(
            name
            for name, numbers in old_numbers.items()
            if name in wanted and [old.parts[n] for n in numbers] != wanted[name]
        ),
        vanished=tuple(name for name in old_numbers if name not in wanted),
    )
    errors = tuple(error for shard in shards for error in found[shard.name].errors)
    by_name = {shard.name: shard for shard in shards}
    return Manifest(dict(sorted(numbered.items())), errors, by_name, next_number), change


def manifest_table(parts: Mapping[int, Part]) -> pa.Table:
    """Parts by number as the run directory keeps them; `read_parts` reads it."""
    rows = [{"part": number, **dataclasses.asdict(part)} for number, part in parts.items()]
    return pa.Table.from_pylist(rows, _MANIFEST_SCHEMA)


def _write_tables(store: RunStore, manifest: Manifest, cutting: str) -> None:
    errors = [dataclasses.asdict(error) for error in manifest.errors]
    store.write_table(ERRORS_FILE, pa.Table.from_pylist(errors, _ERRORS_SCHEMA), {"cutting": cutting})
    facts = {"cutting": cutting, "next_number": manifest.next_number}
    store.write_table(MANIFEST_FILE, manifest_table(manifest.parts), facts)
