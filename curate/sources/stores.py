"""Local disks and fsspec stores behind one small interface: list a folder, stamp a file, open a byte range of it."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec

from curate.errors import CurateError, InputError
from curate.remote_files import open_files
from curate.sources.base import Shard

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
FETCH_BYTES = 16 << 20
CHECKSUM_BYTES = 16
# In the stamp of a table: what follows speaks of the image files it refers to.
IMAGES_STAMP = "+images:"

_PROTOCOL = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOCAL_PROTOCOLS = {"file", "local"}
_VERSION_FIELDS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "modified", "created")


@dataclass(frozen=True)
class Entry:
    """A file or folder in a store; `stamp` changes whenever a file's content does."""

    path: str
    is_dir: bool
    size: int = 0
    stamp: str = ""

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class Store(Protocol):
    """A tree of files with "/" separated paths."""

    scheme: str

    def list_dir(self, path: str) -> list[Entry]:
        """What is in a folder, sorted by name; empty if there is no such folder. Raises InputError if unreachable."""
        ...

    def entry(self, path: str) -> Entry | None:
        """The file or folder, looked up afresh. Raises InputError if the store cannot be reached."""
        ...

    def uri(self, path: str) -> str:
        """What `open_store` turns back into this store and path."""
        ...


class LocalStore:
    """Files of this machine, by absolute path."""

    scheme = "file"

    def list_dir(self, path: str) -> list[Entry]:
        try:
            names = sorted(os.listdir(path or "/"))  # noqa: PTH208 - Path would normalise the names
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InputError(f"cannot list the folder {path}: {error.strerror}. Check its permissions.") from error
        found = {name: self.entry(f"{path.rstrip('/')}/{name}") for name in names}
        for name in (name for name, entry in found.items() if entry is None):
            logger.warning("passing over %s/%s: not a file or folder (a dangling link, a pipe)", path, name)
        return [entry for entry in found.values() if entry is not None]

    def entry(self, path: str) -> Entry | None:
        try:
            status = os.stat(path or "/")  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise InputError(f"cannot look at {path}: {error.strerror}.") from error
        if stat.S_ISDIR(status.st_mode):
            return Entry(path, is_dir=True)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return None
        return Entry(path, is_dir=False, size=status.st_size, stamp=f"{status.st_size}-{status.st_mtime_ns}")

    def uri(self, path: str) -> str:
        return path


class RemoteStore:
    """Any fsspec filesystem that is not the local one."""

    def __init__(self, filesystem: Any, scheme: str) -> None:
        self.filesystem = filesystem
        self.scheme = scheme

    def list_dir(self, path: str) -> list[Entry]:
        with _reaching(self.uri(path)):
            self.filesystem.invalidate_cache(path)
            try:
                infos = self.filesystem.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        # A listed file is listed as itself, and object stores keep empty markers named like the folder.
        inside = [info for info in infos if info["name"].strip("/") != path.strip("/")]
        return sorted((self._entry_of(info) for info in inside), key=lambda entry: entry.path)

    def entry(self, path: str) -> Entry | None:
        with _reaching(self.uri(path)):
            self.filesystem.invalidate_cache(path.rsplit("/", 1)[0])
            self.filesystem.invalidate_cache(path)
            try:
                return self._entry_of(self.filesystem.info(path))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def uri(self, path: str) -> str:
        return str(self.filesystem.unstrip_protocol(path))

    def copy_range(self, path: str, start: int, end: int, target: BinaryIO) -> str:
        """Append bytes [start, end) to `target`, a chunk in memory at a time; returns their checksum."""
        digest = new_checksum()
        for offset in range(start, end, FETCH_BYTES):
            chunk = self.filesystem.cat_file(path, start=offset, end=min(end, offset + FETCH_BYTES))
            digest.update(chunk)
            target.write(chunk)
        return digest.hexdigest()

    def _entry_of(self, info: dict[str, Any]) -> Entry:
        path = str(info["name"]).rstrip("/")
        if info["type"] == "directory":
            return Entry(path, is_dir=True)
        if info.get("size") is None:
            info = {**info, **self.filesystem.info(path)}
        size = int(info.get("size") or 0)
        version = next((_version(info[field]) for field in _VERSION_FIELDS if info.get(field)), "unversioned")
        return Entry(path, is_dir=False, size=size, stamp=f"{size}-{version}")


def _version(value: Any) -> str:
    """An etag or time in one spelling: some stores answer differently for a folder than for one file."""
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{value:.6f}" if isinstance(value, float) else str(value).strip('"')


def open_store(url: str) -> tuple[LocalStore | RemoteStore, str]:
    """The store of a path, pattern or URL, and the path inside it (absolute for local ones).

    Raises:
        InputError: nobody knows the protocol, its package is not installed, or it cannot be set up.
    """
    scheme = url_scheme(url)
    if scheme == "file":
        local = _PROTOCOL.sub("", url)
        return LocalStore(), os.path.abspath(os.path.expanduser(local))  # noqa: PTH100, PTH111 - a pattern, not a path
    if "::" in url:
        raise InputError(f"{url}: chained URLs are not supported. Unpack the archive and give the path of its files.")
    try:
        filesystem, path = open_files(url)
    except ImportError as error:
        raise InputError(f"{url}: the store {scheme}:// needs a package that is not installed. {error}.") from error
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", "https"))
        raise InputError(
            f"{url}: no store is known by {scheme}:// ({error}). Use a local path or one of {known}, "
            f"or another of fsspec's {len(fsspec.available_protocols())} protocols."
        ) from error
    except Exception as error:
        raise InputError(f"{url}: the store cannot be set up: {error}.") from error
    return RemoteStore(filesystem, scheme), str(path).rstrip("/")


def url_scheme(url: str) -> str:
    """ "file" for local paths, else the URL's protocol."""
    match = _PROTOCOL.match(url)
    if match is None or match[1].lower() in _LOCAL_PROTOCOLS:
        return "file"
    return match[1].lower()


def file_stamp(uri: str) -> str:
    """The stamp of a file as it is now.

    Raises:
        CurateError: there is no such file, or its store cannot be reached.
    """
    store, path = open_store(uri)
    entry = store.entry(path)
    if entry is None or entry.is_dir:
        raise _vanished(uri)
    return entry.stamp


def parent_url(uri: str) -> str:
    """The folder of a file, as a path or URL."""
    store, path = open_store(uri)
    return store.uri(path.rpartition("/")[0])


def changed(shard: Shard) -> CurateError:
    """The error for a shard that is not what it was when indexed."""
    return CurateError(f"{shard.name} changed while running: run again, and only what hangs on it is redone.")


@contextmanager
def unchanged(shard: Shard) -> Iterator[None]:
    """Look at the file's stamp before and after the work inside.

    Raises:
        CurateError: the shard vanished, or its stamp is another than when it was listed.
    """
    listed = shard.stamp.partition(IMAGES_STAMP)[0]
    if file_stamp(shard.uri) != listed:
        raise changed(shard)
    yield
    if file_stamp(shard.uri) != listed:
        raise changed(shard)


def _vanished(uri: str) -> CurateError:
    return CurateError(f"{uri} vanished while running. Put it back, or run again to work on what is left.")


class Window:
    """Bytes [start, end) of a file, addressed by their offsets in the whole file.

    Attributes:
        handle: the open file; whoever seeks in it disturbs nobody. Its position 0 is `start` for fetched bytes.
        start, end: the limits; reads are clipped to them.
        checksum: of the bytes, if they had to be fetched; None for a local file opened in place.
    """

    def __init__(self, handle: BinaryIO, start: int, end: int, origin: int, checksum: str | None = None) -> None:
        self.handle = handle
        self._origin = origin
        self.start = start
        self.end = end
        self.checksum = checksum

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        self.handle.seek(offset - self._origin)
        return self.handle.read(max(0, min(size, self.end - offset)))

    def line_at(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` up to and with the next newline, at most `limit`."""
        self.handle.seek(offset - self._origin)
        return self.handle.readline(max(0, min(limit, self.end - offset)))

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end), a chunk at a time."""
        while start < end and (chunk := self.read_at(start, min(CHUNK_BYTES, end - start))):
            yield chunk
            start += len(chunk)

    def hash_into(self, digest: blake2b, start: int, end: int) -> None:
        """Feed bytes [start, end) to a hash."""
        for chunk in self.chunks(start, end):
            digest.update(chunk)


@contextmanager
def open_window(uri: str, start: int, end: int) -> Iterator[Window]:
    """Open a byte range: in place if local, else through a temporary file which is gone afterwards.

    Raises:
        CurateError: the file cannot be read.
    """
    store, path = open_store(uri)
    if isinstance(store, LocalStore):
        with _reading(uri, OSError), Path(path).open("rb") as handle:
            yield Window(handle, start, end, origin=0)
        return
    with tempfile.TemporaryFile(prefix="curate-") as copy:
        with _reading(uri, Exception):
            checksum = store.copy_range(path, start, end, copy)
        yield Window(copy, start, end, origin=start, checksum=checksum)


@contextmanager
def open_seekable(uri: str) -> Iterator[BinaryIO | io.RawIOBase]:
    """Open a whole file for random access, in place also in remote stores.

    Raises:
        CurateError: the file cannot be read.
    """
    store, path = open_store(uri)
    if isinstance(store, LocalStore):
        with _reading(uri, Exception):
            opened = Path(path).open("rb")  # noqa: SIM115
        with opened as handle:
            yield handle
        return
    with _reading(uri, Exception):
        remote = store.filesystem.open(path, "rb")
    with remote:
        yield _RemoteFile(uri, remote)


class _RemoteFile(io.RawIOBase):
    """A file of a store whose failing reads are CurateErrors: a decoder would take other errors for damage."""

    def __init__(self, uri: str, handle: BinaryIO) -> None:
        self._uri = uri
        self._handle = handle

    def read(self, size: int = -1, /) -> bytes:
        with _reading(self._uri, Exception):
            return self._handle.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _reading(self._uri, Exception):
            return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def new_checksum() -> blake2b:
    """The hash every checksum of the inputs is made with."""
    return blake2b(digest_size=CHECKSUM_BYTES)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(
            f"cannot reach {uri}: {type(error).__name__}: {error}. Check the address, the network and the credentials."
        ) from error


@contextmanager
def _reading(uri: str, kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except CurateError:
        raise
    except FileNotFoundError as error:
        raise _vanished(uri) from error
    except kind as error:
        raise CurateError(f"cannot read {uri}: {type(error).__name__}: {error}.") from error
