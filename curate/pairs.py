"""Pairs of a run with the bytes of their pictures, which are read again from the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CurateError
from curate.manifest import read_parts
from curate.sources.base import Source
from curate.store import RunStore

_ROWS_AT_ONCE = 64


def rows_with_images(
    store: RunStore, source: Source, chosen: Iterator[tuple[int, pa.Table]]
) -> Iterator[tuple[pa.Table, pa.ChunkedArray]]:
    """Chosen rows, some at a time and in input order, and the bytes of each one's picture, large_binary.

    Memory: the columns of one part, and the pictures of a few rows. A part without chosen rows is not opened.

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
        identities = table.column("row_id").combine_chunks()
        for batch in source.read(shards[part.shard], part, _ROWS_AT_ONCE):
            places = pc.index_in(batch.column("row_id"), value_set=identities)
            if places.null_count < len(places):
                yield table.take(places.drop_null()), batch.column("image").filter(places.is_valid())


def pairs_with_images(
    store: RunStore, source: Source, chosen: Iterator[tuple[int, pa.Table]]
) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
    """(bytes of the picture as they came, None where there is none; columns of the pair), one by one.

    See `rows_with_images`.
    """
    for table, images in rows_with_images(store, source, chosen):
        for image, record in zip(images, table.to_pylist(), strict=True):
            yield image.as_py(), record
