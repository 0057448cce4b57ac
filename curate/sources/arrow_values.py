"""Arrow arrays as Python values that raise for no content: files of other people hold what their schema forbids."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curate.sources.fields import field_text


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings of any layout, dictionary-encoded ones included."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether values are bytes of any layout, dictionary-encoded ones included."""
    if pa.types.is_dictionary(kind):
        return is_binary(kind.value_type)
    sized = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(sized or pa.types.is_binary_view(kind))


def flat_values(column: pa.Array) -> list[Any]:
    """Python values; text as bytes, because a Parquet file may call bytes text which are not valid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type) or is_binary(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values


def json_values(column: pa.Array) -> list[Any]:
    """Values of any type, nested ones too, as `json` can write them.

    Structs and maps become dicts. What JSON has no type for becomes a string: bytes (UTF-8, else with backslash
    escapes), decimals, dates and times (instants in UTC, with a Z; durations as a number of their unit).

    Raises:
        pa.ArrowException: Arrow cannot write the type as text.
    """
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return json_values(column.storage)
    if pa.types.is_dictionary(kind):
        return json_values(column.dictionary_decode())
    if is_text(kind) or is_binary(kind):
        return [None if value is None else field_text(value) for value in flat_values(column)]
    if pa.types.is_struct(kind):
        return _dicts_of_structs(column)
    if pa.types.is_map(kind):
        return [_dict_of_entries(row.values) if row.is_valid else None for row in column]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [json_values(row.values) if row.is_valid else None for row in column]
    return _scalar_values(column)


def _dicts_of_structs(column: pa.StructArray) -> list[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    rows = zip(*(json_values(child) for child in column.flatten()), strict=True)
    valid = column.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if there else None for there, row in zip(valid, rows, strict=True)]


def _dict_of_entries(entries: pa.StructArray) -> dict[str, Any]:
    names = [field_text(key) for key in json_values(entries.field(0))]
    values = json_values(entries.field(1))
    return {"null" if name is None else name: value for name, value in zip(names, values, strict=True)}


def _scalar_values(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())  # older pyarrow would hand out numpy's float16
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        # Not by the time zone's name: what that stands for depends on the machine's time zone database.
        texts = column.view(pa.timestamp(kind.unit)).cast(pa.string()).to_pylist()
        return [None if text is None else f"{text}Z" for text in texts]
    elif pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    return values
