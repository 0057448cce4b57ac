"""Reads hostile inputs as a run would, and compares what comes out with what was promised."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.bench.hostile.archives import ARCHIVES
from curate.bench.hostile.captions import CAPTIONS
from curate.bench.hostile.inputs import (
    MAYBE_DECODABLE,
    Damage,
    Group,
    Hostile,
    HostileFile,
    HostilePair,
    HostilePipeline,
)
from curate.bench.hostile.pictures import PICTURES, four_quarters, noise_picture, saved
from curate.bench.hostile.pillow import status_by_pillow
from curate.bench.hostile.pipelines import PIPELINES
from curate.bench.hostile.tables import TABLES
from curate.config import parse_config
from curate.corpora.tar_writer import new_tar
from curate.errors import InputError
from curate.schema import HAS_PICTURE, Status
from curate.sources import open_source
from curate.sources.options import Format, SourceOptions
from curate.stages.decode import Decode, DecodeOptions

DAMAGES: dict[str, Damage] = {
    f"{damage.group}: {damage.name}": damage for damage in (*PICTURES, *CAPTIONS, *ARCHIVES, *TABLES, *PIPELINES)
}
"""Every kind of damage by group and name."""

Verdict = Literal["promised", "wrong", "crash", "hang", "outside"]

_SIDE = 64
_DECODE = Decode(DecodeOptions(size=_SIDE, resize_mode="squash"))
_FORMATS: dict[str, Format] = {
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
_CLEAN_PAIRS = 8
_COLOUR_TOLERANCE = 24
_LONGEST_ERROR = 2000
# What must not depend on the rows around.
_OWN = ("key", "caption", "caption_bytes", "status", "error", "duplicate_key", "fields")
_OWN_OF_PICTURE = ("pixels", "width", "height", "image_sha256")


@dataclass(frozen=True)
class Drawn:
    """One hostile input, as what it can be drawn again from.

    Attributes:
        kind: key of DAMAGES.
        seed: of the draw.
    """

    kind: str
    seed: str

    def build(self) -> Hostile:
        """The input itself."""
        return DAMAGES[self.kind].build(random.Random(self.seed))

    @property
    def group(self) -> Group:
        return DAMAGES[self.kind].group


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        drawn: the input.
        verdict: promised, or what else.
        detail: what was wrong; empty where nothing was.
    """

    drawn: Drawn
    verdict: Verdict
    detail: str = ""


def examine(inputs: Sequence[Drawn], folder: Path) -> list[Outcome]:
    """Read inputs of one group: pairs together in one shard between clean pairs, others one by one.

    Args:
        inputs: of one group.
        folder: empty; everything is written here.
    """
    if inputs[0].group in ("picture", "caption"):
        return _examine_pairs(inputs, folder)
    return [_examine_one(drawn, folder, number) for number, drawn in enumerate(inputs)]


def _examine_one(drawn: Drawn, folder: Path, number: int) -> Outcome:
    built = drawn.build()
    try:
        if isinstance(built, HostilePipeline):
            wrong = _wrong_with_pipeline(built, folder)
        else:
            assert isinstance(built, HostileFile), "pairs are read together"
            wrong = _wrong_with_file(built, folder / f"input-{number:05d}{built.suffix}")
    except Exception as error:  # noqa: BLE001 - whatever a hostile input makes it raise is what is looked for
        return Outcome(drawn, "crash", _told(error))
    return Outcome(drawn, "wrong" if wrong else "promised", wrong)


# Pairs.


def clean_pairs() -> list[HostilePair]:
    """Pairs with nothing wrong about them, always the same."""
    draw = random.Random("clean")
    pairs = []
    for number in range(_CLEAN_PAIRS):
        caption = f"clean picture number {number}"
        picture = saved(noise_picture(draw) if number else four_quarters(), draw.choice(["PNG", "JPEG"]))
        pairs.append(HostilePair((("png", picture), ("txt", caption.encode())), caption=caption))
    return pairs


def write_pairs(file: Path, pairs: Sequence[tuple[str, HostilePair]]) -> None:
    """A shard of pairs by key."""
    with new_tar(file) as add:
        for key, pair in pairs:
            for extension, content in pair.members:
                add(f"{key}.{extension}", content)


def _examine_pairs(inputs: Sequence[Drawn], folder: Path) -> list[Outcome]:
    clean = [(f"clean{number}", pair) for number, pair in enumerate(clean_pairs())]
    hostile = [(f"hostile{number}", drawn.build()) for number, drawn in enumerate(inputs)]
    mixed = mixed_with(clean, [(key, pair) for key, pair in hostile if isinstance(pair, HostilePair)])
    try:
        alone = {row["key"]: row for row in _decoded_rows(_written(folder / "clean.tar", clean), 1000)}
        rows = _decoded_rows(_written(folder / "mixed.tar", mixed), 7)
    except Exception as error:  # noqa: BLE001 - whatever a hostile input makes it raise is what is looked for
        return [Outcome(drawn, "crash", _told(error)) for drawn in inputs]
    if [row["key"] for row in rows] != [key for key, _ in mixed]:
        return [Outcome(drawn, "wrong", "rows are missing, doubled or out of order") for drawn in inputs]
    changed = [row["key"] for row in rows if row["key"] in alone and _own(row) != _own(alone[row["key"]])]
    if changed:
        return [Outcome(drawn, "wrong", f"clean rows changed: {', '.join(changed)}") for drawn in inputs]
    by_key = {row["key"]: row for row in rows}
    return [
        Outcome(drawn, "wrong" if (wrong := wrong_with_row(pair, by_key[key])) else "promised", wrong)
        for drawn, (key, pair) in zip(inputs, hostile, strict=True)
        if isinstance(pair, HostilePair)
    ]


def mixed_with(
    clean: Sequence[tuple[str, HostilePair]], hostile: Sequence[tuple[str, HostilePair]]
) -> list[tuple[str, HostilePair]]:
    """The clean pairs spread evenly among the hostile ones."""
    mixed = list(hostile)
    for number, pair in enumerate(clean):
        mixed.insert(number * (len(hostile) + len(clean)) // len(clean), pair)
    return mixed


def wrong_with_row(pair: HostilePair, row: dict[str, Any]) -> str:
    """What is not as promised about a decoded row; empty: nothing."""
    status = Status(row["status"])
    promised = promised_statuses(pair)
    if status not in promised:
        return f"status {status.value} ({row['error']}), promised {_names(promised)}"
    if (row["error"] is None) != (status is Status.OK):
        return f"status {status.value} with error {row['error']!r}"
    found = row["caption"] if row["caption_bytes"] is None else row["caption_bytes"]
    if found != pair.caption:
        return f"caption {found!r:.80}, promised {pair.caption!r:.80}"
    if "pixels" in row and (row["pixels"] is not None) != (status in HAS_PICTURE):
        return f"status {status.value}, but pixels are {'there' if row['pixels'] else 'null'}"
    if pair.corners is not None and "pixels" in row:
        return _wrong_with_corners(pair.corners, row["pixels"])
    return ""


def promised_statuses(pair: HostilePair) -> frozenset[Status]:
    """What the row must have; whether a picture with changed bytes still is one is asked of Pillow alone."""
    if pair.statuses != MAYBE_DECODABLE:
        return pair.statuses
    (_, picture), *_others = pair.members
    return frozenset({status_by_pillow(picture, _DECODE.options.max_pixels)})


def _wrong_with_corners(corners: tuple[tuple[int, int, int], ...], pixels: bytes) -> str:
    image = np.frombuffer(pixels, np.uint8).reshape(_SIDE, _SIDE, 3).astype(int)
    places = [(_SIDE // 4 + _SIDE // 2 * top, _SIDE // 4 + _SIDE // 2 * left) for top in (0, 1) for left in (0, 1)]
    found = np.array([image[place] for place in places])
    if np.abs(found - np.array(corners)).max() > _COLOUR_TOLERANCE:
        return f"colours {found.tolist()}, promised {corners}"
    return ""


# Files.


def _wrong_with_file(expected: HostileFile, file: Path) -> str:
    file.write_bytes(expected.content)
    try:
        rows, errors = _read(file, 1000)
        cut, errors_of_cut = _read(file, 3)
    except InputError as error:
        allowed = expected.refused or (expected.rows is None and file.suffix != ".tar")
        return "" if allowed and str(error) else f"refused: {_told(error)}"
    if expected.refused:
        return "it was not refused"
    if (rows, errors) != (cut, errors_of_cut):
        return "rows or errors depend on the cut"
    if any(not error or len(error) > _LONGEST_ERROR for error in errors):
        return "an error says nothing, or too much"
    if expected.errors is not None and bool(errors) != expected.errors:
        return f"shard errors: {errors}"
    if expected.rows is None:
        return ""
    if [row["key"] for row in rows] != [row.key for row in expected.rows]:
        return f"{len(rows)} rows {[row['key'] for row in rows][:5]}, promised {len(expected.rows)}"
    statuses = [(row["status"], promised.statuses) for row, promised in zip(rows, expected.rows, strict=True)]
    return next((f"status {one}, promised {_names(of)}" for one, of in statuses if Status(one) not in of), "")


def _read(file: Path, part_rows: int) -> tuple[list[dict[str, Any]], list[str]]:
    source = open_source(SourceOptions(_FORMATS["".join(file.suffixes)], (str(file),), part_rows))
    (shard,) = source.list_shards()
    index = source.index(shard)
    tables = [table for part in index.parts for table in source.read(shard, part, 64)]
    return [row for table in tables for row in _decoded(table)], [error.error for error in index.errors]


def _wrong_with_pipeline(expected: HostilePipeline, folder: Path) -> str:
    canary = folder / "canary"
    try:
        parse_config(expected.text.replace("{canary}", str(canary)), "p.yaml")
    except InputError as error:
        if not str(error).startswith("p.yaml") or len(str(error)) > _LONGEST_ERROR:
            return f"the message has no place, or no end: {_told(error)}"
        return "it was executed" if canary.exists() else ""
    return "it was not refused"


# Reading.


def _written(file: Path, pairs: Sequence[tuple[str, HostilePair]]) -> Path:
    write_pairs(file, pairs)
    return file


def _decoded_rows(file: Path, part_rows: int) -> list[dict[str, Any]]:
    return _read(file, part_rows)[0]


def _decoded(table: pa.Table) -> Iterator[dict[str, Any]]:
    made = _DECODE(table)
    kept = table.drop_columns(["image", *(name for name in made.column_names if name in table.column_names)])
    for one, other in zip(kept.to_pylist(), made.to_pylist(), strict=True):
        yield {**one, **other}


def _own(row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in (*_OWN, *_OWN_OF_PICTURE)]


def _names(statuses: frozenset[Status]) -> str:
    return " or ".join(sorted(status.value for status in statuses))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
