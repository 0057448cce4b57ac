"""Processes that a trial starts, and how they are found and ended. /proc makes it Linux only."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import CurateError

LONGEST_SECONDS = 900.0
"""A run that takes longer hangs."""
_PIPE_SECONDS = 10.0
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: of its exit; negative: the signal that killed it.
        told: what it wrote to stdout and stderr.
    """

    code: int
    told: str


class Listener:
    """Takes down what a process writes, through a pipe: one that can write no file any more can still say so.

    Attributes:
        pipe: what the process opens for writing.
    """

    def __init__(self, log: Path) -> None:
        """`log`: file that what is written goes on to, too."""
        self._log = log
        self.pipe = log.with_suffix(".pipe")
        os.mkfifo(self.pipe)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self.pipe.open("rb") as heard, self._log.open("wb", buffering=0) as log:
            while data := heard.read1(1 << 16):
                log.write(data)
        self.pipe.unlink()

    def told(self) -> str:
        """All that was written by a process that has ended."""
        # What it has started may outlive it for a while, and holds the pipe open.
        self._thread.join(_PIPE_SECONDS)
        return self.said()

    def said(self) -> str:
        """What was written until now."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""


class RunProcess:
    """A `curate run` that was started, in a process group of its own.

    Args:
        pid: its id.
        poll: its exit code (negative: the signal that killed it), None while it goes on.
        log: hears what it writes.
    """

    def __init__(self, pid: int, poll: Callable[[], int | None], log: Listener) -> None:
        self.pid = pid
        self._poll = poll
        self._log = log

    def has_ended(self) -> bool:
        return self._poll() is not None

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the process alone; False: it has ended."""
        if self.has_ended():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def limit_file_size(self, size: int) -> bool:
        """From now on it can write no file that is larger; False: it has ended."""
        try:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> Ended:
        """Wait for its end; whoever interrupts that ends the process.

        Raises:
            CurateError: it hangs; it is killed then.
        """
        deadline = time.monotonic() + LONGEST_SECONDS
        try:
            while (code := self._poll()) is None:
                if time.monotonic() > deadline:
                    raise CurateError(f"a run takes longer than {LONGEST_SECONDS:.0f} s: {self._log.said()[-500:]}")
                time.sleep(0.02)
        finally:
            self.end()
        return Ended(code, self._log.told())

    def end(self) -> None:
        """Kill it with all that it started, if it is still there."""
        while not self.has_ended():
            kill_all([self.pid, *descendants(self.pid)])
            time.sleep(0.02)


def start_process(
    module: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> RunProcess:
    """`python -m MODULE.. ARGUMENTS..`

    Args:
        module: what Python runs, with arguments of its own that come first.
        arguments: what follows them.
        environment: beside the one that is there.
        log: file that takes what the process writes.
    """
    listener = Listener(log)
    with listener.pipe.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD, **environment},
            start_new_session=True,
        )
    return RunProcess(process.pid, process.poll, listener)


class Prefork:
    """Starts one run at a time in a process that has the libraries loaded, see `curate.bench.chaos.prefork`."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def start(self, module: Sequence[str], arguments: Sequence[str], log: Path) -> RunProcess:
        """See `start_process`.

        Raises:
            CurateError: the process that has the libraries loaded has ended.
        """
        listener = Listener(log)
        wanted = {"module": module[0], "arguments": [*module[1:], *arguments], "log": str(listener.pipe)}
        server = self._running()
        assert server.stdin is not None
        assert server.stdout is not None
        answers = server.stdout
        server.stdin.write(json.dumps(wanted) + "\n")
        server.stdin.flush()
        pid = self._answer(server)["pid"]
        ended = list[int]()

        def poll() -> int | None:
            if not ended and select.select([answers], [], [], 0)[0]:
                ended.append(self._answer(server)["status"])
            return ended[0] if ended else None

        return RunProcess(pid, poll, listener)

    def close(self) -> None:
        """End the process."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _running(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "curate.bench.chaos.prefork"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,
            )
        return self._server

    @staticmethod
    def _answer(server: subprocess.Popen[str]) -> dict[str, int]:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise CurateError("the process that starts the runs has ended")
        answer: dict[str, int] = json.loads(line)
        return answer


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
            found[pid] = (
                Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            )
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


def wait_until_gone(pids: Sequence[int], seconds: float = 240.0) -> list[int]:
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
