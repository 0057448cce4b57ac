"""Chosen pairs with their pictures, as they came: annotations and the run's input side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CurateError
from curate.export.selection import Selection, selected_parts, usable
from curate.manifest import read_parts
from curate.sources.base import Source
from curate.store import RunStore

_ROWS_AT_ONCE = 64
_KINDS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)


def pairs_with_pictures(
    store: RunStore, source: Source, selection: Selection
) -> Iterator[tuple[pa.Table, pa.ChunkedArray]]:
    """The chosen pairs that a trainer can use, some at a time and in input order.

    Args:
        store: the run directory.
        source: the run's input as it was.
        selection: which pairs; pairs without a readable picture or the chosen caption are left out.

    Yields:
        Annotations with all columns, and the bytes of the picture of each row, large_binary.

    Raises:
        InputError: the selection does not fit the annotations, or the input is gone.
        CurateError: the input changed since the run.
    """
    shards = {shard.name: shard for shard in source.list_shards()}
    parts = read_parts(store)
    for number, table in selected_parts(store, selection):
        chosen = usable(table, selection.caption)
        if not chosen.num_rows:
            continue
        part = parts[number]
        if part.shard not in shards:
            raise CurateError(f"{part.shard}: the input does not have this file any more, so its pictures are gone")
        identities = chosen.column("row_id").combine_chunks()
        for batch in source.read(shards[part.shard], part, _ROWS_AT_ONCE):
            places = pc.index_in(batch.column("row_id"), value_set=identities)
            if places.null_count < len(places):
                yield chosen.take(places.drop_null()), batch.column("image").filter(places.is_valid())


def extension(image: bytes) -> str:
    """By its first bytes; "jpg" for what is none of the formats that curate decodes."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in _KINDS if image.startswith(start)), "jpg")
