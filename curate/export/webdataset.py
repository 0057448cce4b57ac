"""Chosen pairs as WebDataset shards in img2dataset's layout, which open_clip and webdataset read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpora.tar_writer import write_bytes, write_tar
from curate.export.selection import Selection, chosen_columns, selected_parts
from curate.pairs import pairs_with_images
from curate.schema import Status
from curate.sources.base import Source
from curate.store import RunStore

SIZES_FILE = "sizes.json"
_BYTES_COLUMN = "caption_bytes"
_KINDS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)

Member = tuple[str, bytes]


def export_webdataset(
    store: RunStore, source: Source, folder: Path, selection: Selection, pairs_per_shard: int
) -> dict[str, int]:
    """Write `00000.tar`, ... and `sizes.json`, which open_clip's trainer reads; says how many pairs each tar holds.

    A pair's members are its picture's bytes as they came, `.txt` with the caption and `.json` with its annotations.
    Pairs without a usable picture or caption are left out: a trainer could do nothing with them. Keys are numbered
    anew, as img2dataset's are; the pair's own key and row_id are in the .json.

    Args:
        store: the run directory.
        source: the run's input as it was.
        folder: exists.
        selection: which pairs, caption and columns (of the .json).
        pairs_per_shard: at most.

    Raises:
        InputError: the selection does not fit the annotations, or the input is gone.
        CurateError: the input changed since the run.
        OSError: the folder cannot be written.
    """
    pairs = _pairs(store, source, selection)
    sizes: dict[str, int] = {}
    while (first := next(pairs, None)) is not None:
        name = f"{len(sizes):05d}"
        shard = _Shard(name, chain([first], islice(pairs, pairs_per_shard - 1)))
        write_tar(folder / f"{name}.tar", shard.members())
        sizes[f"{name}.tar"] = shard.size
    write_bytes(folder / SIZES_FILE, (json.dumps(sizes, indent=1) + "\n").encode())
    return sizes


class _Shard:
    """The members of one shard, made while the tar is written: never more than one picture is in memory."""

    def __init__(self, name: str, pairs: Iterable[tuple[bytes, dict[str, Any]]]) -> None:
        self._name, self._pairs = name, pairs
        self.size = 0

    def members(self) -> Iterator[Member]:
        for image, record in self._pairs:
            key = f"{self._name}{self.size:04d}"
            self.size += 1
            yield f"{key}.{extension(image)}", image
            yield f"{key}.txt", str(record["caption"]).encode()
            yield f"{key}.json", json.dumps(record, ensure_ascii=False).encode()


def extension(image: bytes) -> str:
    """By its first bytes; "jpg" for what is none of the formats that curate decodes."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in _KINDS if image.startswith(start)), "jpg")


def _pairs(store: RunStore, source: Source, selection: Selection) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """(bytes of the picture, annotations), in input order."""
    chosen = ((number, _usable(table, selection.columns)) for number, table in selected_parts(store, selection))
    for image, record in pairs_with_images(store, source, chosen):
        assert image is not None, "a usable pair has a picture"
        yield image, record


def _usable(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Pairs with picture and caption, and what their records hold."""
    usable = table.filter(pc.equal(table.column("status"), Status.OK.value))
    wanted = None if columns is None else list(dict.fromkeys(["key", "row_id", "caption", *columns]))
    kept = chosen_columns(usable, wanted)
    return kept.drop_columns([_BYTES_COLUMN]) if _BYTES_COLUMN in kept.column_names else kept
