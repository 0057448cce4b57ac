"""Columns of the run's files as what models work on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def embedding_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of embeddings without nulls, lists of one length, as float32 [n, d]; [0, 0] where there are no rows."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    values = np.concatenate(chunks or [np.empty(0)])
    width = len(values) // max(len(column), 1)
    matrix: NDArray[np.float32] = values.astype(np.float32).reshape(len(column), width)
    return matrix


def pixel_matrix(column: pa.ChunkedArray, side: int) -> NDArray[np.uint8]:
    """The column's memory as uint8 [n, side, side, 3], not copied if it is in one piece; null rows hold anything."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    data = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
    row_bytes = side * side * 3
    start = array.offset * row_bytes
    return data[start : start + len(array) * row_bytes].reshape(len(array), side, side, 3)


def field_values(fields: pa.ChunkedArray, name: str) -> list[str | None]:
    """The value of one kept field for every row, None where a row has none."""
    return [next((field["value"] for field in row or () if field["name"] == name), None) for row in fields.to_pylist()]


def overlaid(*tables: pa.Table) -> pa.Table:
    """Like `side_by_side`, but a column of a later table takes the place of an earlier one of the same name."""
    columns: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
    for table in tables:
        columns |= {field.name: (field, column) for field, column in zip(table.schema, table.columns, strict=True)}
    fields, arrays = zip(*columns.values(), strict=True)
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


def side_by_side(*tables: pa.Table) -> pa.Table:
    """The columns of all tables, which have the same rows in the same order."""
    first = tables[0]
    for table in tables[1:]:
        for field_, column in zip(table.schema, table.columns, strict=True):
            first = first.append_column(field_, column)
    return first
