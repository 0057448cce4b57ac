"""Mismatched pairs on purpose: captions of a corpus exchanged among its pairs, with the truth written beside it."""

from __future__ import annotations

import glob
import hashlib
import json
import random
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpora.tar_writer import Progress, ignore_progress, write_bytes, write_tar
from curate.errors import CurateError, InputError
from curate.schema import row_id
from curate.sources.webdataset import IMAGE_EXTENSIONS, split_name

Kind = Literal["random", "category", "nearest"]
EmbedCaptions = Callable[[list[str]], npt.NDArray[np.float32]]

NEAREST_COSINES = (0.5, 0.9)
"""Partners of kind `nearest` have captions whose embeddings' cosine lies in this closed interval."""

TRUTH_FILE = "_truth/truth.parquet"
RECORD_FILE = "_truth/corruption.json"
TRUTH_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("mismatched", pa.bool_(), nullable=False),
        pa.field("original_key", pa.string(), nullable=False),
    ]
)

_VERSION = 1
_IMAGE, _TEXT, _JSON = "image", "txt", "json"
_SLOTS = {**dict.fromkeys(IMAGE_EXTENSIONS, _IMAGE), _TEXT: _TEXT, _JSON: _JSON}
_SIMILARITY_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class CorruptionReport:
    """What `corrupt` did, or found done.

    Attributes:
        pairs: rows in the corpus.
        usable: rows with an image and a caption; only these take part.
        mismatched: rows whose caption now says something else (white space and case aside).
        asked_rate: share of the usable rows that was to be mismatched.
        reached_rate: share of the usable rows that is; lower where too few captions can be exchanged.
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
    """Exchange captions among pairs of WebDataset tars, so that a known share of pairs is mismatched.

    Captions are exchanged, never copied: the corpus keeps every caption as often as it had it. Shards keep their names
    and their members' order; images are untouched. Memory holds captions, never more than one image.

    Args:
        inputs: glob patterns (`**` goes down folders), uncompressed tar files, or folders with *.tar at any depth.
        out: a new or empty folder for the shards and `_truth/truth.parquet`.
        kind: `random` exchanges among all pairs; `category` among pairs whose JSON has the same value in
            `category_field`; `nearest` exchanges with the nearest caption whose cosine lies in NEAREST_COSINES.
        rate: share of the usable pairs to mismatch, between 0 and 1, both excluded.
        seed: another seed chooses other pairs and partners.
        category_field: top-level field of each pair's JSON member, for kind `category`.
        embed_captions: unit-norm embeddings, one row a caption, for kind `nearest`.
        progress: called with (description, done, total); tar files.

    Raises:
        InputError: a setting is out of range, nothing matches, a tar is malformed, no pair can take part, or `out` is
            an input folder or holds something else.
        CurateError: `embed_captions` returned something that is not one unit vector for each caption.
    """
    request = _Request(kind, rate, seed, category_field if kind == "category" else None)
    _check(request, embed_captions)
    shards = _find_shards(inputs)
    _refuse_input_folder(out, shards)
    settings = request.settings(shards, progress)
    if _is_done(out, settings):
        return _report(out, rate, already_done=True)

    rows = [row for number, shard in enumerate(shards) for row in _read_rows(shard, number, len(shards), progress)]
    usable = [row for row in rows if row.usable]
    if len(usable) < 2:
        raise InputError(f"{len(usable)} of {len(rows)} pairs have an image and a caption: at least 2 are needed")
    sources = _choose_exchange(usable, request, embed_captions, progress)
    write_bytes(out / RECORD_FILE, _record_json(settings, complete=False))
    _write_shards(out, shards, rows, sources, progress)
    _write_truth(out, rows, sources, request)
    write_bytes(out / RECORD_FILE, _record_json(settings, complete=True))
    return _report(out, rate, already_done=False)


# --- what was asked for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    """An input tar; `name` is its path below the fixed part of the pattern, as sources name shards."""

    name: str
    path: Path


@dataclass(frozen=True)
class _Request:
    kind: Kind
    rate: float
    seed: int
    category_field: str | None

    def settings(self, shards: Sequence[_Shard], progress: Progress) -> dict[str, Any]:
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

    def generator(self) -> random.Random:
        return random.Random(f"curate corrupt {self.kind} {self.rate!r} {self.seed}")


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


def _find_shards(patterns: Sequence[str]) -> list[_Shard]:
    shards: dict[str, _Shard] = {}
    for pattern in patterns:
        pattern = f"{pattern.rstrip('/')}/**/*.tar" if Path(pattern).is_dir() else pattern
        prefix = _fixed_prefix(pattern)
        paths = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
        if not paths:
            raise InputError(f"no file matches {pattern}: give WebDataset tars, such as 'data/*.tar'")
        for path in paths:
            name = path.relative_to(prefix).as_posix()
            if name in shards and shards[name].path.resolve() != path.resolve():
                raise InputError(f"{shards[name].path} and {path} would both become {name}: corrupt them one by one")
            shards[name] = _Shard(name, path)
    if not shards:
        raise InputError("no input given: give WebDataset tars, such as 'data/*.tar'")
    return [shards[name] for name in sorted(shards)]


def _fixed_prefix(pattern: str) -> Path:
    """The folders of a pattern before the first with a wildcard."""
    folders = Path(pattern).parent.parts
    fixed = next((i for i, part in enumerate(folders) if glob.has_magic(part)), len(folders))
    return Path(*folders[:fixed])


def _refuse_input_folder(out: Path, shards: Sequence[_Shard]) -> None:
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


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """What is kept of a pair: never its image.

    Attributes:
        shard, row, key: which pair it is.
        caption: the text member as it came, else the caption in the JSON member; None if there is neither.
        description: the parsed JSON member; empty if there is none or it is not an object.
        usable: it has an image, a caption in UTF-8, and no JSON member that cannot be parsed.
    """

    shard: str
    row: int
    key: str
    caption: bytes | None
    description: Mapping[str, Any]
    usable: bool

    @property
    def text(self) -> str:
        return (self.caption or b"").decode("utf-8")

    @property
    def row_id(self) -> str:
        return row_id(self.shard, self.row)

    @property
    def meaning(self) -> str:
        """Captions with the same meaning are not worth exchanging."""
        return self.text.strip().casefold()


def _read_rows(shard: _Shard, number: int, total: int, progress: Progress) -> list[_Row]:
    progress("reading captions", number, total)
    members: dict[_Place, dict[str, bytes]] = defaultdict(dict)
    with _opened(shard) as archive:
        for place, slot, header in _placed_members(archive, shard):
            if place is not None:
                # Of an image only the fact that it is not empty is kept.
                content = b"x" * (header.size > 0) if slot == _IMAGE else _content(archive, header, shard)
                members[place][slot] = content
    progress("reading captions", number + 1, total)
    return [_row(shard.name, place, members[place]) for place in sorted(members)]


def _row(shard: str, place: _Place, members: Mapping[str, bytes]) -> _Row:
    description = _parse_object(members.get(_JSON, b"{}"))
    caption = members.get(_TEXT, _caption_in_json(description))
    # A JSON member that cannot be parsed may hold the old caption where it can't be replaced.
    usable = bool(members.get(_IMAGE)) and _has_text(caption) and description is not None
    return _Row(shard, place.row, place.key, caption, description or {}, usable)


def _caption_in_json(description: Mapping[str, Any] | None) -> bytes | None:
    caption = (description or {}).get("caption")
    # JSON can hold halves of surrogate pairs, which no UTF-8 can; the pair is then left as it is.
    return caption.encode("utf-8", errors="surrogatepass") if isinstance(caption, str) else None


def _has_text(caption: bytes | None) -> bool:
    try:
        return bool(caption and caption.decode("utf-8").strip())
    except UnicodeDecodeError:
        return False


def _parse_object(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


@dataclass(frozen=True, order=True)
class _Place:
    """A pair's row in its shard, and its key."""

    row: int
    key: str


@contextmanager
def _opened(shard: _Shard) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(shard.path, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise _malformed(shard, str(error)) from error


def _placed_members(archive: tarfile.TarFile, shard: _Shard) -> Iterator[tuple[_Place | None, str, tarfile.TarInfo]]:
    """The regular files of a tar in their order, each with its pair and slot (None and "" if it belongs to no pair).

    Rows are numbered as the WebDataset source does: by the first appearance of their key; a second image, text or JSON
    member of a key begins another row.
    """
    places: dict[str, _Place] = {}
    taken: set[tuple[_Place, str]] = set()
    rows = 0
    for header in archive:
        if not header.isreg():
            continue
        key, extension = split_name(header.name) or ("", "")
        slot = _SLOTS.get(extension, "")
        if not slot:
            yield None, slot, header
            continue
        if key not in places or (places[key], slot) in taken:
            places[key] = _Place(rows, key)
            rows += 1
        taken.add((places[key], slot))
        yield places[key], slot, header
    _check_end(archive, shard)


def _check_end(archive: tarfile.TarFile, shard: _Shard) -> None:
    """tarfile takes a damaged header for the end of the archive; then there is more than zeros behind it."""
    with shard.path.open("rb") as stream:
        stream.seek(archive.offset)
        while chunk := stream.read(1 << 20):
            if chunk.strip(b"\0"):
                raise _malformed(shard, f"damaged at byte {archive.offset}")


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo, shard: _Shard) -> bytes:
    stream = archive.extractfile(header)
    content = b"" if stream is None else stream.read()
    if len(content) != header.size:
        raise _malformed(shard, f"it ends inside {header.name}")
    return content


def _malformed(shard: _Shard, reason: str) -> InputError:
    return InputError(f"{shard.path} is not a whole, uncompressed tar ({reason}): repair it or leave it out")


# --- choosing who exchanges with whom --------------------------------------------------------------------------------


def _choose_exchange(
    usable: Sequence[_Row], request: _Request, embed_captions: EmbedCaptions | None, progress: Progress
) -> dict[str, _Row]:
    """For each row that loses its caption, by row id: the row whose caption it gets."""
    target = max(2, round(request.rate * len(usable)))
    generator = request.generator()
    if request.kind == "nearest" and embed_captions is not None:
        return _swap_with_nearest(usable, target, embed_captions, generator, progress)
    groups = [list(usable)] if request.category_field is None else _by_category(usable, request.category_field)
    exchange: dict[str, _Row] = {}
    for group, size in zip(groups, _share_out(target, groups, generator), strict=True):
        exchange.update(_exchange_captions(_choose_rows(group, size, generator), generator))
    return exchange


def _by_category(rows: Sequence[_Row], category_field: str) -> list[list[_Row]]:
    groups: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        value = row.description.get(category_field)
        if value is not None:
            groups[json.dumps(value, sort_keys=True)].append(row)
    if not groups:
        fields = sorted({name for row in rows for name in row.description})
        raise InputError(
            f"no pair has a field {category_field!r} in its JSON member: "
            + (f"choose one of {', '.join(fields)}" if fields else "there are no JSON members, use another kind")
        )
    return [groups[value] for value in sorted(groups)]


def _share_out(target: int, groups: Sequence[Sequence[_Row]], generator: random.Random) -> list[int]:
    """How many rows of each group exchange captions: in proportion, as far as each group's captions differ enough."""
    capacity = [_capacity(group) for group in groups]
    order = [number for number, group in enumerate(groups) for _ in group]
    generator.shuffle(order)
    sizes = [min(drawn, capacity[number]) for number, drawn in enumerate(_count(order[:target], len(groups)))]
    missing = target - sum(sizes)
    for number in order[target:]:
        if missing > 0 and sizes[number] < capacity[number]:
            sizes[number] += 1
            missing -= 1
    # A lone row has nobody to exchange with: every second one gets a partner, the others stay as they are.
    lone = [number for number, size in enumerate(sizes) if size == 1]
    for position, number in enumerate(lone):
        sizes[number] = 2 if position % 2 == 0 else 0
    return sizes


def _count(numbers: Iterable[int], length: int) -> list[int]:
    counts = Counter(numbers)
    return [counts[number] for number in range(length)]


def _capacity(group: Sequence[_Row]) -> int:
    """The most rows that can exchange captions so that each one's changes: no meaning may hold more than half."""
    most_common = max(Counter(row.meaning for row in group).values())
    return min(len(group), 2 * (len(group) - most_common))


def _choose_rows(group: Sequence[_Row], size: int, generator: random.Random) -> list[_Row]:
    """Rows drawn by chance, about `size` of them, among which no meaning holds more than half."""
    order = generator.sample(group, len(group))
    chosen, spare = order[:size], iter(order[size:])
    counts = Counter(row.meaning for row in chosen)
    while chosen:
        meaning, count = max(counts.items(), key=lambda item: item[1])
        if 2 * count <= len(chosen):
            break
        # Drawn in random order, so the last row of the too common meaning is as good as any.
        position = max(i for i, row in enumerate(chosen) if row.meaning == meaning)
        counts[meaning] -= 1
        other = next((row for row in spare if 2 * (counts[row.meaning] + 1) <= len(chosen)), None)
        if other is None:
            del chosen[position]
        else:
            chosen[position] = other
            counts[other.meaning] += 1
    return chosen


def _exchange_captions(rows: Sequence[_Row], generator: random.Random) -> dict[str, _Row]:
    """A random permutation of the rows' captions in which each row's changes.

    Possible, and always reached, where no meaning holds more than half of the rows: a row that got its own meaning
    then always finds one that neither has it nor got it.
    """
    sources = generator.sample(rows, len(rows))
    for i, row in enumerate(rows):
        if sources[i].meaning == row.meaning:
            j = _partner(i, rows, sources, generator)
            sources[i], sources[j] = sources[j], sources[i]
    return {row.row_id: source for row, source in zip(rows, sources, strict=True)}


def _partner(i: int, rows: Sequence[_Row], sources: Sequence[_Row], generator: random.Random) -> int:
    start = generator.randrange(len(rows))
    meaning = rows[i].meaning
    for j in chain(range(start, len(rows)), range(start)):
        if meaning not in (rows[j].meaning, sources[j].meaning):
            return j
    raise AssertionError("a meaning holds more than half of the rows")


def _swap_with_nearest(
    rows: Sequence[_Row], target: int, embed: EmbedCaptions, generator: random.Random, progress: Progress
) -> dict[str, _Row]:
    """Pairs of rows, each swapped with the free row whose caption is nearest inside NEAREST_COSINES."""
    order = generator.sample(rows, len(rows))
    meanings = list(dict.fromkeys(row.meaning for row in order))
    number = {meaning: i for i, meaning in enumerate(meanings)}
    texts = {row.meaning: row.text.strip() for row in reversed(order)}
    vectors = _unit_vectors(embed, [texts[meaning] for meaning in meanings])
    free = _rows_by_number(order, number)
    free_counts = np.array([len(rows_of) for rows_of in free])
    exchange: dict[str, _Row] = {}
    for done, (row, cosines) in enumerate(_cosines_of(order, number, vectors)):
        if len(exchange) + 2 > target:
            break
        progress("choosing partners", done, len(order))
        allowed = (cosines >= NEAREST_COSINES[0]) & (cosines <= NEAREST_COSINES[1]) & (free_counts > 0)
        allowed[number[row.meaning]] = False
        if row.row_id in exchange or not allowed.any():
            continue
        nearest = int(np.where(allowed, cosines, -np.inf).argmax())
        partner = free[nearest][0]
        for taken in (row, partner):
            free[number[taken.meaning]].remove(taken)
            free_counts[number[taken.meaning]] -= 1
        exchange[row.row_id], exchange[partner.row_id] = partner, row
    progress("choosing partners", len(order), len(order))
    return exchange


def _rows_by_number(rows: Iterable[_Row], number: Mapping[str, int]) -> list[list[_Row]]:
    by_number: list[list[_Row]] = [[] for _ in number]
    for row in rows:
        by_number[number[row.meaning]].append(row)
    return by_number


def _unit_vectors(embed: EmbedCaptions, texts: list[str]) -> npt.NDArray[np.float32]:
    vectors = np.asarray(embed(texts), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise CurateError(
            f"embed_captions returned shape {vectors.shape} for {len(texts)} captions: give one row each"
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise CurateError("embed_captions returned rows that are not of length 1: normalise them")
    return vectors


def _cosines_of(
    rows: Sequence[_Row], number: Mapping[str, int], vectors: npt.NDArray[np.float32]
) -> Iterator[tuple[_Row, npt.NDArray[np.float32]]]:
    """Each row with the cosines of its caption to every distinct caption, computed for a block of rows at a time."""
    block = max(1, _SIMILARITY_BLOCK_VALUES // len(vectors))
    for start in range(0, len(rows), block):
        some = rows[start : start + block]
        yield from zip(some, vectors[[number[row.meaning] for row in some]] @ vectors.T, strict=True)


# --- writing ---------------------------------------------------------------------------------------------------------

_CAPTION_FIELDS = frozenset({"alt", "alt_text", "description", "original_caption", "text", "title"})


def _write_shards(
    out: Path, shards: Sequence[_Shard], rows: Sequence[_Row], sources: Mapping[str, _Row], progress: Progress
) -> None:
    by_place = {(row.shard, row.row): row for row in rows}
    for done, shard in enumerate(shards):
        progress("writing shards", done, len(shards))
        write_tar(out / shard.name, _corrupted_members(shard, by_place, sources))
    progress("writing shards", len(shards), len(shards))


def _corrupted_members(
    shard: _Shard, by_place: Mapping[tuple[str, int], _Row], sources: Mapping[str, _Row]
) -> Iterator[tuple[str, bytes]]:
    with _opened(shard) as archive:
        for place, slot, header in _placed_members(archive, shard):
            content = _content(archive, header, shard)
            row = None if place is None else by_place[shard.name, place.row]
            if row is not None and slot == _TEXT and row.row_id in sources:
                content = sources[row.row_id].caption or b""
            elif row is not None and slot == _JSON:
                content = _rewritten_json(content, row, sources.get(row.row_id))
            yield header.name, content


def _rewritten_json(content: bytes, row: _Row, source: _Row | None) -> bytes:
    """The JSON member with its caption exchanged. All are written alike: layout must not tell which were changed."""
    description = _parse_object(content)
    if description is None:
        return content
    if source is not None:
        description = {
            name: source.text if _holds_caption(name, value, row) else value for name, value in description.items()
        }
    return (json.dumps(description, indent=4) + "\n").encode()


def _holds_caption(name: str, value: object, row: _Row) -> bool:
    """The field `caption`, and fields that repeat it. A category or keyword that reads the same stays: it is truth."""
    if name == "caption":
        return True
    repeats = isinstance(value, str) and value.strip().casefold() == row.meaning
    return repeats and name.lower() in _CAPTION_FIELDS


def _write_truth(out: Path, rows: Sequence[_Row], sources: Mapping[str, _Row], request: _Request) -> None:
    origin = [sources.get(row.row_id, row) for row in rows]
    truth = pa.table(
        {
            "row_id": [row.row_id for row in rows],
            "key": [row.key for row in rows],
            "kind": [request.kind] * len(rows),
            "mismatched": [
                source is not row and source.meaning != row.meaning for row, source in zip(rows, origin, strict=True)
            ],
            "original_key": [source.key for source in origin],
        },
        schema=TRUTH_SCHEMA.with_metadata({"usable": str(sum(row.usable for row in rows))}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(truth, sink)
    write_bytes(out / TRUTH_FILE, sink.getvalue().to_pybytes())


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
