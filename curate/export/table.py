"""Annotations of chosen pairs as Parquet or CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curate.export.selection import Selection, selected_parts
from curate.store import RunStore

TableFormat = Literal["parquet", "csv"]


def export_table(
    store: RunStore, folder: Path, selection: Selection, kind: TableFormat, pairs_per_file: int
) -> dict[str, int]:
    """Write `pairs-00000.parquet` (or .csv), ... and say how many pairs each file holds.

    CSV has no nested columns: structs become one column per field (`signals.clip_similarity`), lists become JSON,
    bytes are left out.

    Args:
        store: the run directory.
        folder: exists.
        selection: which pairs and columns.
        kind: of the files.
        pairs_per_file: at most.

    Raises:
        InputError: the selection does not fit the annotations.
        OSError: the folder cannot be written.
    """
    written: dict[str, int] = {}
    tables = (selection.chosen_columns(table) for _, table in selected_parts(store, selection))
    for number, table in enumerate(regrouped(tables, pairs_per_file)):
        name = f"pairs-{number:05d}.{kind}"
        partial = folder / f".{name}.partial"
        try:
            if kind == "parquet":
                pq.write_table(table, partial, compression="zstd")
            else:
                pyarrow.csv.write_csv(flat(table), partial)
            partial.replace(folder / name)
        finally:
            partial.unlink(missing_ok=True)
        written[name] = table.num_rows
    return written


def regrouped(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows`; one empty table if all were empty, so that the columns are known."""
    held: pa.Table | None = None
    sent = False
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held, sent = held.slice(rows), True
    if held is not None and (held.num_rows or not sent):
        yield held


def flat(table: pa.Table) -> pa.Table:
    """Without nested columns and without bytes."""
    columns: dict[str, Any] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_struct(field.type):
            array = column.combine_chunks()
            pieces = array.flatten() if isinstance(array, pa.StructArray) else [pa.array([])] * field.type.num_fields
            for place, piece in enumerate(pieces):
                columns[f"{field.name}.{field.type.field(place).name}"] = piece
        elif pa.types.is_list(field.type):
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
            columns[field.name] = pa.array(values, pa.string())
        elif not pa.types.is_binary(field.type):
            columns[field.name] = column
    return pa.table(columns)
