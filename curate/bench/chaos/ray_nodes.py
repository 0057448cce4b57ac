"""A Ray cluster of two nodes on one machine, driven by the `ray` command as a person would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.bench.chaos.processes import ONE_THREAD, descendants, kill_all, titles, wait_until_gone
from curate.bench.chaos.web import free_port
from curate.errors import CurateError

HEAD_CPUS = 2
"""Enough for a run to go on without the second node."""
SECOND_CPUS = 1
_START_SECONDS = 300.0
PATIENT = {
    # Ray gives up after 30 seconds otherwise, which a busy machine needs.
    "RAY_raylet_start_wait_time_s": f"{_START_SECONDS:.0f}",
    "RAY_agent_register_timeout_ms": f"{1000 * _START_SECONDS:.0f}",
    # Ray's workers let all others go first otherwise, and starve on a busy machine.
    "RAY_worker_niceness": "0",
}
"""Environment of nodes and of runs that start one."""
_STARTS = 3
"""How often a node is started that does not come up."""
_IS_UP = "This command will now block forever"
"""The last thing that `ray start --block` writes once its node is up."""
_RAYLET = "/raylet/raylet "
"""Stands in the command line of the process that makes a node a node."""


@dataclass(frozen=True)
class _Node:
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """kill -9 of everything on the node."""
        below = descendants(self.process.pid)
        kill_all([self.process.pid, *below])
        self.process.wait()
        wait_until_gone(below)


class RayNodes:
    """A head that stays, and a second node that can be lost and had anew. Nothing is started before it is needed.

    Attributes:
        address: of the cluster, once it is started.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._head: _Node | None = None
        self._second: _Node | None = None
        self.address = ""

    def start(self) -> None:
        """Start what is not there.

        Raises:
            CurateError: a node does not come up.
        """
        if self._folder is None:
            # Ray puts sockets there, whose paths must be short.
            self._folder = Path(tempfile.mkdtemp(prefix="curate-ray-"))
        if self._head is None:
            port = free_port()
            self.address = f"127.0.0.1:{port}"
            head = ("--head", f"--port={port}", f"--num-cpus={HEAD_CPUS}", "--include-dashboard=false")
            self._head = self._started(self._folder, *head, f"--temp-dir={self._folder}")
        if self._second is None:
            self._second = self._started(self._folder, f"--address={self.address}", f"--num-cpus={SECOND_CPUS}")

    def workers(self) -> dict[int, str]:
        """Processes that work on both nodes: id and what they call themselves."""
        running = [node for node in (self._head, self._second) if node is not None]
        found = titles([pid for node in running for pid in descendants(node.process.pid)])
        return {pid: title for pid, title in found.items() if title.startswith("ray::")}

    def lose_second(self) -> None:
        """kill -9 of everything on the second node."""
        if self._second is not None:
            self._second.end()
            self._second = None

    def close(self) -> None:
        """End both nodes."""
        self.lose_second()
        if self._head is not None:
            self._head.end()
            self._head = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _started(self, folder: Path, *options: str) -> _Node:
        said = ""
        for _ in range(_STARTS):
            node = _begun(folder, options)
            if _comes_up(node):
                return node
            said = node.said()
            node.end()
        raise CurateError(f"a Ray node does not come up, tried {_STARTS} times: {said[-500:]}")


def _begun(folder: Path, options: Sequence[str]) -> _Node:
    log = folder / f"started-{time.monotonic_ns()}.log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            # --block: what it starts stays below it and is found again.
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block", "--disable-usage-stats"],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD, **PATIENT, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    return _Node(process, log)


def _comes_up(node: _Node) -> bool:
    """Wait until it is up, or will not be: `ray start` itself goes on waiting for a raylet that has died."""
    deadline, had_raylet = time.monotonic() + _START_SECONDS, False
    while time.monotonic() < deadline and node.process.poll() is None:
        if _IS_UP in node.said():
            return True
        has_raylet = any(_RAYLET in title for title in titles(descendants(node.process.pid)).values())
        if had_raylet and not has_raylet:
            return False
        had_raylet = has_raylet
        time.sleep(0.1)
    return False
