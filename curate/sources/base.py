"""What every source promises: list shards, index each once, read any part of one again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Shard:
    """One input file.

    Attributes:
        name: path relative to the fixed prefix of the input pattern, with "/" separators; unique in the input.
        uri: where to open it (local path or fsspec URL). Never written into the run's data files.
        size: bytes.
        stamp: size with mtime or etag; equal stamps mean the content need not be read again to know its checksum.
    """

    name: str
    uri: str
    size: int
    stamp: str


@dataclass(frozen=True)
class ShardError:
    """Something in a shard that could not become a row (a tar that ends in the middle of a member).

    Attributes:
        shard: name of the shard.
        offset: byte position where the trouble starts.
        error: what is wrong, for a person.
    """

    shard: str
    offset: int
    error: str


@dataclass(frozen=True)
class Part:
    """A piece of one shard: rows [first_row, first_row + rows) stored in bytes [start, end).

    Attributes:
        shard: name of the shard.
        first_row: index in the shard of the part's first pair.
        rows: number of pairs.
        start, end: byte range to read for them. For formats without byte ranges (Parquet), 0 and the file size.
        checksum: hex digest of everything the part's pairs are made from.
        duplicate_rows: rows of this part (counted from the shard's start) whose key the shard has more than once.
    """

    shard: str
    first_row: int
    rows: int
    start: int
    end: int
    checksum: str
    duplicate_rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardIndex:
    """What one reading of a shard found: its parts in row order, and what could not become a row."""

    parts: tuple[Part, ...]
    errors: tuple[ShardError, ...]


class Source(Protocol):
    """Reads one input format. Instances are small, immutable and picklable: they travel to workers."""

    def list_shards(self) -> list[Shard]:
        """All shards, sorted by name.

        Raises:
            InputError: nothing matches the configured path, or the store cannot be reached.
        """
        ...

    def index(self, shard: Shard) -> ShardIndex:
        """Read the shard once: checksums, cut into parts of at most `part_rows` pairs, errors.

        Bad content becomes errors and statuses.

        Raises:
            CurateError: the shard vanished or changed since it was listed, or its store cannot be reached.
        """
        ...

    def read(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as tables of SOURCE_SCHEMA with at most `batch_rows` rows, in row order.

        Raises:
            CurateError: the shard vanished or its stamp is not the indexed one any more.
        """
        ...
