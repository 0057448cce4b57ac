"""From raw images, captions and keys to tables of SOURCE_SCHEMA: what is wrong with a pair is decided here, once."""

from __future__ import annotations

import json
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from curate.schema import SOURCE_SCHEMA, Status, row_id
from curate.sources.base import Part, Shard
from curate.sources.stores import changed

MAX_TEXT_BYTES = 64 << 20
# A table is handed on before it has batch_rows rows if its images together outgrow this.
BATCH_BYTES = 256 << 20

Fields = tuple[tuple[str, str], ...]
"""Names and texts of a pair's kept fields."""


@dataclass(frozen=True)
class Picture:
    """The image side of a pair: its bytes, or what is wrong with them, or both."""

    data: bytes | None = None
    status: Status = Status.OK
    error: str | None = None


@dataclass(frozen=True)
class Caption:
    """The text side of a pair: a string, or bytes that are not UTF-8, or what is wrong."""

    text: str | None = None
    raw: bytes | None = None
    status: Status = Status.OK
    error: str | None = None


@dataclass(frozen=True)
class Pair:
    """One row before it becomes Arrow.

    Attributes:
        fields: the kept fields that are not null; None if the input's options keep none.
        broken: why the record itself could not be parsed.
    """

    key: str
    picture: Picture
    caption: Caption
    fields: Fields | None = None
    broken: str | None = None

    @property
    def status(self) -> Status:
        if self.broken is not None:
            return Status.UNREADABLE_ROW
        return self.caption.status if self.picture.status is Status.OK else self.picture.status

    @property
    def error(self) -> str | None:
        text = self.broken or self.picture.error or self.caption.error
        return None if text is None else printable(text)


def row_key(row: int) -> str:
    """The key of a pair that brings none."""
    return f"{row:09d}"


def broken_pair(row: int, why: str, fields: Fields | None) -> Pair:
    """A record that could not be parsed."""
    return Pair(row_key(row), Picture(), Caption(), fields, broken=why)


def picture_of(data: bytes, most: int) -> Picture:
    """Image bytes as they came, unless there are more than `most`."""
    if len(data) > most:
        return too_large(len(data), most)
    if not data:
        return Picture(b"", Status.CORRUPT_IMAGE, "the image has 0 bytes")
    return Picture(data)


def no_picture(error: str) -> Picture:
    return Picture(None, Status.MISSING_IMAGE, error)


def too_large(size: int, most: int) -> Picture:
    """An image file that is not read."""
    what = f"the image file has {size:,} bytes, more than input.max_image_bytes = {most}; raise it to have it read"
    return Picture(None, Status.IMAGE_TOO_LARGE, what)


def no_caption(error: str) -> Caption:
    return Caption(status=Status.MISSING_CAPTION, error=error)


def caption_of_bytes(raw: bytes) -> Caption:
    """A caption as it came, with nothing stripped."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"the caption is not valid UTF-8 (byte {error.start})"
        return Caption(None, raw, Status.CAPTION_NOT_UTF8, reason)
    if not text.strip():
        return Caption(text, None, Status.EMPTY_CAPTION, "the caption is empty or only white space")
    return Caption(text)


def caption_of_value(value: Any, where: str) -> Caption:
    """A caption from a parsed value: strings (perhaps with surrogates) as they are, numbers as text, else missing."""
    if isinstance(value, bytes):
        return caption_of_bytes(value)
    if isinstance(value, str):
        return caption_of_bytes(raw_bytes(value))
    if is_number(value):
        return caption_of_bytes(str(value).encode())
    if value is None or isinstance(value, float):
        return no_caption(f"{where} is null")
    return no_caption(f"{where} holds {_kind(value)}, not a text")


def key_of_value(value: Any, row: int) -> str:
    """A key from a parsed value: text or number; anything else falls back to the row number."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str) and value:
        return printable(value)
    return str(value) if is_number(value) else row_key(row)


def is_number(value: Any) -> bool:
    """A number which says something: no bool, no NaN (pandas' null)."""
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def raw_bytes(text: str) -> bytes:
    """The bytes of a text decoded with surrogateescape, or of one with lone surrogates written as JSON escapes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def printable(text: str) -> str:
    """The text, with what is not valid Unicode written as backslash escapes: Arrow strings are UTF-8."""
    return raw_bytes(text).decode("utf-8", "backslashreplace")


def parse_json_object(raw: bytes) -> dict[str, Any] | str:
    """A JSON object, or what is wrong with it. Bytes that are not UTF-8 become surrogates (see `raw_bytes`)."""
    try:
        value = json.loads(raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg} at character {error.pos + 1})"
    except RecursionError:
        return "not readable JSON (nested too deeply)"
    except ValueError:
        return "not readable JSON (a number with too many digits)"
    return value if isinstance(value, dict) else f"not a JSON object but {_kind(value)}"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if is_number(value) else f"a {type(value).__name__}")


class KeyTally:
    """Finds keys that occur more than once, in 8 bytes per row."""

    def __init__(self) -> None:
        self._digests = array("Q")

    def add(self, key: str) -> None:
        """Count the next row's key."""
        self._digests.append(int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little"))

    def __len__(self) -> int:
        return len(self._digests)

    def duplicate_rows(self) -> list[int]:
        """Rows whose key occurs more than once, ascending."""
        digests = np.frombuffer(self._digests, dtype=np.uint64) if self._digests else np.empty(0, np.uint64)
        _, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
        return [int(row) for row in np.flatnonzero(sizes[group] > 1)]


def rows_within(rows: list[int], first_row: int, count: int) -> tuple[int, ...]:
    """The members of a sorted list that lie in [first_row, first_row + count)."""
    return tuple(rows[bisect_left(rows, first_row) : bisect_left(rows, first_row + count)])


def within_limit(pair: Pair, characters: int) -> Pair:
    """The pair; a caption of more than so many characters is kept, but marked."""
    text = pair.caption.text
    if text is None or len(text) <= characters or pair.caption.status is not Status.OK:
        return pair
    what = f"the caption has {len(text):,} characters, more than input.max_caption_characters = {characters}"
    return replace(pair, caption=Caption(text, None, Status.CAPTION_TOO_LONG, what))


def tables_of(
    pairs: Iterable[Pair], shard: Shard, part: Part, batch_rows: int, caption_characters: int
) -> Iterator[pa.Table]:
    """The part's pairs as tables of SOURCE_SCHEMA, at most `batch_rows` rows and some hundred MB of images each.

    Captions of more than `caption_characters` are marked.

    Raises:
        CurateError: there are not exactly `part.rows` pairs: the file is not the one that was indexed.
    """
    duplicates = frozenset(part.duplicate_rows)
    batch: list[tuple[int, Pair]] = []
    size = 0
    count = 0
    for count, pair in enumerate(pairs, start=1):
        row = part.first_row + count - 1
        batch.append((row, within_limit(pair, caption_characters)))
        size += len(pair.picture.data or b"")
        if len(batch) >= batch_rows or size >= BATCH_BYTES:
            yield _table(batch, shard.name, duplicates)
            batch, size = [], 0
    if batch:
        yield _table(batch, shard.name, duplicates)
    if count != part.rows:
        raise changed(shard)


def _table(batch: list[tuple[int, Pair]], shard: str, duplicates: frozenset[int]) -> pa.Table:
    pairs = [pair for _, pair in batch]
    statuses = [pair.status for pair in pairs]
    columns: dict[str, list[Any]] = {
        "row_id": [row_id(shard, row) for row, _ in batch],
        "shard": [shard] * len(batch),
        "row": [row for row, _ in batch],
        "key": [pair.key for pair in pairs],
        "caption": [pair.caption.text for pair in pairs],
        "caption_bytes": [pair.caption.raw for pair in pairs],
        "status": [status.value for status in statuses],
        "error": [pair.error for pair in pairs],
        "duplicate_key": [row in duplicates for row, _ in batch],
        "fields": [pair.fields for pair in pairs],
        "image": [pair.picture.data for pair in pairs],
    }
    return pa.Table.from_pydict(columns, schema=SOURCE_SCHEMA)
