"""Thumbnails of some pairs, read again from the run's input and decoded like any picture: with limits."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import pyarrow as pa
from PIL import Image

from curate.decoding.guard import GuardedDecoder
from curate.manifest import read_parts
from curate.sources.base import Part, Source
from curate.stages.decode import Decode, DecodeOptions
from curate.store import RunStore

THUMBNAIL_PIXELS = 168
_QUALITY = 78
_WHITE = 255
_ROWS_AT_ONCE = 64


def thumbnails(
    store: RunStore, source: Source, row_ids: Iterable[str], max_pixels: int, side: int = THUMBNAIL_PIXELS
) -> dict[str, bytes]:
    """row_id -> JPEG, square on white; pairs without a readable picture are absent.

    Reads the parts that the pairs are in, nothing else.

    Args:
        store: the run directory, for its manifest.
        source: the run's input as it was.
        row_ids: of the pairs.
        max_pixels: larger pictures are not decoded.
        side: of the square, in pixels.

    Raises:
        CurateError: the input changed since the run, or cannot be read.
        InputError: the input is not there any more.
    """
    wanted = set(row_ids)
    options = DecodeOptions(side, "longest", "bicubic", max_pixels, _WHITE)
    shards = {shard.name: shard for shard in source.list_shards()}
    found: dict[str, bytes] = {}
    with GuardedDecoder(options) as decoder:
        decode = Decode(options, decoder)
        for part in _parts_with(store, wanted):
            if part.shard in shards:
                for batch in source.read(shards[part.shard], part, _ROWS_AT_ONCE):
                    found.update(_of_batch(decode, batch, wanted, side))
    return found


def _parts_with(store: RunStore, wanted: set[str]) -> list[Part]:
    rows_of: dict[str, list[int]] = {}
    for row_id in wanted:
        shard, _, row = row_id.rpartition(":")
        rows_of.setdefault(shard, []).append(int(row))
    return [
        part
        for part in read_parts(store).values()
        if any(part.first_row <= row < part.first_row + part.rows for row in rows_of.get(part.shard, ()))
    ]


def _of_batch(decode: Decode, batch: pa.Table, wanted: set[str], side: int) -> dict[str, bytes]:
    rows = [place for place, row_id in enumerate(batch.column("row_id").to_pylist()) if row_id in wanted]
    if not rows:
        return {}
    chosen = batch.take(pa.array(rows))
    pixels = decode(chosen).column("pixels")
    return {
        row_id: _jpeg(bytes(value.as_buffer()), side)
        for row_id, value in zip(chosen.column("row_id").to_pylist(), pixels, strict=True)
        if value.is_valid
    }


def _jpeg(pixels: bytes, side: int) -> bytes:
    sink = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return sink.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
