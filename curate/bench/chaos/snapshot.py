"""What a run directory holds at a moment, and how two of them differ."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from curate.steps import ARTIFACT_FILE
from curate.store import TEMPORARY_PREFIX

STATE = "_state/"
ANNOTATIONS = "annotations"
_WHOLE_CORPUS_STEPS = ("duplicates",)
"""Steps done in one go: their files count as done only when all of them are there."""


@dataclass(frozen=True)
class FileState:
    """One file of a run: `digest` of its bytes; a file that is written again has another `inode` or `mtime_ns`."""

    digest: str
    inode: int
    mtime_ns: int


@dataclass(frozen=True)
class Snapshot:
    """A run directory.

    Attributes:
        files: every file outside `_state`, by its name in the run; none of them temporary.
        temporary: files that a writer left behind, anywhere in the run.
        rows: how often each `row_id` stands in the annotations.
    """

    files: Mapping[str, FileState]
    temporary: tuple[str, ...]
    rows: Counter[str]


@dataclass(frozen=True)
class Difference:
    """How a run differs from the undisturbed one.

    Attributes:
        lost, duplicated, invented: rows of the annotations.
        files: names of files that are other bytes, are missing, or are too many.
    """

    lost: int
    duplicated: int
    invented: int
    files: tuple[str, ...]


def take_snapshot(run: Path) -> Snapshot:
    """Everything that is in a run directory now; empty where there is none.

    Raises:
        pyarrow.ArrowInvalid: a file of the annotations is not whole.
    """
    paths = {path.relative_to(run).as_posix(): path for path in sorted(run.rglob("*")) if path.is_file()}
    temporary = tuple(name for name in paths if _is_temporary(name))
    files = {name: _state_of(path) for name, path in paths.items() if not name.startswith(STATE)}
    rows: Counter[str] = Counter()
    for name in files:
        if name.startswith(f"{ANNOTATIONS}/") and name not in temporary:
            rows.update(pq.read_table(paths[name], columns=["row_id"]).column("row_id").to_pylist())
    return Snapshot({name: state for name, state in files.items() if name not in temporary}, temporary, rows)


def compare(undisturbed: Snapshot, found: Snapshot) -> Difference:
    """How a finished run differs from the undisturbed one."""
    wanted, got = undisturbed.rows, found.rows
    names = sorted({*undisturbed.files, *found.files})
    return Difference(
        lost=sum((wanted - got).values()),
        duplicated=sum(got[row] - wanted[row] for row in got if 0 < wanted[row] < got[row]),
        invented=sum(count for row, count in got.items() if row not in wanted),
        files=tuple(name for name in names if _digest(undisturbed, name) != _digest(found, name)),
    )


def done_again(before: Snapshot, after: Snapshot, undisturbed: Snapshot) -> tuple[str, ...]:
    """Files that were done before a run was resumed, and were written again all the same.

    Args:
        before: when the disturbed run had ended.
        after: when the resumed one had.
        undisturbed: says which files a step has that is done in one go.
    """
    return tuple(
        name
        for name, state in before.files.items()
        if _is_done(name, before, undisturbed) and name in after.files and after.files[name] != state
    )


def _is_done(name: str, run: Snapshot, undisturbed: Snapshot) -> bool:
    """Whether the step or fit that a file belongs to was done with it."""
    folder = name.rpartition("/")[0]
    if folder.startswith("artifacts/"):
        return f"{folder}/{ARTIFACT_FILE}" in run.files
    if folder in _WHOLE_CORPUS_STEPS:
        return all(each in run.files for each in undisturbed.files if each.startswith(f"{folder}/"))
    # Two files say what the input is; the second makes them count.
    return bool(folder) or all(each in run.files for each in undisturbed.files if "/" not in each)


def _is_temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(TEMPORARY_PREFIX)


def _state_of(path: Path) -> FileState:
    status = path.stat()
    return FileState(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), status.st_ino, status.st_mtime_ns)


def _digest(snapshot: Snapshot, name: str) -> str | None:
    state = snapshot.files.get(name)
    return None if state is None else state.digest
