"""Memory of a process and of all that it started, sampled from /proc."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")
SAMPLE_SECONDS = 0.1


class TreeMemory:
    """The most memory that a process tree had at any sample since it was made, until `stop`.

    Counted is each page's share (PSS): what processes share counts once, not once for each of them.
    """

    def __init__(self, root: int, seconds: float = SAMPLE_SECONDS) -> None:
        """`root`: process id; `seconds`: between samples."""
        self._root, self._seconds = root, seconds
        self._peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tree-memory", daemon=True)
        self._thread.start()

    @property
    def peak(self) -> int:
        """Bytes."""
        return self._peak

    def stop(self) -> None:
        """No more samples."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._peak = max(self._peak, tree_memory(self._root))
            self._stopped.wait(self._seconds)


@contextmanager
def watched_memory(root: int, seconds: float = SAMPLE_SECONDS) -> Iterator[TreeMemory]:
    """The memory of a process tree while the context is open."""
    memory = TreeMemory(root, seconds)
    try:
        yield memory
    finally:
        memory.stop()


def tree_memory(root: int) -> int:
    """Bytes that a process and its descendants have in memory now; 0 where it is gone."""
    return sum(_proportional_set_size(process) for process in _descendants(root))


def _descendants(root: int) -> list[int]:
    """The process itself, its children, and theirs."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            children.setdefault(_parent(folder), []).append(int(folder.name))
    found = [root]
    for process in found:
        found.extend(children.get(process, ()))
    return found


def _parent(folder: Path) -> int:
    """Its parent's process id; 0 where it has ended meanwhile."""
    # The name comes in brackets and may hold anything, brackets too.
    fields = _read(folder / "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # The process has ended meanwhile.


def _proportional_set_size(process: int) -> int:
    lines = _read(_PROC / str(process) / "smaps_rollup").splitlines()
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")]
    return sum(sizes)
