"""The run directory: atomic files, column files of every step, artifacts, fingerprints.

Layout under the run's root:

    manifest.parquet                    the parts, numbered once and for good
    shard_errors.parquet                what in the input could not become a row
    STEP/part-00000012.parquet          the columns that one step made for one part
    artifacts/FIT/...                   what a fit left; artifact.json is written last
    annotations/part-00000012.parquet   the result
    _state/                             shortcuts and timings of this machine; deleting it loses no result

Everything outside `_state` is the same bytes for the same inputs, config, seed and numerics profile.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from curate.columns import side_by_side
from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    import pyarrow.dataset

StepColumns: TypeAlias = tuple[str, Sequence[str]]

METADATA_KEY = b"curate"
MANIFEST_FILE = "manifest.parquet"
CONTENT = "content"
"""In the facts of a file of downloads: digest of what was downloaded."""
FAILED = "failed"
"""In the facts of a file of downloads: how many rows came to nothing."""
TEMPORARY_PREFIX = ".tmp-"
_BUFFER_BYTES = 1 << 20


def fingerprint(facts: Any) -> str:
    """128-bit hex digest of a JSON-able value; equal values give equal digests on every machine."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class RunStore:
    """Reads and writes one run directory through fsspec. A file is whole or absent: never half written."""

    def __init__(self, url: str) -> None:
        """Raises InputError if the URL's protocol is unknown or its package is missing."""
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"output: {url}: {error}") from None
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
            CurateError: the store refuses (full, read-only, unreachable).
        """
        target = f"{self._root}/{name}"
        try:
            if self._is_local:
                self._replace_local(Path(target), data)
            else:
                self._fs.pipe_file(target, data)
        except OSError as error:
            raise CurateError(f"{self.path(name)}: cannot be written: {error}") from error

    def _replace_local(self, target: Path, data: bytes) -> None:
        self._refuse_links(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name}"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

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

    def append_line(self, name: str, line: str) -> None:
        """Append one line to a local journal; on an object store this does nothing, as it has no appending."""
        if self._is_local:
            self.check_inside(name)
            target = Path(self._root, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def list_stamps(self, folder: str) -> dict[str, str]:
        """Name and stamp of every file directly in a folder of the run; empty if there is no such folder."""
        try:
            entries = self._fs.ls(f"{self._root}/{folder}", detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        return {e["name"].rsplit("/", 1)[-1]: _stamp(e) for e in entries if e["type"] == "file"}

    def stamp(self, name: str) -> str:
        """Size with mtime or etag of one file of the run."""
        return _stamp(self._fs.info(f"{self._root}/{name}"))

    def delete(self, name: str) -> None:
        """Remove one file of the run if it is there."""
        if self.exists(name):
            if self._is_local:
                self._refuse_links(Path(self._root, name))
            self._fs.rm_file(f"{self._root}/{name}")

    def delete_temporary_files(self, folders: Sequence[str]) -> None:
        """Remove what a killed writer left behind."""
        for folder in folders:
            for name in self.list_stamps(folder):
                if name.startswith(TEMPORARY_PREFIX):
                    self.delete(f"{folder}/{name}")

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

    def write_table(self, name: str, table: pa.Table, facts: Mapping[str, Any]) -> None:
        """Write a Parquet file whose schema metadata carries `facts` as JSON."""
        metadata = {METADATA_KEY: json.dumps(facts, sort_keys=True).encode()}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        self.write_bytes(name, sink.getvalue())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file of the run, or some of its columns.

        Raises:
            CurateError: the file is absent or broken; says which.
        """
        try:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))
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
                opened = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
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
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                return pq.read_schema(file)
        except (OSError, pa.ArrowException) as error:
            raise CurateError(f"{self.path(name)}: cannot be read: {error}. Delete it and run again.") from error

    def read_facts(self, name: str) -> dict[str, Any] | None:
        """The `facts` of a Parquet file of the run; None if it is absent, broken or not ours."""
        try:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                metadata = pq.read_schema(file).metadata or {}
        except (OSError, pa.ArrowException):
            return None
        facts = metadata.get(METADATA_KEY)
        return json.loads(facts) if facts else None


def part_file(step: str, part: int) -> str:
    """Name of a step's column file for a part."""
    return f"{step}/part-{part:08d}.parquet"


def _stamp(info: Mapping[str, Any]) -> str:
    version = next(
        (info[k] for k in ("mtime", "ETag", "etag", "LastModified", "updated", "created") if info.get(k)), ""
    )
    return f"{info['size']}-{version}"


JOURNAL = "_state/done.jsonl"
_REMEMBERED = ("fingerprint", CONTENT, FAILED)


class DoneIndex:
    """Which column files exist with which fingerprint, without opening each.

    The journal is a shortcut: a file it does not know (or knows with another stamp) has its facts read from its own
    metadata, so losing the journal loses nothing.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}
        self._stamps: dict[str, dict[str, str]] = {}
        for entry in _read_journal(store):
            self._known[entry["file"]] = (entry["stamp"], _remembered(entry))

    def fingerprint(self, step: str, part: int) -> str | None:
        """Fingerprint of a step's file for a part, None if there is no whole file."""
        facts = self.facts(step, part)
        return None if facts is None else facts["fingerprint"]

    def facts(self, step: str, part: int) -> dict[str, Any] | None:
        """What is remembered of a step's file for a part: `fingerprint`, of downloads `content` and `failed` too.

        None if there is no whole file.
        """
        if step not in self._stamps:
            self._stamps[step] = self._store.list_stamps(step)
        file = part_file(step, part)
        stamp = self._stamps[step].get(file.rsplit("/", 1)[-1])
        if stamp is None:
            return None
        known = self._known.get(file)
        if known is None or known[0] != stamp:
            facts = self._store.read_facts(file)
            if facts is None:
                return None
            self._remember(file, stamp, _remembered(facts))
        return self._known[file][1]

    def record(self, step: str, part: int, found: str | None) -> None:
        """Remember a file that was just written; fingerprint None: its facts are to be read from the file.

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
        if step in self._stamps:
            self._stamps[step][file.rsplit("/", 1)[-1]] = stamp
        if found is None:
            self._known.pop(file, None)
        else:
            self._remember(file, stamp, {"fingerprint": found})

    def _remember(self, file: str, stamp: str, facts: dict[str, Any]) -> None:
        self._known[file] = (stamp, facts)
        self._store.append_line(JOURNAL, json.dumps({"file": file, "stamp": stamp, **facts}, sort_keys=True))


def _remembered(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in _REMEMBERED if name in facts}


def _read_journal(store: RunStore) -> Iterator[dict[str, Any]]:
    try:
        text = store.read_bytes(JOURNAL).decode()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            # A kill in the middle of appending leaves half a line; the file's own metadata is asked instead.
            continue
