"""Chosen pairs with their pictures, as they came: annotations and the run's input side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from curate.export.selection import Selection, selected_parts, usable
from curate.pairs import rows_with_images
from curate.sources.base import Source
from curate.store import RunStore

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
    chosen = ((number, usable(table, selection.caption)) for number, table in selected_parts(store, selection))
    yield from rows_with_images(store, source, chosen)


def extension(image: bytes) -> str:
    """By its first bytes; "jpg" for what is none of the formats that curate decodes."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in _KINDS if image.startswith(start)), "jpg")
