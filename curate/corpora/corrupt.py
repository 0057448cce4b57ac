"""Mismatched pairs on purpose: captions of a corpus, or words of them, exchanged, with the truth written beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpora.exchange import Kind, choose_mismatches, unit_rows_for
from curate.corpora.pairs import JSON, TEXT, Row, Shard, find_shards, meaning, parse_object, read_members, read_rows
from curate.corpora.partial import WordChange
from curate.corpora.tar_writer import Progress, ignore_progress, write_bytes, write_tar
from curate.errors import InputError

EmbedCaptions = Callable[[list[str]], npt.NDArray[np.float32]]

TRUTH_FILE = "_truth/truth.parquet"
RECORD_FILE = "_truth/corruption.json"
TRUTH_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("mismatched", pa.bool_(), nullable=False),
        pa.field("original_key", pa.string(), nullable=False),
        pa.field("partner_key", pa.string()),
        pa.field("original_caption", pa.string()),
        pa.field("changed_from", pa.string()),
        pa.field("changed_to", pa.string()),
    ]
)
"""One row for every pair, usable or not: whose caption it has (`original_key`) and whose caption or word it got
(`partner_key`, null where nothing changed). The last three are of kind `partial` and null elsewhere: the caption as it
was, and the words in lower case."""

_VERSION = 2
_CAPTION_FIELDS = frozenset({"alt", "alt_text", "description", "original_caption", "text", "title"})


@dataclass(frozen=True)
class CorruptionReport:
    """What `corrupt` did, or found done.

    Attributes:
        pairs: rows in the corpus.
        usable: rows with an image and a caption; only these take part.
        mismatched: rows whose caption now says something else (white space and case aside).
        asked_rate: share of the usable rows that was to be mismatched.
        reached_rate: share of the usable rows that is; lower where too few captions or words can be exchanged.
        shards: tar files written.
        truth: the Parquet file with one row for every pair.
        already_done: the folder held this very corruption, nothing was written.
    """

    pairs: int
    usable: int
    mismatched: int
    asked_rate: float
    reached_rate: float
    shards: int
    truth: Path
    already_done: bool


def corrupt(
    inputs: Sequence[str],
    out: Path,
    *,
    kind: Kind,
    rate: float,
    seed: int = 0,
    category_field: str = "category",
    embed_captions: EmbedCaptions | None = None,
    progress: Progress = ignore_progress,
) -> CorruptionReport:
    """Exchange captions, or words of them, among pairs of WebDataset tars, so that a known share is mismatched.

    Both are exchanged, never copied: the corpus keeps every caption or word as often as it had it. Shards keep their
    names and their members' order; images are untouched. Memory holds captions, never more than one image.

    Args:
        inputs: glob patterns (`**` goes down folders), uncompressed tar files, or folders with *.tar at any depth.
        out: a new or empty folder for the shards and `_truth/truth.parquet`.
        kind: `random` exchanges among all pairs; `category` among pairs whose JSON has the same value in
            `category_field`; `nearest` exchanges with the nearest caption whose cosine is in `NEAREST_COSINES`;
            `partial` exchanges one number, colour, attribute or object word of the caption.
        rate: share of the usable pairs to mismatch, between 0 and 1, both excluded.
        seed: another seed chooses other pairs and partners.
        category_field: top-level field of each pair's JSON member, for kind `category`.
        embed_captions: unit-norm embeddings, one row a caption, for kind `nearest`.
        progress: called with (description, done, total); tar files or pairs.

    Raises:
        InputError: a setting is out of range, nothing matches, a tar is malformed, no pair can take part, or `out` is
            an input folder or holds something else.
        CurateError: `embed_captions` returned something that is not one unit vector for each caption.
    """
    request = _Request(kind, rate, seed, category_field if kind == "category" else None)
    _check(request, embed_captions)
    shards = find_shards(inputs)
    _refuse_input_folder(out, shards)
    settings = request.settings(shards, progress)
    if _is_done(out, settings):
        return _report(out, rate, already_done=True)

    rows = read_rows(shards, progress)
    usable = [row for row in rows if row.usable]
    if len(usable) < 2:
        raise InputError(f"{len(usable)} of {len(rows)} pairs have an image and a caption: at least 2 are needed")
    changes = _choose_changes(usable, request, embed_captions, progress)
    write_bytes(out / RECORD_FILE, _record_json(settings, complete=False))
    _write_shards(out, shards, rows, changes, progress)
    _write_truth(out, rows, changes, request)
    write_bytes(out / RECORD_FILE, _record_json(settings, complete=True))
    return _report(out, rate, already_done=False)


# --- what was asked for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Request:
    kind: Kind
    rate: float
    seed: int
    category_field: str | None

    def settings(self, shards: Sequence[Shard], progress: Progress) -> dict[str, Any]:
        """Everything the output depends on."""
        checksums = {}
        for done, shard in enumerate(shards):
            progress("checksums", done, len(shards))
            checksums[shard.name] = _checksum(shard.path)
        progress("checksums", len(shards), len(shards))
        return {
            "version": _VERSION,
            "kind": self.kind,
            "rate": self.rate,
            "seed": self.seed,
            "category_field": self.category_field,
            "inputs": checksums,
        }


def _check(request: _Request, embed_captions: EmbedCaptions | None) -> None:
    if request.kind not in get_args(Kind):
        raise InputError(f"kind is {request.kind!r}: choose one of {', '.join(get_args(Kind))}")
    if not 0 < request.rate < 1:
        raise InputError(f"rate is {request.rate}: give the share of pairs to mismatch, between 0 and 1")
    if request.kind == "nearest" and embed_captions is None:
        raise InputError("kind nearest compares captions and needs a text tower: pip install 'curate[offline]'")


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_input_folder(out: Path, shards: Sequence[Shard]) -> None:
    for shard in shards:
        if (out / shard.name).resolve() == shard.path.resolve() or out.resolve() == shard.path.resolve().parent:
            raise InputError(f"{out} is where {shard.path.name} is read from: give another folder for the result")


def _is_done(out: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds the finished result; False if it is empty or holds an unfinished one.

    Raises:
        InputError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder for the result")
    record = _read_record(out)
    if record is None and out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: give a new folder for the result")
    if record is None:
        return False
    complete = record.pop("complete", None)
    if record != settings:
        raise InputError(f"{out} holds a corruption with other {_differences(record, settings)}: give a new folder")
    return bool(complete) and all((out / name).is_file() for name in (*settings["inputs"], TRUTH_FILE))


def _read_record(out: Path) -> dict[str, Any] | None:
    path = out / RECORD_FILE
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a new folder") from error


def _record_json(settings: Mapping[str, Any], *, complete: bool) -> bytes:
    return (json.dumps({**settings, "complete": complete}, indent=2) + "\n").encode()


def _differences(record: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    fields = sorted(name for name in settings.keys() | record.keys() if record.get(name) != settings.get(name))
    simple = [f"{name} ({record.get(name)}, not {settings.get(name)})" for name in fields if name != "inputs"]
    return ", ".join(simple + ["inputs"] * ("inputs" in fields))


# --- choosing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """What a pair's caption became, and whose caption or word it got; `word` only if one word was exchanged."""

    caption: str
    partner: Row
    mismatched: bool
    word: WordChange | None


def _choose_changes(
    usable: Sequence[Row], request: _Request, embed_captions: EmbedCaptions | None, progress: Progress
) -> dict[str, _Change]:
    """The changes by row id."""
    pairs = [row.pair(request.category_field) for row in usable]
    if request.category_field is not None and all(pair.category is None for pair in pairs):
        raise _no_category(usable, request.category_field)
    vectors = None
    if request.kind == "nearest" and embed_captions is not None:
        vectors = _embed(embed_captions, [pair.caption for pair in pairs])
    chosen = choose_mismatches(pairs, request.kind, request.rate, request.seed, vectors, progress)
    return {
        row.row_id: _Change(chosen.captions[i], usable[partner], bool(chosen.mismatched[i]), chosen.word_changes[i])
        for i, (row, partner) in enumerate(zip(usable, chosen.partners.tolist(), strict=True))
        if partner >= 0
    }


def _no_category(rows: Sequence[Row], category_field: str) -> InputError:
    fields = sorted({name for row in rows for name in row.description})
    return InputError(
        f"no pair has a field {category_field!r} in its JSON member: "
        + (f"choose one of {', '.join(fields)}" if fields else "there are no JSON members, use another kind")
    )


def _embed(embed: EmbedCaptions, captions: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embeddings float32 [n, d]; captions that mean the same are embedded once."""
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(meaning(caption), len(numbers)) for caption in captions]
    texts = dict(zip(reversed(rows), (caption.strip() for caption in reversed(captions)), strict=True))
    vectors = embed([texts[number] for number in range(len(numbers))])
    return unit_rows_for(len(numbers), vectors, "embed_captions returned")[rows]


# --- writing ---------------------------------------------------------------------------------------------------------


def _write_shards(
    out: Path, shards: Sequence[Shard], rows: Sequence[Row], changes: Mapping[str, _Change], progress: Progress
) -> None:
    by_place = {(row.shard, row.row): row for row in rows}
    for done, shard in enumerate(shards):
        progress("writing shards", done, len(shards))
        write_tar(out / shard.name, _corrupted_members(shard, by_place, changes))
    progress("writing shards", len(shards), len(shards))


def _corrupted_members(
    shard: Shard, by_place: Mapping[tuple[str, int], Row], changes: Mapping[str, _Change]
) -> Iterator[tuple[str, bytes]]:
    for number, slot, name, content in read_members(shard):
        row = None if number is None else by_place[shard.name, number]
        change = None if row is None else changes.get(row.row_id)
        if change is not None and slot == TEXT:
            content = change.caption.encode("utf-8")
        elif row is not None and slot == JSON:
            content = _rewritten_json(content, row, change)
        yield name, content


def _rewritten_json(content: bytes, row: Row, change: _Change | None) -> bytes:
    """The JSON member with its caption changed. All are written alike: layout must not tell which were changed."""
    description = parse_object(content)
    if description is None:
        return content
    if change is not None:
        description = {
            name: change.caption if _holds_caption(name, value, row) else value for name, value in description.items()
        }
    return (json.dumps(description, indent=4) + "\n").encode()


def _holds_caption(name: str, value: object, row: Row) -> bool:
    """The field `caption`, and fields that repeat it. A category or keyword that reads the same stays: it is truth."""
    if name == "caption":
        return True
    repeats = isinstance(value, str) and meaning(value) == meaning(row.text)
    return repeats and name.lower() in _CAPTION_FIELDS


def _write_truth(out: Path, rows: Sequence[Row], changes: Mapping[str, _Change], request: _Request) -> None:
    truth = pa.Table.from_pylist(
        [_truth_of(row, changes.get(row.row_id), request.kind) for row in rows],
        schema=TRUTH_SCHEMA.with_metadata({"usable": str(sum(row.usable for row in rows))}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(truth, sink)
    write_bytes(out / TRUTH_FILE, sink.getvalue().to_pybytes())


def _truth_of(row: Row, change: _Change | None, kind: Kind) -> dict[str, Any]:
    """A row of the truth; columns that it leaves out are null."""
    truth = {"row_id": row.row_id, "key": row.key, "kind": kind, "mismatched": False, "original_key": row.key}
    if change is None:
        return truth
    truth |= {"mismatched": change.mismatched, "partner_key": change.partner.key}
    if change.word is None:
        return truth | {"original_key": change.partner.key}
    words = {"changed_from": change.word.changed_from, "changed_to": change.word.changed_to}
    return truth | words | {"original_caption": row.text}


def _report(out: Path, rate: float, *, already_done: bool) -> CorruptionReport:
    truth = pq.read_table(out / TRUTH_FILE)
    usable = int(truth.schema.metadata[b"usable"])
    mismatched = sum(truth.column("mismatched").to_pylist())
    shards = json.loads((out / RECORD_FILE).read_bytes())["inputs"]
    return CorruptionReport(
        pairs=len(truth),
        usable=usable,
        mismatched=mismatched,
        asked_rate=rate,
        reached_rate=mismatched / usable,
        shards=len(shards),
        truth=out / TRUTH_FILE,
        already_done=already_done,
    )
