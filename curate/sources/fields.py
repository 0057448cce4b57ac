"""Fields of the input that are carried into the annotations as text: what `input.keep` names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from curate.sources.rows import Fields, printable


def kept_fields(keep: Sequence[str], record: Mapping[str, Any]) -> Fields | None:
    """The kept fields of a parsed record."""
    return fields_of_texts(keep, [field_text(record.get(name)) for name in keep])


def fields_of_texts(keep: Sequence[str], texts: Sequence[str | None]) -> Fields | None:
    """Names with their texts in the order of `keep`, without those that are null; None where nothing is to be kept."""
    if not keep:
        return None
    return tuple((name, text) for name, text in zip(keep, texts, strict=True) if text is not None)


def field_text(value: Any) -> str | None:
    """A value of the input as text; None for null.

    A string is itself, with what is not valid Unicode written as backslash escapes; so are bytes. Anything else is
    its JSON text with sorted keys, and always valid JSON: NaN and infinities become null. What is nested too deeply
    to be written is null.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return printable(value)
    try:
        text = _json_text(value)
    except RecursionError:
        return None
    return None if text == "null" else text


def _json_text(value: Any) -> str:
    try:
        return _strict_json(value)
    except ValueError:  # NaN or an infinity somewhere in it
        return _strict_json(_finite(value))


def _strict_json(value: Any) -> str:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True)
    # A lone surrogate has no UTF-8, but it has a JSON escape.
    return text if _is_unicode(text) else json.dumps(value, allow_nan=False, sort_keys=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
