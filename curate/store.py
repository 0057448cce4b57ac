"""The run directory: atomic files, column files of every step, artifacts, fingerprints.

Layout under the run's root:

    manifest.parquet                    the parts, numbered once and for good
    shard_errors.parquet                what in the input could not become a row
    STEP/part-00000012.parquet          the columns that one step made for one part
    artifacts/FIT/...                   what a fit left; artifact.json is written last
    format.json                         format of the run directory, see `curate.run_format`
    annotations/part-00000012.parquet   the result
    _state/                             shortcuts and timings of this machine; deleting it loses no result

Everything outside `_state` is the same bytes for the same inputs, config, seed and numerics profile.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from curate.columns import side_by_side
from curate.digest import FACTS_KEY, digest_of, digest_of_file, signed_parquet
from curate.errors import CurateError, InputError
from curate.remote_files import open_files

if TYPE_CHECKING:
    import fsspec
    import pyarrow.dataset

StepColumns: TypeAlias = tuple[str, Sequence[str]]

log = logging.getLogger(__name__)


class WriteGuard(Protocol):
    """Asked before every write to a run directory."""

    def check(self) -> None:
        """Raises CurateError if this process may not write any more."""
        ...


METADATA_KEY = FACTS_KEY
MANIFEST_FILE = "manifest.parquet"
CONTENT = "content"
"""In the facts of a file of downloads: digest of what was downloaded."""
FAILED = "failed"
"""In the facts of a file of downloads: how many rows came to nothing."""
TEMPORARY_PREFIX = ".tmp-"
_BUFFER_BYTES = 1 << 20
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


def fingerprint(facts: Any) -> str:
    """128-bit hex digest of a JSON-able value; equal values give equal digests on every machine."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class RunStore:
    """Reads and writes one run directory through fsspec. A file is whole or absent: never half written.

    Attributes:
        url: as given.
        guard: asked before every write; None: nobody is.
    """

    def __init__(
        self, url: str, guard: WriteGuard | None = None, files: fsspec.AbstractFileSystem | None = None
    ) -> None:
        """Look at a run directory.

        Args:
            url: of the run directory, or a local path.
            guard: asked before every write; None: nobody is.
            files: what its files are read and written with; None: what the URL's protocol says.

        Raises:
            InputError: the URL's protocol is unknown or its package is missing.
        """
        self.url, self.guard = url, guard
        try:
            self._fs, self._root = open_files(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"output: {url}: {error}") from None
        self._fs = files or self._fs
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._root = self._root.rstrip("/")

    @property
    def local_root(self) -> Path | None:
        """The run directory as a path if it is on this machine's file system."""
        return Path(self._root) if self._is_local else None

    @property
    def address(self) -> str:
        """The run directory as a worker finds it whatever folder it was started in: a local path is absolute."""
        return self._root if self._is_local else self.url

    def path(self, name: str) -> str:
        """Where a file of the run is, for a person."""
        return f"{self.url.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file of the run is there."""
        return bool(self._fs.exists(f"{self._root}/{name}"))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one whole file.

        Raises:
            CurateError: the store refuses (full, read-only, unreachable), or the guard does.
        """
        self._ask_leave(name)
        target = f"{self._root}/{name}"
        try:
            if self._is_local:
                self._replace_local(Path(target), data)
            else:
                self._fs.pipe_file(target, data)
        except OSError as error:
            raise self._unwritable(name, error) from error

    def _unwritable(self, name: str, error: OSError) -> CurateError:
        return CurateError(
            f"{self.path(name)}: cannot be written: {error}. What is finished is kept: make room or give leave to "
            "write, and run the same command again to go on."
        )

    def create_bytes(self, name: str, data: bytes) -> bool:
        """Write one whole file where there is none; whether there was none.

        Of several that try at once one succeeds, if the store can see to that (local folders, S3, GCS).

        Raises:
            CurateError: the store refuses (full, read-only, unreachable), or the guard does.
        """
        self._ask_leave(name)
        target = f"{self._root}/{name}"
        try:
            if self._is_local:
                _create_local(Path(target), data)
            else:
                self._fs.pipe_file(target, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unwritable(name, error) from error
        return True

    def _ask_leave(self, name: str) -> None:
        """Raises CurateError if this may not be changed: the guard says so, or it is behind a link out of the run."""
        if self.guard is not None:
            self.guard.check()
        if self._is_local and name:
            self._refuse_links(Path(self._root, name))

    def _replace_local(self, target: Path, data: bytes) -> None:
        with _whole(target, data) as temporary:
            temporary.replace(target)

    def check_inside(self, name: str) -> None:
        """Whether a local file of the run may be written without this class.

        Raises:
            CurateError: it is a link, or lies behind one that leads out of the run directory.
        """
        if self._is_local:
            target = Path(self._root, name)
            self._refuse_links(target)
            if target.is_symlink():
                raise CurateError(f"{target}: is a link, behind which nothing is written. Delete it.")

    def _refuse_links(self, target: Path) -> None:
        """Raises CurateError for a file behind a link out of the run directory: it is not ours to change."""
        root = os.path.realpath(self._root)
        folder = os.path.realpath(target.parent)
        if os.path.commonpath((root, folder)) != root:
            raise CurateError(
                f"{target}: {target.parent} is a link that leads out of the run directory; nothing is written or "
                f"deleted behind it. Put a folder in its place."
            )

    def read_bytes(self, name: str) -> bytes:
        """Content of one file of the run; FileNotFoundError if it is absent."""
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file with sorted keys."""
        self.write_bytes(name, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())

    def read_json(self, name: str) -> Any | None:
        """A JSON file of the run, or None if it is absent."""
        try:
            return json.loads(self.read_bytes(name))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            raise CurateError(f"{self.path(name)}: is not readable as JSON. Delete it and run again.") from None

    def read_object(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run that holds an object, or None if it is absent.

        Raises:
            CurateError: it holds something else.
        """
        value = self.read_json(name)
        if value is not None and not isinstance(value, dict):
            raise CurateError(f"{self.path(name)}: holds no JSON object. Delete it and run again.")
        return value

    def open(self, name: str) -> BinaryIO:
        """A file of the run for reading; FileNotFoundError if it is absent."""
        return cast(BinaryIO, self._fs.open(f"{self._root}/{name}", "rb"))

    def digest(self, name: str) -> str:
        """Digest of a file of the run, read a piece at a time; FileNotFoundError if it is absent."""
        with self.open(name) as file:
            return digest_of_file(file)

    def tree(self) -> list[TreeEntry]:
        """Every file of the run and every link, by name. What lies behind a link to a folder is not looked at."""
        if self._is_local:
            return sorted(_local_tree(Path(self._root)), key=lambda entry: entry.name)
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return []
        start = len(self._root) + 1
        return [TreeEntry(name[start:], int(info["size"])) for name, info in sorted(found.items())]

    def list_stamps(self, folder: str) -> dict[str, str]:
        """Name and stamp of every file directly in a folder of the run; empty if there is no such folder."""
        try:
            entries = self._fs.ls(f"{self._root}/{folder}", detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        return {e["name"].rsplit("/", 1)[-1]: _stamp(e) for e in entries if e["type"] == "file"}

    def list_folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder of the run, sorted; empty if there is no such folder."""
        try:
            entries = self._fs.ls(f"{self._root}/{folder}", detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory")

    def stamp(self, name: str) -> str:
        """Size with mtime or etag of one file of the run."""
        return _stamp(self._fs.info(f"{self._root}/{name}"))

    def delete(self, name: str) -> None:
        """Remove one file of the run if it is there.

        Raises:
            CurateError: the guard refuses.
        """
        self._ask_leave(name)
        if self.exists(name):
            self._fs.rm_file(f"{self._root}/{name}")

    def delete_folder(self, name: str) -> None:
        """Remove a folder of the run with all that is in it, if it is there; "" is the run itself.

        Raises:
            CurateError: the guard refuses, or it lies behind a link out of the run directory.
        """
        self._ask_leave(name)
        folder = f"{self._root}/{name}".rstrip("/")
        if self._fs.exists(folder):
            self._fs.rm(folder, recursive=True)

    def folder_bytes(self, name: str) -> int:
        """Size of all files below a folder of the run; 0 if there is no such folder."""
        folder = f"{self._root}/{name}"
        return int(self._fs.du(folder)) if self._fs.exists(folder) else 0

    def delete_temporary_files(self, folders: Sequence[str]) -> None:
        """Remove what a killed writer left behind."""
        for folder in folders:
            for name in self.list_stamps(folder):
                if name.startswith(TEMPORARY_PREFIX):
                    self.delete(f"{folder}/{name}" if folder else name)

    def read_columns(self, part: int, columns: Sequence[StepColumns]) -> pa.Table:
        """Columns of a part from several steps side by side; each step's file is read once.

        Args:
            part: number of the part.
            columns: steps and names of the columns that they left; a step may be named again.

        Raises:
            CurateError: a file is absent or broken; says which.
        """
        wanted: dict[str, list[str]] = {}
        for step, names in columns:
            wanted.setdefault(step, []).extend(names)
        return side_by_side(*(self.read_table(part_file(step, part), names) for step, names in wanted.items()))

    def write_table(self, name: str, table: pa.Table, facts: Mapping[str, Any]) -> str:
        """Write a Parquet file whose schema metadata carries `facts` as JSON; returns the digest of its bytes."""
        data = signed_parquet(table, facts)
        self.write_bytes(name, data)
        return digest_of(data)

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file of the run, or some of its columns.

        Raises:
            CurateError: the file is absent or broken; says which.
        """
        try:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                opened = pq.ParquetFile(file, page_checksum_verification=True)
                return opened.read(columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            raise CurateError(f"{self.path(name)}: cannot be read: {error}. Delete it and run again.") from error

    def read_batches(self, name: str, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a Parquet file of the run, at most `rows` rows in memory at a time.

        Raises:
            CurateError: the file is absent or broken; says which.
        """
        try:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                # Without pre-buffering a column is read page by page.
                opened = pq.ParquetFile(
                    file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
                )
                yield from opened.iter_batches(rows, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise CurateError(f"{self.path(name)}: cannot be read: {error}. Delete it and run again.") from error

    def dataset(self, names: Sequence[str]) -> pyarrow.dataset.Dataset:
        """Parquet files of the run with one schema, in this order, as an Arrow dataset: columns are read as needed.

        Raises:
            CurateError: the first file is absent or broken; says which.
        """
        # It imports pandas where that is installed, which takes its time.
        from pyarrow import dataset

        files = [f"{self._root}/{name}" for name in names]
        try:
            return dataset.dataset(files, filesystem=self._fs, format="parquet")
        except (OSError, pa.ArrowException) as error:
            raise CurateError(f"{self.path(names[0])}: cannot be read: {error}. Delete it and run again.") from error

    def read_schema(self, name: str) -> pa.Schema:
        """Columns of a Parquet file of the run.

        Raises:
            CurateError: the file is absent or broken; says which.
        """
        try:
            with self.open(name) as file:
                return pq.read_schema(file)
        except (OSError, pa.ArrowException) as error:
            raise CurateError(f"{self.path(name)}: cannot be read: {error}. Delete it and run again.") from error

    def find_schema(self, name: str) -> pa.Schema | None:
        """The same; None if the file is absent or broken."""
        try:
            return self.read_schema(name)
        except CurateError:
            return None

    def read_facts(self, name: str) -> dict[str, Any] | None:
        """The `facts` of a Parquet file of the run; None if it is absent, broken or not ours."""
        schema = self.find_schema(name)
        facts = None if schema is None else (schema.metadata or {}).get(METADATA_KEY)
        return json.loads(facts) if facts else None


def _create_local(target: Path, data: bytes) -> None:
    with _whole(target, data) as temporary:
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Where a file has one name only, one that is killed right here leaves a part of it.
            with target.open("xb") as file:
                file.write(data)


@contextmanager
def _whole(target: Path, data: bytes) -> Iterator[Path]:
    """A file beside a target with all that it will hold, under a name that is gone when the context ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class TreeEntry:
    """A file in the run directory, or a link.

    Attributes:
        name: path from the run's root, with "/".
        size: bytes; of a link 0.
        link: where a link leads, as it says; None: it is no link.
        leads_out: whether it leads out of the run directory, or nowhere.
    """

    name: str
    size: int
    link: str | None = None
    leads_out: bool = False


def _local_tree(root: Path) -> Iterator[TreeEntry]:
    home = root.resolve()
    for folder, folders, files in os.walk(root):
        for each in (*folders, *files):
            path = Path(folder, each)
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                target = path.resolve()
                yield TreeEntry(name, 0, str(path.readlink()), not (target.exists() and target.is_relative_to(home)))
            elif each in files:
                yield TreeEntry(name, path.stat().st_size)


def part_file(step: str, part: int) -> str:
    """Name of a step's column file for a part."""
    return f"{step}/part-{part:08d}.parquet"


def _stamp(info: Mapping[str, Any]) -> str:
    version = next(
        (info[k] for k in ("mtime", "ETag", "etag", "LastModified", "updated", "created") if info.get(k)), ""
    )
    return f"{info['size']}-{version}"


INDEX_FOLDER = "_state/done"
SAVE_SECONDS = 5.0
"""How often the index is written while a step goes on."""
_REMEMBERED = ("fingerprint", CONTENT, FAILED)


@dataclass(frozen=True)
class DoneFile:
    """What the index knows of a step's file for a part.

    Attributes:
        stamp: size with mtime or etag when it was written or read.
        facts: `fingerprint`; of downloads `content` and `failed` too.
        digest: of all its bytes as they were written; None: somebody else wrote it, and its facts were read.
    """

    stamp: str
    facts: dict[str, Any]
    digest: str | None = None


@dataclass
class _StepIndex:
    """The index of one step: files as they are listed, and what is known of them. Both by the file's bare name."""

    stamps: dict[str, str]
    known: dict[str, DoneFile]
    save_after: float
    changed: bool = False


class DoneIndex:
    """Which column files exist with which fingerprint, without opening each.

    One small file for each step under `_state/done`. It is a shortcut: a file that it does not know (or knows with
    another stamp) has its facts read from its own metadata, so losing the index loses nothing.
    """

    def __init__(self, store: RunStore, save_seconds: float = SAVE_SECONDS) -> None:
        self._store, self._save_seconds = store, save_seconds
        self._steps: dict[str, _StepIndex] = {}

    def fingerprint(self, step: str, part: int) -> str | None:
        """Fingerprint of a step's file for a part, None if there is no whole file."""
        facts = self.facts(step, part)
        return None if facts is None else facts["fingerprint"]

    def facts(self, step: str, part: int) -> dict[str, Any] | None:
        """What is remembered of a step's file for a part: `fingerprint`, of downloads `content` and `failed` too.

        None if there is no whole file.
        """
        index = self._of(step)
        file = part_file(step, part)
        name = file.rpartition("/")[2]
        stamp = index.stamps.get(name)
        if stamp is None:
            return None
        known = index.known.get(name)
        if known is None or known.stamp != stamp:
            facts = self._store.read_facts(file)
            if facts is None:
                return None
            known = DoneFile(stamp, {each: facts[each] for each in _REMEMBERED if each in facts})
            index.known[name] = known
            index.changed = True
        return known.facts

    def names(self, step: str) -> list[str]:
        """Names of the files in a step's folder."""
        return list(self._of(step).stamps)

    def record(self, step: str, part: int, found: str | None, digest: str | None) -> None:
        """Remember a file that was just written.

        Args:
            step, part: of the file.
            found: its fingerprint; None: its facts are to be read from the file.
            digest: of its bytes, from whoever wrote it.

        Raises:
            CurateError: a worker wrote it where this process does not see it.
        """
        file = part_file(step, part)
        try:
            stamp = self._store.stamp(file)
        except FileNotFoundError:
            raise CurateError(
                f"{self._store.path(file)}: a worker wrote this file, but it cannot be seen here. On a cluster of "
                "several machines `output` must be a shared folder or a URL such as s3://bucket/run."
            ) from None
        index, name = self._of(step), file.rpartition("/")[2]
        index.stamps[name] = stamp
        index.known.pop(name, None)
        facts = {"fingerprint": found} if found is not None else self.facts(step, part)
        if facts is not None:
            index.known[name] = DoneFile(stamp, facts, digest)
        index.changed = True
        if time.monotonic() >= index.save_after:
            self._save(step, index)

    def forget(self, step: str, name: str) -> None:
        """A file of a step's folder was deleted."""
        index = self._of(step)
        index.stamps.pop(name, None)
        index.changed |= index.known.pop(name, None) is not None

    def save(self) -> None:
        """Write what is known of every step, where something is new.

        Raises:
            CurateError: the run directory cannot be written.
        """
        for step, index in self._steps.items():
            if index.changed:
                self._save(step, index)

    def _save(self, step: str, index: _StepIndex) -> None:
        started = time.monotonic()
        files = {
            name: {"stamp": known.stamp, "digest": known.digest, "facts": known.facts}
            for name, known in sorted(index.known.items())
            if name in index.stamps
        }
        self._store.write_bytes(index_file(step), (json.dumps({"files": files}) + "\n").encode())
        ended = time.monotonic()
        index.changed = False
        # Of a million parts the index is large: writing it must stay a small share of the time.
        index.save_after = ended + max(self._save_seconds, 20 * (ended - started))

    def _of(self, step: str) -> _StepIndex:
        if step not in self._steps:
            stamps, known = self._store.list_stamps(step), read_index(self._store, step)
            self._steps[step] = _StepIndex(stamps, known, time.monotonic() + self._save_seconds)
        return self._steps[step]


def index_file(step: str) -> str:
    """Name of the index of a step's files."""
    return f"{INDEX_FOLDER}/{step}.json"


def read_index(store: RunStore, step: str) -> dict[str, DoneFile]:
    """What the index knows of a step's files, by bare name. One that cannot be read counts as lost."""
    try:
        files = (store.read_json(index_file(step)) or {"files": {}})["files"]
        return {name: DoneFile(each["stamp"], each["facts"], each["digest"]) for name, each in files.items()}
    except (CurateError, LookupError, TypeError, AttributeError):
        log.warning("%s cannot be understood; it is made anew from the files", store.path(index_file(step)))
        return {}
