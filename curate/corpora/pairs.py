"""The pairs of WebDataset tars without their images: captions, keys and descriptions, in the order of the sources."""

from __future__ import annotations

import glob
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.corpora.tar_writer import Progress, ignore_progress
from curate.errors import InputError
from curate.schema import row_id
from curate.sources.webdataset import IMAGE_EXTENSIONS, split_name

IMAGE, TEXT, JSON = "image", "txt", "json"
"""Slots of a pair: what a member of a tar is to it."""

_SLOTS = {**dict.fromkeys(IMAGE_EXTENSIONS, IMAGE), TEXT: TEXT, JSON: JSON}


@dataclass(frozen=True)
class Pair:
    """What choosing partners needs of a pair.

    Attributes:
        row_id: identity, as in the annotations.
        caption: as it came.
        category: what kind `category` keeps together; None for a pair that has none.
    """

    row_id: str
    caption: str
    category: str | None = None

    @property
    def meaning(self) -> str:
        """Captions with the same meaning are not worth exchanging."""
        return meaning(self.caption)


def meaning(caption: str) -> str:
    """A caption without case and surrounding white space."""
    return caption.strip().casefold()


def read_pairs(
    inputs: Sequence[str], category_field: str = "category", progress: Progress = ignore_progress
) -> list[Pair]:
    """The usable pairs of WebDataset tars: those with an image and a caption in UTF-8, in the order of the shards.

    Args:
        inputs: glob patterns (`**` goes down folders), uncompressed tar files, or folders with *.tar at any depth.
        category_field: top-level field of each pair's JSON member. A text is the category as it is, anything else as
            JSON; None where the field is null or missing.
        progress: called with (description, done, total); tar files.

    Raises:
        InputError: nothing matches, or a tar is malformed.
    """
    return [row.pair(category_field) for row in read_rows(find_shards(inputs), progress) if row.usable]


# --- shards ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """An input tar; `name` is its path below the fixed part of the pattern, as sources name shards."""

    name: str
    path: Path


def find_shards(patterns: Sequence[str]) -> list[Shard]:
    """The tars that patterns match, sorted by name.

    Raises:
        InputError: a pattern matches no file, or two files would have one name.
    """
    shards: dict[str, Shard] = {}
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
            shards[name] = Shard(name, path)
    if not shards:
        raise InputError("no input given: give WebDataset tars, such as 'data/*.tar'")
    return [shards[name] for name in sorted(shards)]


def _fixed_prefix(pattern: str) -> Path:
    """The folders of a pattern before the first with a wildcard."""
    folders = Path(pattern).parent.parts
    fixed = next((i for i, part in enumerate(folders) if glob.has_magic(part)), len(folders))
    return Path(*folders[:fixed])


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
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
        """The caption of a usable row."""
        return (self.caption or b"").decode("utf-8")

    @property
    def row_id(self) -> str:
        """Its identity, as in the annotations."""
        return row_id(self.shard, self.row)

    def pair(self, category_field: str | None = None) -> Pair:
        """A usable row as a pair; without a category if no field is given."""
        value = None if category_field is None else self.description.get(category_field)
        category = value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)
        return Pair(self.row_id, self.text, category)


def read_rows(shards: Sequence[Shard], progress: Progress = ignore_progress) -> list[Row]:
    """All pairs of the shards, usable or not, in order. Of an image only its size is looked at.

    Raises:
        InputError: a tar is malformed.
    """
    rows = []
    for done, shard in enumerate(shards):
        progress("reading captions", done, len(shards))
        rows += _rows_of(shard)
    progress("reading captions", len(shards), len(shards))
    return rows


def read_members(shard: Shard) -> Iterator[tuple[int | None, str, str, bytes]]:
    """The regular files of a tar in their order: row of their pair, slot, name and content, one at a time.

    Row is None and slot "" for what belongs to no pair.

    Raises:
        InputError: the tar is malformed.
    """
    with _opened(shard) as archive:
        for place, slot, header in _placed_members(archive, shard):
            yield None if place is None else place.row, slot, header.name, _content(archive, header, shard)


def parse_object(content: bytes) -> dict[str, Any] | None:
    """A JSON object; None if it is none."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _rows_of(shard: Shard) -> list[Row]:
    members: dict[_Place, dict[str, bytes]] = defaultdict(dict)
    with _opened(shard) as archive:
        for place, slot, header in _placed_members(archive, shard):
            if place is not None:
                # Of an image only the fact that it is not empty is kept.
                content = b"x" * (header.size > 0) if slot == IMAGE else _content(archive, header, shard)
                members[place][slot] = content
    return [_row(shard.name, place, members[place]) for place in sorted(members)]


def _row(shard: str, place: _Place, members: Mapping[str, bytes]) -> Row:
    description = parse_object(members.get(JSON, b"{}"))
    caption = members.get(TEXT, _caption_in_json(description))
    # A JSON member that cannot be parsed may hold the old caption where it can't be replaced.
    usable = bool(members.get(IMAGE)) and _has_text(caption) and description is not None
    return Row(shard, place.row, place.key, caption, description or {}, usable)


def _caption_in_json(description: Mapping[str, Any] | None) -> bytes | None:
    caption = (description or {}).get("caption")
    # JSON can hold halves of surrogate pairs, which no UTF-8 can; the pair is then left as it is.
    return caption.encode("utf-8", errors="surrogatepass") if isinstance(caption, str) else None


def _has_text(caption: bytes | None) -> bool:
    try:
        return bool(caption and caption.decode("utf-8").strip())
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True, order=True)
class _Place:
    """A pair's row in its shard, and its key."""

    row: int
    key: str


@contextmanager
def _opened(shard: Shard) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(shard.path, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise _malformed(shard, str(error)) from error


def _placed_members(archive: tarfile.TarFile, shard: Shard) -> Iterator[tuple[_Place | None, str, tarfile.TarInfo]]:
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


def _check_end(archive: tarfile.TarFile, shard: Shard) -> None:
    """tarfile takes a damaged header for the end of the archive; then there is more than zeros behind it."""
    with shard.path.open("rb") as stream:
        stream.seek(archive.offset)
        while chunk := stream.read(1 << 20):
            if chunk.strip(b"\0"):
                raise _malformed(shard, f"damaged at byte {archive.offset}")


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo, shard: Shard) -> bytes:
    stream = archive.extractfile(header)
    content = b"" if stream is None else stream.read()
    if len(content) != header.size:
        raise _malformed(shard, f"it ends inside {header.name}")
    return content


def _malformed(shard: Shard, reason: str) -> InputError:
    return InputError(f"{shard.path} is not a whole, uncompressed tar ({reason}): repair it or leave it out")
