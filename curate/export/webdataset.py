"""Chosen pairs as WebDataset shards in img2dataset's layout, which open_clip and webdataset read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpora.tar_writer import AddMember, new_tar, write_bytes
from curate.export.drawing import WEIGHT_GROUPS, draw_weights, weight_groups
from curate.export.pictures import extension, pairs_with_pictures
from curate.export.selection import COMPLETED, Selection
from curate.sources.base import Source
from curate.store import RunStore

SIZES_FILE = "sizes.json"
_BYTES_COLUMN = "caption_bytes"
_ALWAYS = ("key", "row_id", "caption")


@dataclass(frozen=True)
class ShardGroup:
    """Shards whose pairs are drawn alike.

    Attributes:
        pattern: their names, `{00000..00003}.tar`: a range in braces as open_clip and webdataset expand it; the name
            where there is one shard.
        sizes: by name, the pairs of each.
        weight: mean of the pairs' draw weights, in [0, 1]; None where pairs were not sorted by them.
    """

    pattern: str
    sizes: dict[str, int]
    weight: float | None


@dataclass(frozen=True)
class ExportedShards:
    """What was written.

    Attributes:
        groups: those that have pairs; one, unless pairs were sorted by their draw weights.
        p_completed: mean of p_use_synthetic over the pairs whose caption was completed; None where there is none or
            the trainer does not get both captions.
    """

    groups: tuple[ShardGroup, ...]
    p_completed: float | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs by name of the shard, as in `sizes.json`."""
        return {name: size for group in self.groups for name, size in group.sizes.items()}


def export_webdataset(
    store: RunStore, source: Source, folder: Path, selection: Selection, pairs_per_shard: int, weighted: bool = False
) -> ExportedShards:
    """Write `00000.tar`, ... and `sizes.json`, which open_clip's trainer reads.

    A pair's members are its picture's bytes as they came, `.txt` with the caption and `.json` with its annotations.
    With both captions, `.txt` has the original, or the completed one where there is no original. Pairs without a
    usable picture or caption are left out: a trainer could do nothing with them. Keys are numbered anew, as
    img2dataset's are; the pair's own key and row_id are in the .json.

    Args:
        store: the run directory.
        source: the run's input as it was.
        folder: exists.
        selection: which pairs, caption and columns (of the .json).
        pairs_per_shard: at most.
        weighted: sort pairs by `draw_weights` into shards `g0-00000.tar`, `g1-00000.tar`, ... for trainers that
            draw shards by weight.

    Raises:
        InputError: the selection does not fit the annotations, or the input is gone.
        CurateError: the input changed since the run.
        OSError: the folder cannot be written.
    """
    mixing = _Mean()
    with ExitStack() as open_shards:
        names = [f"g{number}-" for number in range(WEIGHT_GROUPS)] if weighted else [""]
        groups = [open_shards.enter_context(_Group(folder, name, pairs_per_shard)) for name in names]
        for table, images in pairs_with_pictures(store, source, selection):
            weights = draw_weights(table, selection.caption) if weighted else np.zeros(table.num_rows)
            numbers = weight_groups(weights) if weighted else np.zeros(table.num_rows, dtype=np.int64)
            for number, weight, image, record in zip(
                numbers, weights, images, _records(table, selection), strict=True
            ):
                groups[number].add(image.as_py(), record, float(weight))
            if selection.caption == "both":
                mixing.add(_mixed(table).to_pylist())
    written = ExportedShards(tuple(group.written(weighted) for group in groups if group.sizes), mixing.value)
    write_bytes(folder / SIZES_FILE, (json.dumps(written.sizes, indent=1) + "\n").encode())
    return written


@dataclass
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, values: list[float]) -> None:
        self.total += sum(values)
        self.count += len(values)

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class _Group:
    """Shards of one group, written one after the other: never more than one picture is in memory."""

    def __init__(self, folder: Path, name: str, pairs_per_shard: int) -> None:
        self._folder, self._name, self._pairs_per_shard = folder, name, pairs_per_shard
        self._open = ExitStack()
        self.sizes: dict[str, int] = {}
        self.weight = _Mean()

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, image: bytes, record: dict[str, Any], weight: float) -> None:
        if not self.sizes or self.sizes[self._shard] == self._pairs_per_shard:
            self._start_shard()
        key = f"{self._shard.removesuffix('.tar')}{self.sizes[self._shard]:04d}"
        for suffix, content in _members(image, record):
            self._add_member(f"{key}.{suffix}", content)
        self.sizes[self._shard] += 1
        self.weight.add([weight])

    def written(self, weighted: bool) -> ShardGroup:
        last = len(self.sizes) - 1
        numbers = f"{{00000..{last:05d}}}" if last else "00000"
        return ShardGroup(f"{self._name}{numbers}.tar", self.sizes, self.weight.value if weighted else None)

    def _start_shard(self) -> None:
        self._open.close()
        self._shard = f"{self._name}{len(self.sizes):05d}.tar"
        self._add_member: AddMember = self._open.enter_context(new_tar(self._folder / self._shard))
        self.sizes[self._shard] = 0


def _members(image: bytes, record: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield extension(image), image
    yield "txt", _text(record).encode()
    yield "json", json.dumps(record, ensure_ascii=False).encode()


def _text(record: dict[str, Any]) -> str:
    caption = record["caption"]
    return str(caption if caption is not None and caption.strip() else record[COMPLETED])


def _records(table: pa.Table, selection: Selection) -> list[dict[str, Any]]:
    kept = selection.chosen_columns(table, _ALWAYS)
    kept = kept.drop_columns([_BYTES_COLUMN]) if _BYTES_COLUMN in kept.column_names else kept
    records: list[dict[str, Any]] = kept.to_pylist()
    return records


def _mixed(table: pa.Table) -> pa.ChunkedArray:
    """p_use_synthetic where there are two captions to mix."""
    changed = pc.not_equal(table.column("caption_source"), "original")
    return table.filter(pc.and_(changed, pc.equal(table.column("status"), "ok"))).column("p_use_synthetic")
