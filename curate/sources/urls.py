"""Tables of web addresses, whose pictures a step of the run has fetched: they are read from the run directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from curate.errors import CurateError, InputError
from curate.schema import SOURCE_SCHEMA, Status
from curate.sources.base import Part, Shard, ShardIndex, Source
from curate.sources.listing import list_files
from curate.sources.options import SourceOptions
from curate.sources.parquet import ParquetSource
from curate.sources.stores import changed
from curate.sources.table import URL_COLUMNS
from curate.sources.text import CommaSeparated, JsonLines, TextSource
from curate.store import MANIFEST_FILE, RunStore, part_file

DOWNLOAD = "downloads"
"""The step that fetches, and the folder that holds what it fetched."""
TABLE = "table"
"""In the facts of a file of downloads: checksum of the part of the table."""

_TABLES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
_PICTURE_FIRST = {Status.UNREADABLE_ROW.value, Status.MISSING_IMAGE.value, Status.CORRUPT_IMAGE.value}
"""Statuses of rows without an address: there was nothing to fetch."""


@dataclass
class UrlsSource:
    """Tables (Parquet, JSONL, CSV) of web addresses and captions.

    Attributes:
        options: of the input.
        run: the run directory; None: pictures are not read, only the tables.
    """

    options: SourceOptions
    run: str | None
    _numbers: dict[tuple[str, int], int] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_numbers": None}

    def list_shards(self) -> list[Shard]:
        """All tables, sorted by name.

        Raises:
            InputError: nothing matches, the store is out of reach, tables are of several formats, or a column is
                missing.
        """
        shards = list_files(self.options.path, tuple(_TABLES))
        kinds = {_kind_of(shard) for shard in shards}
        if len(kinds) > 1:
            raise InputError(
                f"input.path names tables of several formats ({', '.join(sorted(kinds))}). Name those of one."
            )
        return self._table(shards[0]).list_shards()

    def index(self, shard: Shard) -> ShardIndex:
        """Cut the table into parts and hash them, addresses included. Nothing is fetched.

        Raises:
            CurateError: as the table's own format.
        """
        return self._table(shard).index(shard)

    def addresses(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as `read` gives them, with the address itself as the bytes of `image`."""
        return self._table(shard).read(shard, part, batch_rows)

    def read(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as tables of SOURCE_SCHEMA with at most `batch_rows` rows, in row order.

        Raises:
            CurateError: the table vanished or changed, or its pictures are not in the run directory.
        """
        fetched = self._fetched(part, batch_rows)
        for table in self.addresses(shard, part, batch_rows):
            rows = list(islice(fetched, table.num_rows))
            if len(rows) != table.num_rows:
                raise changed(shard)
            yield _with_pictures(table, rows)

    def _fetched(self, part: Part, batch_rows: int) -> Iterator[tuple[pa.Scalar, str | None]]:
        """Picture and error of every row of a part."""
        if self.run is None:
            raise CurateError(f"{part.shard}: its pictures are in a run directory, which is not known here")
        store = RunStore(self.run)
        name = part_file(DOWNLOAD, self._number(store, part))
        facts = store.read_facts(name)
        if facts is None or facts[TABLE] != part.checksum:
            raise CurateError(f"{store.path(name)}: has not the pictures of {part.shard}; run the pipeline again")
        for batch in store.read_batches(name, batch_rows, ["image", "error"]):
            yield from zip(batch.column("image"), batch.column("error").to_pylist(), strict=True)

    def _number(self, store: RunStore, part: Part) -> int:
        if self._numbers is None:
            parts = store.read_table(MANIFEST_FILE, ["part", "shard", "first_row"]).to_pylist()
            self._numbers = {(each["shard"], each["first_row"]): each["part"] for each in parts}
        number = self._numbers.get((part.shard, part.first_row))
        if number is None:
            raise CurateError(f"{part.shard}: the run directory does not know it; run the pipeline again")
        return number

    def _table(self, shard: Shard) -> Source:
        kind, options = _kind_of(shard), self.options
        if kind == "parquet":
            return ParquetSource(options)
        dialect = JsonLines if kind == "jsonl" else CommaSeparated
        return TextSource(options, dialect(options.columns, options.keep, URL_COLUMNS))


def _kind_of(shard: Shard) -> str:
    name = shard.name.lower()
    for extension, kind in _TABLES.items():
        if name.endswith(extension):
            return kind
    raise InputError(f"input.path: {shard.name} is no table: it does not end in {', '.join(_TABLES)}")


def _with_pictures(table: pa.Table, fetched: list[tuple[pa.Scalar, str | None]]) -> pa.Table:
    """The table with pictures instead of addresses; what could not be fetched is the row's status."""
    statuses, errors = table.column("status").to_pylist(), table.column("error").to_pylist()
    for row, (_, error) in enumerate(fetched):
        if error is not None and statuses[row] not in _PICTURE_FIRST:
            statuses[row], errors[row] = Status.DOWNLOAD_FAILED.value, error
    columns = {
        **{name: table.column(name) for name in SOURCE_SCHEMA.names},
        "status": pa.array(statuses, pa.string()),
        "error": pa.array(errors, pa.string()),
        "image": pa.array([image.as_py() for image, _ in fetched], pa.large_binary()),
    }
    return pa.Table.from_pydict(columns, schema=SOURCE_SCHEMA)
