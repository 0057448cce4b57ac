"""What the table formats share: which column is which, and the image files a table refers to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

from curate.errors import CurateError, InputError
from curate.sources.base import Shard
from curate.sources.options import SourceOptions
from curate.sources.rows import Picture, no_picture, picture_of, raw_bytes, too_large
from curate.sources.stores import LocalStore, RemoteStore, open_store, parent_url, url_scheme

Role = Literal["image", "caption", "key"]

# Usual names, the likeliest first. img2dataset calls the image column by its encoding; Hugging Face says `image`.
PATH_COLUMNS = ("image", "image_path", "file_name", "path")
IMAGE_COLUMNS = ("jpg", "png", "webp", "jpeg", *PATH_COLUMNS)
ADDRESS_NAMES = ("url", "image_url", "img_url")
URL_COLUMNS = (*ADDRESS_NAMES, "image", "link")
CAPTION_COLUMNS = ("caption", "text")
KEY_COLUMNS = ("key", "id")


def find_column(columns: Iterable[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    """The wanted column, or without one the first of the usual names that exists (in any letter case)."""
    present = dict.fromkeys(columns)
    if wanted is not None:
        return wanted if wanted in present else None
    for name in usual:
        if name in present:
            return name
    by_lower_case = {name.lower(): name for name in reversed(present)}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)


class MissingColumnError(InputError):
    """A table lacks a column that is needed.

    Attributes:
        role: what the column should hold.
        columns: those that there are.
    """

    def __init__(self, message: str, role: Role, columns: Sequence[str]) -> None:
        super().__init__(message)
        self.role: Role = role
        self.columns = tuple(columns)


def no_such_column(
    shard: str, role: Role, wanted: str | None, usual: Sequence[str], columns: list[str]
) -> MissingColumnError:
    """The error for a column that is not there: what was looked for, what there is, what is near, how to map it."""
    looked_for = repr(wanted) if wanted is not None else f"any of {', '.join(usual)}"
    near = _nearest([wanted] if wanted is not None else usual, columns)
    guess = f" Did you mean {near!r}?" if near else ""
    there = ", ".join(columns) if columns else "none"
    return MissingColumnError(
        f"{shard}: there is no {role} column (looked for {looked_for}). The columns are: {there}.{guess} "
        f"Say which one holds the {role} with `input.columns.{role}: {near or 'NAME'}`.",
        role,
        columns,
    )


def wrong_type(shard: str, role: Role, column: str, found: str, needed: str, columns: list[str]) -> InputError:
    """The error for a column that cannot hold what it should."""
    return InputError(
        f"{shard}: column {column!r} holds {found}, but the {role} column must hold {needed}. "
        f"The columns are: {', '.join(columns)}. Say which one to use with `input.columns.{role}: NAME`."
    )


def check_kept(keep: Sequence[str], shards: list[Shard], *lookups: Callable[[Shard], list[str]]) -> None:
    """Look for the kept columns in one file after the other, until all are found.

    Args:
        keep: names of the columns.
        shards: the files.
        lookups: from cheap to thorough; each gives the names of the columns it finds in a file, none of a broken one.

    Raises:
        InputError: none of the files has one of the columns.
    """
    missing = list(keep)
    for columns_of in lookups:
        for shard in shards:
            if not missing:
                return
            present = set(columns_of(shard))
            missing = [name for name in missing if name not in present]
    there = next(((shard.name, names) for shard in shards if (names := lookups[0](shard))), None)
    if missing and there is not None:
        raise _no_kept_column(missing[0], *there, len(shards))


def _no_kept_column(name: str, shard: str, columns: list[str], files: int) -> InputError:
    where = shard if files == 1 else f"{shard} (and {files - 1} more)"
    near = _nearest([name], columns)
    guess = f" Did you mean {near!r}?" if near else ""
    return InputError(
        f"{where}: there is no column {name!r}, which input.keep asks for. The columns are: {', '.join(columns)}."
        f"{guess} Correct `input.keep` or leave it out."
    )


def _nearest(wanted: Iterable[str], columns: list[str]) -> str | None:
    lower = {column.lower(): column for column in columns}
    for name in wanted:
        if near := get_close_matches(name.lower(), lower, n=1, cutoff=0.6):
            return lower[near[0]]
    return None


class ImageReferences(Protocol):
    """What stands for the pictures in a table."""

    def read(self, reference: str) -> Picture:
        """The picture, or why there is none.

        Raises:
            CurateError: the store that holds it cannot be reached.
        """
        ...

    def stamp(self, reference: str) -> str:
        """What changes when the picture does, as far as can be seen cheaply; else "-"."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """The image files a table names: relative to a folder, absolute, or fsspec URLs.

    Web addresses are not fetched here: what lies there may change or vanish between two readings.

    Attributes:
        root: folder of relative paths, as absolute path or URL.
        most: bytes of a file; larger ones are not read.
    """

    root: str
    most: int

    def read(self, reference: str) -> Picture:
        """The image, or why there is none.

        Raises:
            CurateError: the store that holds it cannot be reached.
        """
        location = self._locate(reference)
        if url_scheme(location) in ("http", "https"):
            return no_picture(f"{reference} is a web address: a table of these is read with `format: urls`")
        try:
            store, path = open_store(location)
        except InputError as error:
            return no_picture(f"the image {reference!r} cannot be located: {error}")
        if isinstance(store, LocalStore):
            return _read_local(reference, path, self.most)
        return _read_remote(store, reference, path, self.most)

    def stamp(self, reference: str) -> str:
        """Size and modification time of a local file, cheaply; "-" for one that is missing or remote."""
        location = self._locate(reference)
        if url_scheme(location) != "file":
            return "-"
        try:
            status = os.stat(open_store(location)[1])  # noqa: PTH116
        except (OSError, ValueError):
            return "-"
        return f"{status.st_size}-{status.st_mtime_ns}"

    def _locate(self, reference: str) -> str:
        if reference.startswith("/") or "://" in reference:
            return reference
        return f"{self.root.rstrip('/')}/{reference}"


class WebAddresses:
    """The addresses themselves in place of pictures: they are fetched once, by a step of their own."""

    def read(self, reference: str) -> Picture:
        """The address as bytes."""
        return Picture(raw_bytes(reference))

    def stamp(self, reference: str) -> str:
        """What lies at an address is not looked at."""
        return "-"


def image_references(options: SourceOptions, shard_uri: str) -> ImageReferences:
    """Image paths of a table start in `image_root`, or without one beside the table file."""
    if options.format == "urls":
        return WebAddresses()
    root = parent_url(shard_uri) if options.image_root is None else options.image_root
    return ImageFiles(root, options.limits.image_bytes)


def hash_picture(digest: blake2b, picture: Picture) -> None:
    """Feed a referenced image to a part's checksum, so that no two lists of images give the same bytes."""
    if picture.data is None:
        digest.update(b"missing")
    else:
        digest.update(b"image %d:" % len(picture.data))
        digest.update(picture.data)


def _read_local(reference: str, path: str, most: int) -> Picture:
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            return no_picture(f"the image path {reference!r} is not a file")
        if status.st_size > most:
            return too_large(status.st_size, most)
        return picture_of(Path(path).read_bytes(), most)
    except FileNotFoundError:
        return no_picture(f"the image file {reference!r} does not exist")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return no_picture(f"the image file {reference!r} cannot be read ({reason})")


def _read_remote(store: RemoteStore, reference: str, path: str, most: int) -> Picture:
    entry = store.entry(path)
    if entry is None or entry.is_dir:
        return no_picture(f"the image file {reference!r} does not exist")
    if entry.size > most:
        return too_large(entry.size, most)
    try:
        return picture_of(store.filesystem.cat_file(path), most)
    except Exception as error:
        raise CurateError(f"cannot read the image {reference}: {type(error).__name__}: {error}.") from error
