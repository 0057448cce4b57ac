"""Chosen pairs as Parquet with their pictures, as Hugging Face's datasets reads and shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.export.pictures import extension, pairs_with_pictures
from curate.export.selection import Selection
from curate.export.table import regrouped
from curate.sources.base import Source
from curate.store import RunStore

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
# Other columns are known by their Arrow types.
_FEATURES = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()
# What the hub's viewer recommends for pictures: a row group is the least that can be read.
_PAIRS_AT_ONCE = 100


def export_huggingface(
    store: RunStore, source: Source, folder: Path, selection: Selection, pairs_per_file: int
) -> dict[str, int]:
    """Write `pairs-00000.parquet`, ... and say how many pairs each file holds.

    Column `image` has the picture's bytes as they came and a name that ends with its format, `image: {bytes, path}`,
    and is marked as a picture in the schema's metadata; the others are annotations. Pairs without a usable picture
    or caption are left out.

    Args:
        store: the run directory.
        source: the run's input as it was.
        folder: exists.
        selection: which pairs, caption and columns.
        pairs_per_file: at most.

    Raises:
        InputError: the selection does not fit the annotations, or the input is gone.
        CurateError: the input changed since the run.
        OSError: the folder cannot be written.
    """
    at_once = min(_PAIRS_AT_ONCE, pairs_per_file)
    tables = regrouped(_tables(store, source, selection), at_once)
    written: dict[str, int] = {}
    while (first := next(tables, None)) is not None:
        name = f"pairs-{len(written):05d}.parquet"
        written[name] = _write(folder / name, first, islice(tables, pairs_per_file // at_once - 1))
    return written


def _write(path: Path, first: pa.Table, more: Iterator[pa.Table]) -> int:
    """One row group a table; says how many rows the file has. It is whole or absent."""
    partial = path.with_name(f".{path.name}.partial")
    rows = 0
    try:
        with pq.ParquetWriter(partial, first.schema, compression="zstd") as writer:
            for table in chain([first], more):
                writer.write_table(table)
                rows += table.num_rows
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _tables(store: RunStore, source: Source, selection: Selection) -> Iterator[pa.Table]:
    first = 0
    for table, images in pairs_with_pictures(store, source, selection):
        pictures = [
            {"bytes": image, "path": f"{number:09d}.{extension(image)}"}
            for number, image in enumerate(images.to_pylist(), first)
        ]
        first += len(pictures)
        chosen = selection.chosen_columns(table)
        with_pictures = chosen.add_column(0, pa.field("image", IMAGE_TYPE), pa.array(pictures, IMAGE_TYPE))
        yield with_pictures.replace_schema_metadata({**(chosen.schema.metadata or {}), b"huggingface": _FEATURES})
