"""Writing small inputs and reading whole sources, for the tests of the sources."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa

from curate.schema import SOURCE_SCHEMA, row_id
from curate.sources import open_source
from curate.sources.base import Part, Shard, ShardIndex, Source
from curate.sources.options import SourceOptions


def tar_bytes(members, tar_format=tarfile.PAX_FORMAT) -> bytes:
    """A tar of (name, content) pairs; content None makes a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sources_of(path, file_format="webdataset", **options) -> Source:
    return open_source(SourceOptions(file_format, (str(path),), **options))


def index_all(source: Source) -> dict[str, ShardIndex]:
    return {shard.name: source.index(shard) for shard in source.list_shards()}


def read_shard(source: Source, shard: Shard, parts: tuple[Part, ...], batch_rows: int = 7) -> pa.Table:
    """All rows of a shard's parts, with what holds for every source checked on the way."""
    tables = [SOURCE_SCHEMA.empty_table()]
    first_row = 0
    for part in parts:
        assert (part.shard, part.first_row) == (shard.name, first_row)
        assert 0 <= part.start <= part.end <= shard.size
        assert all(first_row <= row < first_row + part.rows for row in part.duplicate_rows)
        found = list(source.read(shard, part, batch_rows))
        assert all(0 < table.num_rows <= batch_rows for table in found)
        assert sum(table.num_rows for table in found) == part.rows
        first_row += part.rows
        tables.extend(found)
    table = pa.concat_tables(tables)
    table.validate(full=True)
    assert table.schema.equals(SOURCE_SCHEMA)
    rows = table.column("row").to_pylist()
    assert rows == list(range(table.num_rows))
    assert table.column("row_id").to_pylist() == [row_id(shard.name, row) for row in rows]
    assert all((status == "ok") == (error is None) for status, error in columns(table, "status", "error"))
    return table


def read_all(source: Source, batch_rows: int = 7) -> pa.Table:
    shards = source.list_shards()
    return pa.concat_tables([read_shard(source, shard, source.index(shard).parts, batch_rows) for shard in shards])


def read_one(path, file_format="webdataset", **options) -> tuple[pa.Table, tuple]:
    """Rows and errors of the only shard at a path."""
    source = sources_of(path, file_format, **options)
    [shard] = source.list_shards()
    index = source.index(shard)
    return read_shard(source, shard, index.parts), index.errors


def columns(table: pa.Table, *names: str) -> list[tuple]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
