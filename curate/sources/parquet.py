"""Parquet tables, with images inside (img2dataset, Hugging Face) or beside them (paths)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import CurateError
from curate.sources.arrow_values import flat_values, is_binary, is_text, json_values
from curate.sources.base import Part, Shard, ShardError, ShardIndex
from curate.sources.fields import field_text, fields_of_texts
from curate.sources.listing import list_files
from curate.sources.options import SourceOptions
from curate.sources.rows import (
    BATCH_BYTES,
    Fields,
    KeyTally,
    Pair,
    Picture,
    caption_of_value,
    key_of_value,
    no_picture,
    picture_of,
    printable,
    rows_within,
    tables_of,
)
from curate.sources.stores import CHUNK_BYTES, Window, changed, new_checksum, open_seekable, open_window, unchanged
from curate.sources.table import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    KEY_COLUMNS,
    URL_COLUMNS,
    ImageReferences,
    Role,
    check_kept,
    find_column,
    hash_picture,
    image_references,
    no_such_column,
    wrong_type,
)

log = logging.getLogger(__name__)

_INDEX_BATCH_ROWS = 256
# Of kept columns: the same whoever reads, so that what a damaged page costs does not depend on it.
_KEPT_BATCH_ROWS = 256
# What pyarrow raises for damaged files.
_DAMAGED = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError)


@dataclass(frozen=True)
class _Layout:
    """Names of the columns to read; no key column: rows are numbered."""

    image: str
    caption: str
    key: str | None

    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.image, self.caption, self.key) if name is not None))


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files with columns for image, caption and perhaps key.

    The image column holds bytes, a path, or a struct of `bytes` and `path` of which the path counts if bytes is null.
    A change of an image file behind a path is seen only if the Parquet file is touched too.
    """

    options: SourceOptions

    def list_shards(self) -> list[Shard]:
        """All files, sorted by name.

        Raises:
            InputError: nothing matches, the store is out of reach, the first file lacks a column, or all files lack a
                kept one.
        """
        shards = list_files(self.options.path, (".parquet", ".pq"))
        schema = _schema(shards[0])
        if schema is not None:
            self._layout(shards[0], schema)
        check_kept(self.options.keep, shards, _names)
        return shards

    def index(self, shard: Shard) -> ShardIndex:
        """Decode every row once, so that reading cannot fail later; a file that cannot be decoded gives no rows.

        Raises:
            InputError: a column is missing or of a wrong type.
            CurateError: the file vanished or changed since it was listed, or an image's store is out of reach.
        """
        with unchanged(shard), open_window(shard.uri, 0, shard.size) as window:
            try:
                return ShardIndex(tuple(self._parts(shard, window)), ())
            except _DAMAGED as error:
                _raise_if_unreadable(shard, error)
                what = f"not a readable Parquet file, none of its rows is used: {_first_line(error)}"
                return ShardIndex((), (ShardError(shard.name, 0, printable(what)),))

    def read(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as tables of SOURCE_SCHEMA with at most `batch_rows` rows, in row order.

        Rows before the part in its first row group have to be decoded too. A kept column that cannot be decoded is
        null from there to the end of its row group.

        Raises:
            CurateError: the file vanished or is not the indexed one any more.
        """
        with unchanged(shard), open_seekable(shard.uri) as handle:
            try:
                file = _open(handle)
                found = self._pairs(shard, file, part.first_row, part.rows, batch_rows)
                kept = self._kept(shard, file, part.first_row, part.rows)
                pairs = (replace(pair, fields=fields) for (pair, _), fields in zip(found, kept, strict=True))
                yield from tables_of(pairs, shard, part, batch_rows, self.options.limits.caption_characters)
            except _DAMAGED as error:
                _raise_if_unreadable(shard, error)
                raise changed(shard) from error

    def _parts(self, shard: Shard, window: Window) -> list[Part]:
        file_digest = new_checksum()
        window.hash_into(file_digest, 0, shard.size)
        file = _open(window.handle)
        metadata = file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        pairs = self._pairs(shard, file, 0, metadata.num_rows, _INDEX_BATCH_ROWS)
        tally = KeyTally()
        spans: list[tuple[int, int, str]] = []
        for first, count in cut_groups(sizes, self.options.part_rows):
            digest = file_digest.copy()
            digest.update(b"rows %d+%d" % (first, count))
            for pair, is_file in islice(pairs, count):
                tally.add(pair.key)
                if is_file:
                    hash_picture(digest, pair.picture)
            if len(tally) != first + count:
                raise ValueError(f"it ends at row {len(tally)} of {metadata.num_rows}")
            spans.append((first, count, digest.hexdigest()))
        repeated = tally.duplicate_rows()
        return [
            Part(shard.name, first, count, 0, shard.size, checksum, rows_within(repeated, first, count))
            for first, count, checksum in spans
        ]

    def _pairs(
        self, shard: Shard, file: pq.ParquetFile, first_row: int, rows: int, batch_rows: int
    ) -> Iterator[tuple[Pair, bool]]:
        """Pairs of rows [first_row, first_row + rows), each with whether its image is a file of its own."""
        layout = self._layout(shard, file.schema_arrow)
        files = image_references(self.options, shard.uri)
        spans = _spans(file, first_row, rows)
        for row, batch in (found for span in spans for found in _batches(file, layout.columns(), span, batch_rows)):
            captions = flat_values(batch.column(layout.caption))
            keys = flat_values(batch.column(layout.key)) if layout.key is not None else [None] * batch.num_rows
            images = _images(batch.column(layout.image))
            for offset, (key, caption, (data, path)) in enumerate(zip(keys, captions, images, strict=True)):
                name = key_of_value(key, row + offset)
                text = caption_of_value(caption, f"column {layout.caption!r}")
                picture, is_file = _picture(data, path, files, self.options.limits.image_bytes)
                yield Pair(name, picture, text), is_file

    def _kept(self, shard: Shard, file: pq.ParquetFile, first_row: int, rows: int) -> Iterator[Fields | None]:
        """The kept fields of rows [first_row, first_row + rows)."""
        keep = self.options.keep
        if not keep:
            yield from repeat(None, rows)
            return
        for texts in zip(*(_kept_texts(shard, file, name, first_row, rows) for name in keep), strict=True):
            yield fields_of_texts(keep, texts)

    def _layout(self, shard: Shard, schema: pa.Schema) -> _Layout:
        wanted = self.options.columns
        usual = URL_COLUMNS if self.options.format == "urls" else IMAGE_COLUMNS
        image = _column(shard, schema, "image", wanted.image, usual)
        caption = _column(shard, schema, "caption", wanted.caption, CAPTION_COLUMNS)
        has_key = wanted.key is not None or find_column(schema.names, None, KEY_COLUMNS) is not None
        return _Layout(image, caption, _column(shard, schema, "key", wanted.key, KEY_COLUMNS) if has_key else None)


def cut_groups(sizes: list[int], part_rows: int) -> Iterator[tuple[int, int]]:
    """(first row, rows) of parts of at most `part_rows` rows, cut between row groups unless a group is larger."""
    first = count = 0
    for size in sizes:
        if count and count + size > part_rows:
            yield first, count
            first, count = first + count, 0
        count += size
        while count > part_rows:
            yield first, part_rows
            first, count = first + part_rows, count - part_rows
    if count:
        yield first, count


def _open(handle: Any) -> pq.ParquetFile:
    # A buffer instead of whole column chunks: a row group of images can have gigabytes.
    return pq.ParquetFile(handle, buffer_size=CHUNK_BYTES, pre_buffer=False)


def _schema(shard: Shard) -> pa.Schema | None:
    """The file's columns, or None if it is damaged: index() tells what is wrong with it."""
    with open_seekable(shard.uri) as handle:
        try:
            return _open(handle).schema_arrow
        except _DAMAGED as error:
            _raise_if_unreadable(shard, error)
            return None


def _names(shard: Shard) -> list[str]:
    schema = _schema(shard)
    return [] if schema is None else list(schema.names)


@dataclass(frozen=True)
class _Span:
    """The rows [first_row, last_row) of a row group that starts at row `start`."""

    group: int
    start: int
    first_row: int
    last_row: int


def _spans(file: pq.ParquetFile, first_row: int, rows: int) -> Iterator[_Span]:
    """Rows [first_row, first_row + rows) by row group."""
    last_row = first_row + rows
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if start < last_row and end > first_row:
            yield _Span(group, start, max(start, first_row), min(end, last_row))
        start = end


def _batches(
    file: pq.ParquetFile, columns: list[str], span: _Span, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Row number and content of batches that make up the span, cut at multiples of their size in the row group."""
    row = span.start
    size = _batch_size(file.metadata.row_group(span.group), batch_rows)
    for batch in file.iter_batches(size, row_groups=[span.group], columns=columns):
        start, end = max(span.first_row, row), min(span.last_row, row + batch.num_rows)
        if start < end:
            yield start, batch.slice(start - row, end - start)
        row += batch.num_rows
        if row >= span.last_row:
            break


def _batch_size(group: pq.RowGroupMetaData, batch_rows: int) -> int:
    bytes_per_row = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(max(1, min(batch_rows, BATCH_BYTES // bytes_per_row)))


def _kept_texts(shard: Shard, file: pq.ParquetFile, name: str, first_row: int, rows: int) -> Iterator[str | None]:
    """One column as text, null where it is not there or damaged: a field is no reason to lose a pair."""
    there = name in file.schema_arrow.names
    for span in _spans(file, first_row, rows):
        row = span.first_row
        try:
            for _, batch in _batches(file, [name], span, _KEPT_BATCH_ROWS) if there else ():
                texts = _texts(batch, name)
                row += len(texts)
                yield from texts
        except _DAMAGED as error:
            _raise_if_unreadable(shard, error)
            log.warning("%s: column %r is null from row %d: %s", shard.name, name, row, _first_line(error))
        yield from repeat(None, span.last_row - row)


def _texts(batch: pa.RecordBatch, name: str) -> list[str | None]:
    column = batch.column(batch.schema.names.index(name))
    return [field_text(value) for value in json_values(column)]


def _column(shard: Shard, schema: pa.Schema, role: Role, wanted: str | None, usual: tuple[str, ...]) -> str:
    name = find_column(schema.names, wanted, usual)
    if name is None:
        raise no_such_column(shard.name, role, wanted, usual, schema.names)
    if schema.names.count(name) > 1:
        raise wrong_type(shard.name, role, name, "two columns under one name", "one", schema.names)
    kind = schema.field(name).type
    if role == "image" and not _is_image(kind):
        needed = "image bytes, a path, or a struct of bytes and path"
        raise wrong_type(shard.name, role, name, str(kind), needed, schema.names)
    if role != "image" and not _is_scalar(kind):
        raise wrong_type(shard.name, role, name, str(kind), "text or numbers", schema.names)
    return name


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool(is_text(kind) or is_binary(kind) or number or pa.types.is_null(kind))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        data, path = fields.get("bytes", pa.null()), fields.get("path", pa.null())
        return bool({"bytes", "path"} & set(fields)) and _is_image_part(data, path)
    return is_text(kind) or is_binary(kind) or bool(pa.types.is_null(kind))


def _is_image_part(data: pa.DataType, path: pa.DataType) -> bool:
    return (is_binary(data) or pa.types.is_null(data)) and (is_text(path) or pa.types.is_null(path))


def _images(column: pa.Array) -> list[tuple[bytes | None, bytes | None]]:
    """(bytes, path) of every row."""
    if pa.types.is_struct(column.type):
        names = {column.type.field(index).name for index in range(column.type.num_fields)}
        nothing = [None] * len(column)
        data = flat_values(pc.struct_field(column, "bytes")) if "bytes" in names else nothing
        paths = flat_values(pc.struct_field(column, "path")) if "path" in names else nothing
        return list(zip(data, paths, strict=True))
    is_path = is_text(column.type)
    return [(None, value) if is_path else (value, None) for value in flat_values(column)]


def _picture(data: bytes | None, path: bytes | None, files: ImageReferences, most: int) -> tuple[Picture, bool]:
    if data is not None:
        return picture_of(data, most), False
    if not path:
        return no_picture("the image is null"), False
    return files.read(path.decode("utf-8", "surrogateescape")), True


def _raise_if_unreadable(shard: Shard, error: BaseException) -> None:
    """Tell a failing disk from a damaged file: pyarrow's own OSErrors carry no errno."""
    if isinstance(error, OSError) and error.errno is not None:
        raise CurateError(f"cannot read {shard.name}: {error}.") from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
