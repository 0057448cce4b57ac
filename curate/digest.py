"""Digests of files as they were written: of the whole file, and of a Parquet file's content, kept in the file itself.

A Parquet file of a run carries a digest of all its bytes before the footer and of its facts, so that an edited value
is found without any other file. That it has one is said twice: whoever rewrites the file with its metadata keeps the
promise and loses the digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

FACTS_KEY = b"curate"
SIGNED_KEY = b"curate.signed"
DIGEST_KEY = b"curate.digest"
DIGEST_BYTES = 16
_METHOD = b"blake2b-128 of what stands before the footer, then of the facts"
_CHUNK = 1 << 20
_MAGIC = b"PAR1"
# Length of the footer and the magic number.
_TAIL = 8


def digest_of(data: bytes) -> str:
    """128-bit hex digest of bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    """The same of a file from where it stands, a piece at a time."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()


def signed_parquet(table: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """A Parquet file with checksums of its pages, `facts` as JSON in its schema metadata, and its content's digest."""
    text = json.dumps(facts, sort_keys=True).encode()
    signed = table.replace_schema_metadata({FACTS_KEY: text, SIGNED_KEY: _METHOD})
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, signed.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(signed)
        # All row groups are written: what follows is the footer.
        hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
        with sink.getbuffer() as written:
            hasher.update(written)
        hasher.update(text)
        writer.add_key_value_metadata({DIGEST_KEY: hasher.hexdigest().encode()})
    return sink.getvalue()


@dataclass(frozen=True)
class ParquetDigests:
    """Digests of a Parquet file as it is now.

    Attributes:
        whole: of all its bytes.
        content: of what stands before the footer and of its facts.
    """

    whole: str
    content: str


def digests_of_parquet(file: BinaryIO, facts: bytes) -> ParquetDigests:
    """Digests of a Parquet file whose schema metadata holds these facts, a piece at a time.

    Raises:
        ValueError: it does not end as a Parquet file does.
    """
    left = _footer_start(file)
    file.seek(0)
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise ValueError("ends before its footer")
        hasher.update(chunk)
        left -= len(chunk)
    content = hasher.copy()
    content.update(facts)
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
    return ParquetDigests(hasher.hexdigest(), content.hexdigest())


def _footer_start(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    if size < _TAIL + len(_MAGIC):
        raise ValueError("too short for a Parquet file")
    file.seek(size - _TAIL)
    footer, magic = struct.unpack("<I4s", file.read(_TAIL))
    start: int = size - _TAIL - footer
    if magic != _MAGIC or start < len(_MAGIC):
        raise ValueError("does not end as a Parquet file does")
    return start


def promised_digest(schema: Mapping[bytes, bytes], footer: Mapping[bytes, bytes]) -> str | None:
    """The content's digest that a Parquet file carries; None: an earlier version wrote it, without one.

    Args:
        schema: metadata of its Arrow schema.
        footer: its key-value metadata.

    Raises:
        ValueError: it says that it has one, but has none.
    """
    digest = footer.get(DIGEST_KEY)
    if digest is None and SIGNED_KEY in schema:
        raise ValueError("was written anew by another program: its digest is gone")
    return None if digest is None else digest.decode("ascii", "replace")
