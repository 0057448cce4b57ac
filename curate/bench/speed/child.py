"""Measurements in processes of their own: each loads once, then measures whenever it is asked, one line a time.

A child writes a line of JSON when it is ready and one for every measurement; between them it sleeps. So several can be
loaded at once and measured in turn, A B A B, and what one keeps in memory is not counted to another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, TypeAlias

from curate.bench.speed.process_tree import watched_memory
from curate.errors import CurateError

Answer: TypeAlias = dict[str, Any]
Measure: TypeAlias = Callable[[], Answer]

LAST_LINES = 3
_DRIVERS = Path(__file__).parent / "drivers"


@dataclass(frozen=True)
class ChildCommand:
    """How a child is started.

    Attributes:
        name: for people.
        command: program and arguments; the last argument is JSON.
        environment: variables beside this process's own.
    """

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def module_child(name: str, module: str, given: Mapping[str, Any]) -> ChildCommand:
    """A module of ours that ends in `serve(...)`, given its arguments."""
    return ChildCommand(name, (sys.executable, "-m", module, json.dumps(given)))


def driver_child(name: str, python: Path, script: str, given: Mapping[str, Any]) -> ChildCommand:
    """A script of `drivers/`, run by a peer's own interpreter: off the network, and free to use all cores."""
    cores = str(len(os.sched_getaffinity(0)))
    given_there = (
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("PYTHONPATH", ""),
        ("OMP_NUM_THREADS", cores),
    )
    return ChildCommand(name, (str(python), str(_DRIVERS / script), json.dumps(given)), given_there)


class Child:
    """A running child. Use it as a context: at the end it is told to stop and waited for."""

    def __init__(self, how: ChildCommand) -> None:
        """Start it and wait until it is ready.

        Raises:
            CurateError: it cannot be started or ends before it is ready; with its own last words.
        """
        self._how = how
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                how.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **dict(how.environment)},
            )
        except OSError as error:
            raise CurateError(f"{how.name}: cannot be started: {error}") from error
        self.process = self._process.pid
        try:
            self.ready = self._answer()
        except CurateError:
            self.close()
            raise
        self.start_up_seconds = time.monotonic() - started

    @property
    def name(self) -> str:
        """For people."""
        return self._how.name

    def measure(self) -> Answer:
        """One measurement.

        Raises:
            CurateError: the child could not, or has died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"measure\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise CurateError(f"{self.name}: {answer['error']}")
        return answer

    def _died(self) -> CurateError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        words = " | ".join(line.strip() for line in said[-LAST_LINES:]) or "without a word"
        return CurateError(f"{self.name}: ended with exit code {code}: {words}")


def measured_once(how: ChildCommand) -> tuple[Answer, int]:
    """One measurement in a child that is started for it, and the most memory of its whole process tree, bytes.

    Raises:
        CurateError: the child could not.
    """
    with Child(how) as child, watched_memory(child.process) as memory:
        answer = child.measure()
    return answer, memory.peak


@dataclass(frozen=True)
class StartedAnew:
    """A contestant that is a new process each time: what it takes to start is told, and is not its speed."""

    how: ChildCommand

    @property
    def name(self) -> str:
        """For people."""
        return self.how.name

    def measure(self) -> Answer:
        """One measurement, whose `seconds` do not contain the `start_up_seconds`."""
        started = time.monotonic()
        with Child(self.how) as child:
            answer = child.measure()
            whole = time.monotonic() - started
        return {**answer, "start_up_seconds": whole - answer["seconds"]}


class Contestant(Protocol):
    """Whatever is measured in turn with others."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def measure(self) -> Answer:
        """One measurement."""
        ...


@contextmanager
def loaded(commands: Sequence[ChildCommand]) -> Iterator[tuple[list[Child], dict[str, str]]]:
    """Children that are all loaded at once, and why others could not be started, by name."""
    children: list[Child] = []
    refused: dict[str, str] = {}
    with ExitStack() as stack:
        for how in commands:
            try:
                children.append(stack.enter_context(Child(how)))
            except CurateError as error:
                refused[how.name] = str(error).removeprefix(f"{how.name}: ")
        yield children, refused


def interleaved(
    contestants: Sequence[Contestant], rounds: int, told: Callable[[str], None]
) -> tuple[dict[str, list[Answer]], dict[str, str]]:
    """Measure all in turn, `rounds` times over: A B C A B C ...

    Returns:
        The answers of each, and what went wrong for those that could not go on; they have no answers.
    """
    answers: dict[str, list[Answer]] = {one.name: [] for one in contestants}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for one in contestants:
            if one.name in failed:
                continue
            told(f"round {number + 1} of {rounds}: {one.name}")
            try:
                answers[one.name].append(one.measure())
            except CurateError as error:
                failed[one.name] = str(error).removeprefix(f"{one.name}: ")
    return {name: held for name, held in answers.items() if name not in failed}, failed


def serve(make: Callable[[dict[str, Any]], Measure]) -> None:
    """The child's side: make a measurement from the arguments, then do it once for every line that is read.

    What libraries print goes to stderr: standard output is for answers alone.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def answer(content: Answer) -> None:
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        try:
            measure = make(json.loads(sys.argv[1]))
            answer({"ready": True})
            for _ in sys.stdin:
                answer(measure())
        except CurateError as error:
            answer({"error": str(error)})
