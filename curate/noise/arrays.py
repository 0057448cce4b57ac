"""Frozen dataclasses of arrays as named arrays and back: what a fit leaves is safetensors, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")

# Float32 arrays of classes that say so hold values that half precision holds exactly.
STORED_IN_HALF = "stored_in_half"


def pack(holder: Any, prefix: str = "") -> Arrays:
    """Arrays, numbers and nested dataclasses of a dataclass under dotted names; None leaves nothing.

    Tuples are numbered. A class with `stored_in_half = True` has its float32 arrays stored as float16.
    """
    packed: Arrays = {}
    half = getattr(type(holder), STORED_IN_HALF, False)
    for field in fields(holder):
        value, name = getattr(holder, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            packed |= pack(value, f"{name}.")
        elif isinstance(value, tuple):
            packed[f"{name}.length"] = np.array(len(value))
            for number, item in enumerate(value):
                packed |= pack(item, f"{name}.{number}.")
        elif value is not None:
            array = np.ascontiguousarray(value) if isinstance(value, np.ndarray) else np.array(value)
            packed[name] = array.astype(np.float16) if half and array.dtype == np.float32 else array
    return packed


def unpack(kind: type[T], arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> T:
    """The dataclass that `pack` took apart, exactly."""
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(hints[field.name], arrays, f"{prefix}{field.name}") for field in fields(kind)})  # type: ignore[arg-type]


def _value(hint: Any, arrays: Mapping[str, NDArray[Any]], name: str) -> Any:
    if get_origin(hint) in (Union, UnionType):
        if not any(stored == name or stored.startswith(f"{name}.") for stored in arrays):
            return None
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return tuple(unpack(item, arrays, f"{name}.{number}.") for number in range(int(arrays[f"{name}.length"])))
    if is_dataclass(hint):
        return unpack(hint, arrays, f"{name}.")  # type: ignore[arg-type]
    array = arrays[name]
    if hint in (bool, int, float):
        return hint(array)
    return array.astype(np.float32) if array.dtype == np.float16 else array
