"""Tables of text lines, JSONL and CSV, that name image files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa

from curate.sources.base import Part, Shard, ShardError, ShardIndex
from curate.sources.fields import kept_fields
from curate.sources.listing import list_files
from curate.sources.options import ColumnNames, SourceOptions
from curate.sources.rows import (
    MAX_TEXT_BYTES,
    Caption,
    Fields,
    KeyTally,
    Pair,
    Picture,
    broken_pair,
    caption_of_value,
    key_of_value,
    no_caption,
    no_picture,
    parse_json_object,
    rows_within,
    tables_of,
)
from curate.sources.stores import IMAGES_STAMP, Window, changed, new_checksum, open_window, unchanged, url_scheme
from curate.sources.table import (
    CAPTION_COLUMNS,
    KEY_COLUMNS,
    PATH_COLUMNS,
    ImageReferences,
    Role,
    check_kept,
    find_column,
    hash_picture,
    image_references,
    no_such_column,
)
from curate.sources.tar import other_format

# A quoted CSV field that is never closed would swallow the rest of the file: so far it is followed.
MAX_CSV_RECORD_BYTES = 4 << 20
_HEAD_BYTES = 1 << 20
_HEAD_RECORDS = 1000
_BOM = b"\xef\xbb\xbf"
_BROKEN_CSV = "the line breaks the CSV quoting rules (a quote is never closed, or text follows a closing quote)"


class Unusable(Exception):  # noqa: N818 - becomes a ShardError
    """The file as a whole cannot be read as this format."""


@dataclass(frozen=True)
class Record:
    """One line (CSV: perhaps several) in bytes [start, end) of the file.

    Attributes:
        image: path of the image file, or why there is none.
        fields: the kept fields, None if none are to be kept.
        broken: why the record could not be parsed, or None.
    """

    start: int
    end: int
    key: Any = None
    image: str | Picture = field(default_factory=Picture)
    caption: Caption = field(default_factory=Caption)
    fields: Fields | None = None
    broken: str | None = None

    def pair(self, row: int, files: ImageReferences) -> Pair:
        if self.broken is not None:
            return broken_pair(row, self.broken, self.fields)
        picture = files.read(self.image) if isinstance(self.image, str) else self.image
        return Pair(key_of_value(self.key, row), picture, self.caption, self.fields)


@dataclass(frozen=True)
class Head:
    """What stands before the first record.

    Attributes:
        content: the header line as bytes; part of every checksum.
        columns: column names (CSV).
        end: where the records start.
    """

    content: bytes = b""
    columns: tuple[str, ...] = ()
    end: int = 0


class Dialect(Protocol):
    """How one kind of text table is parsed."""

    @property
    def extensions(self) -> tuple[str, ...]: ...

    def head(self, shard: Shard, window: Window) -> Head:
        """Raises Unusable, and InputError if the columns are wrong."""
        ...

    def records(self, head: Head, shard: Shard, window: Window, start: int, end: int) -> Iterator[Record]:
        """Records in bytes [start, end). Memoryless: starting at any record gives the same ones from there on."""
        ...

    def check_columns(self, shards: list[Shard]) -> None:
        """Raises InputError if the input as a whole lacks a column."""
        ...


@dataclass(frozen=True)
class TextSource:
    """JSONL or CSV files that name image files."""

    options: SourceOptions
    dialect: Dialect

    def list_shards(self) -> list[Shard]:
        """All files, sorted by name.

        The stamp of a local file also covers size and time of the local images it names: each file is read once here,
        line by line, and each image looked at but not opened. Of remote files and images only the table counts.

        Raises:
            InputError: nothing matches, the store is out of reach, or a column is missing.
        """
        shards = list_files(self.options.path, self.dialect.extensions)
        self.dialect.check_columns(shards)
        if self.options.format == "urls":
            return shards
        return [self._stamped(shard) if url_scheme(shard.uri) == "file" else shard for shard in shards]

    def index(self, shard: Shard) -> ShardIndex:
        """Cut into parts and hash them, images included.

        Raises:
            InputError: the header lacks a column.
            CurateError: the file vanished or changed since it was listed, or an image's store is out of reach.
        """
        with unchanged(shard), open_window(shard.uri, 0, shard.size) as window:
            try:
                head = self._head(shard, window)
            except Unusable as error:
                return ShardIndex((), (ShardError(shard.name, 0, str(error)),))
            return ShardIndex(tuple(self._parts(shard, window, head)), ())

    def read(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as tables of SOURCE_SCHEMA with at most `batch_rows` rows, in row order.

        Raises:
            CurateError: the file vanished, or it or one of the part's images is not the indexed one any more.
        """
        with unchanged(shard):
            try:
                with open_window(shard.uri, 0, min(shard.size, _HEAD_BYTES)) as window:
                    head = self._head(shard, window)
            except Unusable as error:
                raise changed(shard) from error
            with open_window(shard.uri, part.start, part.end) as window:
                yield from self._read(shard, part, batch_rows, head, window)

    def _read(self, shard: Shard, part: Part, batch_rows: int, head: Head, window: Window) -> Iterator[pa.Table]:
        digest = new_checksum()
        digest.update(head.content)
        window.hash_into(digest, part.start, part.end)
        files = image_references(self.options, shard.uri)

        def pairs() -> Iterator[Pair]:
            records = self.dialect.records(head, shard, window, part.start, part.end)
            for row, record in enumerate(records, start=part.first_row):
                pair = record.pair(row, files)
                if isinstance(record.image, str):
                    hash_picture(digest, pair.picture)
                yield pair

        yield from tables_of(pairs(), shard, part, batch_rows, self.options.limits.caption_characters)
        if digest.hexdigest() != part.checksum:
            raise changed(shard)

    def _head(self, shard: Shard, window: Window) -> Head:
        foreign = other_format(window.read_at(0, 16))
        if foreign is not None:
            raise Unusable(f"not a text table but {foreign}")
        return self.dialect.head(shard, window)

    def _parts(self, shard: Shard, window: Window, head: Head) -> list[Part]:
        files = image_references(self.options, shard.uri)
        records = self.dialect.records(head, shard, window, head.end, shard.size)
        tally = KeyTally()
        parts: list[Part] = []
        row = 0
        while batch := list(islice(records, self.options.part_rows)):
            digest = new_checksum()
            digest.update(head.content)
            window.hash_into(digest, batch[0].start, batch[-1].end)
            first = row
            for record in batch:
                pair = record.pair(row, files)
                tally.add(pair.key)
                if isinstance(record.image, str):
                    hash_picture(digest, pair.picture)
                row += 1
            parts.append(Part(shard.name, first, len(batch), batch[0].start, batch[-1].end, digest.hexdigest()))
        repeated = tally.duplicate_rows()
        return [replace(part, duplicate_rows=rows_within(repeated, part.first_row, part.rows)) for part in parts]

    def _stamped(self, shard: Shard) -> Shard:
        files = image_references(self.options, shard.uri)
        digest = new_checksum()
        with open_window(shard.uri, 0, shard.size) as window:
            try:
                head = self._head(shard, window)
            except Unusable:  # index() tells what is wrong with the file
                return shard
            for record in self.dialect.records(head, shard, window, head.end, shard.size):
                if isinstance(record.image, str):
                    digest.update(files.stamp(record.image).encode() + b"\n")
        return replace(shard, stamp=f"{shard.stamp}{IMAGES_STAMP}{digest.hexdigest()}")


@dataclass(frozen=True)
class JsonLines:
    """One JSON object per line; lines of nothing but white space are no records."""

    columns: ColumnNames
    keep: tuple[str, ...] = ()
    image_columns: tuple[str, ...] = PATH_COLUMNS
    extensions: tuple[str, ...] = (".jsonl", ".ndjson")

    def head(self, shard: Shard, window: Window) -> Head:
        """JSONL has none."""
        return Head()

    def records(self, head: Head, shard: Shard, window: Window, start: int, end: int) -> Iterator[Record]:
        """One record per line that is not blank."""
        for line_start, line_end, line in _lines(window, start, end):
            if line is None or line.strip(b" \t\r\n"):
                yield self._record(line_start, line_end, line)

    def check_columns(self, shards: list[Shard]) -> None:
        """Raises InputError if no record near the beginning of any file has an image or a caption.

        So it does if no record anywhere has a kept column; whole files are read only for one that is not near the
        beginning of any.
        """
        for role, wanted, usual in self._needed():
            first: tuple[Shard, list[str]] | None = None
            for shard in shards:
                names = _names_in_use(shard)
                if find_column(names, wanted, usual) is not None:
                    break
                first = first or ((shard, names) if names else None)
            else:
                if first is not None:
                    raise no_such_column(first[0].name, role, wanted, usual, first[1])
        check_kept(self.keep, shards, _names_in_use, _all_names)

    def _needed(self) -> list[tuple[Role, str | None, Sequence[str]]]:
        return [
            ("image", self.columns.image, self.image_columns),
            ("caption", self.columns.caption, CAPTION_COLUMNS),
        ]

    def _record(self, start: int, end: int, line: bytes | None) -> Record:
        if line is None:
            return self._broken(start, end, f"the line has more than {MAX_TEXT_BYTES:,} bytes")
        values = parse_json_object(line)
        if isinstance(values, str):
            return self._broken(start, end, f"the line is {values}")
        key = _first_filled(values, self.columns.key, KEY_COLUMNS)
        image = _image_path(_first_filled(values, self.columns.image, self.image_columns))
        return Record(start, end, key, image, self._caption(values), kept_fields(self.keep, values))

    def _broken(self, start: int, end: int, why: str) -> Record:
        return Record(start, end, fields=kept_fields(self.keep, {}), broken=why)

    def _caption(self, values: dict[str, Any]) -> Caption:
        name = find_column(values, self.columns.caption, CAPTION_COLUMNS)
        if name is None:
            return no_caption(f"the record has no {self.columns.caption or ' or '.join(CAPTION_COLUMNS)!s}")
        return caption_of_value(_first_filled(values, self.columns.caption, CAPTION_COLUMNS), repr(name))


@dataclass(frozen=True)
class CommaSeparated:
    """CSV with a header line, RFC 4180 quoting; `.tsv` files are separated by tabs."""

    columns: ColumnNames
    keep: tuple[str, ...] = ()
    image_columns: tuple[str, ...] = PATH_COLUMNS
    extensions: tuple[str, ...] = (".csv", ".tsv")

    def head(self, shard: Shard, window: Window) -> Head:
        """The header line, read and checked. Raises Unusable if there is none, InputError if it lacks a column."""
        start = len(_BOM) if window.read_at(0, len(_BOM)) == _BOM else 0
        first = next(_csv_records(window, start, window.end, _delimiter(shard)), None)
        if first is None:
            raise Unusable("the file is empty: there is no header line")
        if first.fields is None or first.end > _HEAD_BYTES:
            raise Unusable("the header line cannot be read: it is too long or breaks the CSV quoting rules")
        names = tuple(name.decode("utf-8", "backslashreplace") for name in first.fields)
        head = Head(window.read_at(0, first.end), names, first.end)
        self._places(head, shard)
        return head

    def records(self, head: Head, shard: Shard, window: Window, start: int, end: int) -> Iterator[Record]:
        """One record per CSV row; blank lines are none."""
        places = self._places(head, shard)
        for found in _csv_records(window, start, end, _delimiter(shard)):
            yield self._record(found, places, head)

    def check_columns(self, shards: list[Shard]) -> None:
        """Raises InputError if the first file lacks a column (index() looks at the others) or all lack a kept one."""
        self._names(shards[0])
        check_kept(self.keep, shards, self._names)

    def _names(self, shard: Shard) -> list[str]:
        with open_window(shard.uri, 0, min(shard.size, _HEAD_BYTES)) as window:
            try:
                return list(self.head(shard, window).columns) if other_format(window.read_at(0, 16)) is None else []
            except Unusable:  # index() tells what is wrong with the file
                return []

    def _places(self, head: Head, shard: Shard) -> _Places:
        names = list(head.columns)
        image = _place(shard, "image", self.columns.image, self.image_columns, names)
        caption = _place(shard, "caption", self.columns.caption, CAPTION_COLUMNS, names)
        has_key = self.columns.key is not None or find_column(names, None, KEY_COLUMNS) is not None
        key = _place(shard, "key", self.columns.key, KEY_COLUMNS, names) if has_key else None
        return _Places(image, caption, key, {name: names.index(name) for name in self.keep if name in names})

    def _record(self, found: _CsvFields, places: _Places, head: Head) -> Record:
        values, width = found.fields, len(head.columns)
        if values is None:
            return self._broken(found, _BROKEN_CSV)
        if len(values) != width:
            return self._broken(found, f"the row has {len(values)} fields, the header has {width}")
        image = _image_path(values[places.image].decode("utf-8", "surrogateescape"))
        caption = caption_of_value(values[places.caption], repr(head.columns[places.caption]))
        key = None if places.key is None else values[places.key]
        kept = kept_fields(self.keep, {name: values[place] for name, place in places.kept.items()})
        return Record(found.start, found.end, key, image, caption, kept)

    def _broken(self, found: _CsvFields, why: str) -> Record:
        return Record(found.start, found.end, fields=kept_fields(self.keep, {}), broken=why)


@dataclass(frozen=True)
class _Places:
    """Positions of the columns in a CSV row."""

    image: int
    caption: int
    key: int | None
    kept: dict[str, int]


@dataclass(frozen=True)
class _CsvFields:
    """A CSV row as bytes, or None if it could not be split."""

    start: int
    end: int
    fields: list[bytes] | None


def _place(shard: Shard, role: Role, wanted: str | None, usual: tuple[str, ...], names: list[str]) -> int:
    name = find_column(names, wanted, usual)
    if name is None:
        raise no_such_column(shard.name, role, wanted, usual, names)
    return names.index(name)


def _delimiter(shard: Shard) -> str:
    return "\t" if shard.name.lower().endswith(".tsv") else ","


def _csv_records(window: Window, start: int, end: int, delimiter: str) -> Iterator[_CsvFields]:
    """Rows that are not blank. Behind a broken one reading goes on at the next line, so that none is swallowed."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CSV_RECORD_BYTES))  # of the whole process; only ever raised
    while start < end:
        lines = _CsvLines(window, start, end)
        try:
            fields = next(csv.reader(lines, delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            yield _CsvFields(start, lines.first_end, None)
            start = lines.first_end
            continue
        if fields:
            yield _CsvFields(start, lines.position, [_from_csv(text) for text in fields])
        start = lines.position


class _CsvLines:
    """Feeds lines to the csv module as text whose characters are the bytes, and knows how many it took.

    NUL and carriage returns inside a line would stop the csv module: they travel as characters no byte can be.
    """

    def __init__(self, window: Window, start: int, end: int) -> None:
        self._lines = _lines(window, start, min(end, start + MAX_CSV_RECORD_BYTES))
        self._window = window
        self._end = end
        self.position = start
        self.first_end = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        _, self.position, line = next(self._lines)
        whole = line is not None and (line.endswith(b"\n") or self.position == self._end)
        if not self.first_end:
            self.first_end = self.position if whole else _end_of_line(self._window, self.position, self._end)
        if line is None or not whole:
            raise csv.Error("the record is too long")
        return _to_csv(line)


def _to_csv(line: bytes) -> str:
    text = line.decode("latin-1")
    body, ending = (text[:-2], "\r\n") if text.endswith("\r\n") else (text, "")
    return body.replace("\0", "\u0100").replace("\r", "\u0101") + ending


def _from_csv(text: str) -> bytes:
    return text.replace("\u0100", "\0").replace("\u0101", "\r").encode("latin-1")


def _lines(window: Window, start: int, end: int) -> Iterator[tuple[int, int, bytes | None]]:
    """(start, end, content) of the lines in [start, end); content None for lines too long to be records."""
    while start < end:
        line = window.line_at(start, min(end - start, MAX_TEXT_BYTES))
        if not line:
            return
        line_end = start + len(line)
        if len(line) < MAX_TEXT_BYTES or line.endswith(b"\n"):
            yield start, line_end, line
        else:
            line_end = _end_of_line(window, line_end, end)
            yield start, line_end, None
        start = line_end


def _end_of_line(window: Window, position: int, end: int) -> int:
    while position < end:
        rest = window.line_at(position, min(end - position, MAX_TEXT_BYTES))
        position += len(rest)
        if not rest or rest.endswith(b"\n"):
            break
    return position


def _names_in_use(shard: Shard) -> list[str]:
    """Members of the first records of a JSONL file, in order of appearance."""
    return _names_within(shard, _HEAD_BYTES, _HEAD_RECORDS)


def _all_names(shard: Shard) -> list[str]:
    """Members of all records of a JSONL file, in order of appearance."""
    return _names_within(shard, shard.size, None)


def _names_within(shard: Shard, size: int, records: int | None) -> list[str]:
    names: dict[str, None] = {}
    with open_window(shard.uri, 0, min(shard.size, size)) as window:
        if other_format(window.read_at(0, 16)) is not None:
            return []
        for _, _, line in islice(_lines(window, 0, window.end), records):
            values = parse_json_object(line) if line is not None else ""
            names.update(dict.fromkeys(values if isinstance(values, dict) else ()))
    return list(names)


def _first_filled(values: dict[str, Any], wanted: str | None, usual: Sequence[str]) -> Any:
    """The wanted member, or the first usual one that is not null."""
    present = {name: value for name, value in values.items() if value is not None}
    name = find_column(present, wanted, usual)
    return None if name is None else present[name]


def _image_path(value: Any) -> str | Picture:
    if isinstance(value, dict):  # how Hugging Face writes an image column as JSON
        value = value.get("path")
    if isinstance(value, str) and value:
        return value
    return no_picture("the record names no image file")
