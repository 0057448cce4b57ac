"""Processes that a trial starts, and how they are found and ended. /proc makes it Linux only."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import CurateError

LONGEST_SECONDS = 900.0
"""A run that takes longer hangs."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: of its exit; negative: the signal that killed it.
        told: what it wrote to stdout and stderr.
    """

    code: int
    told: str


class RunProcess:
    """`curate run` on a pipeline, in a process group of its own.

    Args:
        module: what Python runs, with the arguments that come before `run`.
        arguments: of `run`.
        environment: beside the one that is there.
        log: file that takes what the process writes.
    """

    def __init__(
        self, module: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        with log.open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module, "run", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(number)

    def limit_file_size(self, size: int) -> None:
        """From now on it can write no file that is larger."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def wait(self) -> Ended:
        """Wait for its end.

        Raises:
            CurateError: it hangs; it is killed then.
        """
        try:
            code = self._process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            raise CurateError(f"a run takes longer than {LONGEST_SECONDS:.0f} s; what it wrote: {self._log}") from None
        return Ended(code, self._log.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """Kill it with all that it started, if it is still there."""
        if not self.has_ended():
            kill_all([self.pid, *descendants(self.pid)])
            self._process.wait()


def descendants(pid: int) -> list[int]:
    """All processes that a process started, and those that they started; their ids."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        parent = _parent(folder)
        if parent is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = list[int](), [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def titles(pids: Sequence[int]) -> dict[int, str]:
    """What each process calls itself; those that are gone are left out."""
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
    return found


def kill_all(pids: Sequence[int]) -> None:
    """kill -9; those that are gone already are no error."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(pids: Sequence[int], seconds: float = 60.0) -> list[int]:
    """Wait for processes that are not ours to wait for; those that are still there in the end."""
    deadline = time.monotonic() + seconds
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if _is_alive(pid)]
        time.sleep(0.02)
    return left


def _parent(folder: Path) -> int | None:
    try:
        # The name of the program stands in parentheses and may hold anything.
        return int((folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
