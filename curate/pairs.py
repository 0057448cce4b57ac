"""Pairs of a run with the bytes of their pictures, which are read again from the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curate.errors import CurateError
from curate.manifest import read_parts
from curate.sources.base import Source
from curate.store import RunStore

_ROWS_AT_ONCE = 64


def pairs_with_images(
    store: RunStore, source: Source, chosen: Iterator[tuple[int, pa.Table]]
) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
    """(bytes of the picture as they came, None where there is none; columns of the pair), in input order.

    Memory: the columns of one part, and the pictures of a few rows. A part without chosen pairs is not opened.

    Args:
        store: the run directory, for its manifest.
        source: the run's input as it was.
        chosen: number of a part, and its chosen rows with any columns, `row_id` among them.

    Raises:
        CurateError: the input changed since the run, or a file of it is gone.
        InputError: the input is not there any more.
    """
    shards = {shard.name: shard for shard in source.list_shards()}
    parts = read_parts(store)
    for number, table in chosen:
        if not table.num_rows:
            continue
        part = parts[number]
        if part.shard not in shards:
            raise CurateError(f"{part.shard}: the input does not have this file any more, so its pictures are gone")
        rows = dict(zip(table.column("row_id").to_pylist(), table.to_pylist(), strict=True))
        for batch in source.read(shards[part.shard], part, _ROWS_AT_ONCE):
            for row_id, image in zip(batch.column("row_id").to_pylist(), batch.column("image"), strict=True):
                if row_id in rows:
                    yield image.as_py(), rows[row_id]
