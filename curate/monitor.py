"""Figures of a run while it goes on, and who hears of them: terminal, logs, metrics, the run's own state.

A `Monitor` hears what a runner tells and what the library logs, and hands every event with the figures so far to its
listeners. What they show is the same for all of them, as it comes from here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from typing import Any, TypeAlias

from curate.errors import CurateError
from curate.events import (
    Event,
    InputRead,
    Noted,
    RunFailed,
    RunFigures,
    RunFinished,
    RunInterrupted,
    RunStarted,
    StepFigures,
    StepFinished,
    StepProgress,
    StepStarted,
    Warned,
)
from curate.progress import PartReport, StepReport, StepStart

TICK_SECONDS = 1.0
"""How often listeners hear of a step in which nothing happens: a fit, a large part."""


Listener: TypeAlias = Callable[[Event, RunFigures], None]
Clock: TypeAlias = Callable[[], float]


class Monitor:
    """Keeps a run's figures and tells its listeners. May be told by several threads; listeners hear one at a time."""

    def __init__(self, listeners: Sequence[Listener] = (), clock: Clock = time.monotonic) -> None:
        """`clock`: seconds since any moment."""
        self._listeners, self._clock = list(listeners), clock
        self._lock = threading.RLock()
        self._began, self._step_began = clock(), 0.0
        self._figures = RunFigures()
        self._step: StepFigures | None = None
        self._expected: Mapping[str, float] = {}
        self._broken: Exception | None = None

    @property
    def figures(self) -> RunFigures:
        """As they are now."""
        with self._lock:
            steps = self._figures.steps if self._step is None else (*self._figures.steps, self._step)
            return replace(self._figures, seconds=self._clock() - self._began, steps=steps)

    def add(self, listener: Listener) -> None:
        """Tell one more, from now on."""
        self._listeners.append(listener)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """What steps may take, by name."""
        self._expected = seconds

    def run_started(self, start: RunStarted) -> None:
        """The command begins."""
        self._tell(start, run=start.run, runner=start.runner)

    def input_read(self, found: InputRead) -> None:
        """The input is known."""
        counts = {name: getattr(found, name) for name in ("pairs", "shards", "parts", "shard_errors")}
        self._tell(found, **counts)

    def step_started(self, start: StepStart) -> None:
        """See Progress."""
        with self._lock:
            self._step_began = self._clock()
            self._step = StepFigures(
                step=start.name,
                about=start.about,
                rows=start.rows,
                rows_done=start.rows_done,
                parts=start.parts,
                parts_done=start.parts_done,
                workers=start.workers,
                expected_seconds=self._expected.get(start.name),
            )
            self._tell(StepStarted(self._step))

    def part_done(self, name: str, report: PartReport) -> None:
        """See Progress."""
        with self._lock:
            self._raise_broken()
            now = self._of_step(
                head_seconds=self._running.head_seconds + report.head_seconds,
                body_seconds=self._running.body_seconds + report.body_seconds,
            )
            if report.error is None:
                self._step = replace(
                    now,
                    rows_done=now.rows_done + report.rows,
                    rows_worked=now.rows_worked + report.rows,
                    parts_done=now.parts_done + 1,
                )
            else:
                self._step = replace(now, parts_failed=now.parts_failed + 1)
            statuses = dict(self._figures.statuses)
            for status, count in report.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
            self._tell(StepProgress(self._step), statuses=statuses)

    def step_done(self, report: StepReport) -> None:
        """See Progress."""
        with self._lock:
            self._raise_broken()
            step = self._of_step(rows_worked=report.rows, doing="", finished=True)
            self._step = None
            self._tell(StepFinished(step), steps=(*self._figures.steps, step))

    def said(self, message: str) -> None:
        """The library says what it does now."""
        with self._lock:
            if self._step is None:
                self._tell(Noted(message))
            else:
                self._step = self._of_step(doing=message)
                self._tell(StepProgress(self._step))

    def warned(self, message: str) -> None:
        """The library warns."""
        with self._lock:
            name = None if self._step is None else self._step.step
            self._tell(Warned(message, name), warnings=self._figures.warnings + 1)

    def finished(self, end: RunFinished) -> None:
        """All is done."""
        self._tell(end, state="finished", exit_code=end.exit_code)

    def failed(self, error: str, exit_code: int) -> None:
        """The run ends with an error."""
        self._end(RunFailed(error, exit_code, self._name()), state="failed", error=error, exit_code=exit_code)

    def interrupted(self, exit_code: int) -> None:
        """The run is told to stop."""
        self._end(RunInterrupted(exit_code, self._name()), state="interrupted", exit_code=exit_code)

    @contextmanager
    def ticking(self, seconds: float = TICK_SECONDS) -> Iterator[None]:
        """Tell of a step every so many seconds, whatever happens, while the context is open."""
        stop = threading.Event()
        thread = threading.Thread(
            target=copy_context().run, args=(self._tick, stop, seconds), name="curate-monitor", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def hearing_logs(self) -> Iterator[None]:
        """Take what the library logs while the context is open: warnings, and what it does at the moment."""
        logger, handler = logging.getLogger("curate"), _LogHandler(self)
        before = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]

    @property
    def _running(self) -> StepFigures:
        assert self._step is not None, "a step begins before its parts are done"
        return self._step

    def _of_step(self, **changes: Any) -> StepFigures:
        return replace(self._running, seconds=self._clock() - self._step_began, **changes)

    def _name(self) -> str | None:
        return None if self._step is None else self._step.step

    def _end(self, event: RunFailed | RunInterrupted, **changes: Any) -> None:
        with self._lock:
            if self._step is not None:
                changes["steps"] = (*self._figures.steps, self._of_step(doing=""))
                self._step = None
            self._tell(event, **changes)

    def _tell(self, event: Event, **changes: Any) -> None:
        with self._lock:
            self._figures = replace(self._figures, **changes)
            figures, failures = self.figures, []
            for listener in self._listeners:
                try:
                    listener(event, figures)
                except (OSError, CurateError) as error:
                    # The others hear all the same.
                    failures.append(error)
            if failures:
                raise failures[0]

    def _tick(self, stop: threading.Event, seconds: float) -> None:
        while not stop.wait(seconds):
            with self._lock:
                if self._step is not None and self._broken is None:
                    self._step = self._of_step()
                    try:
                        self._tell(StepProgress(self._step))
                    except (OSError, CurateError) as error:
                        # Raised where the run itself can end by it: a closed pipe, a full disk.
                        self._broken = error

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken


class EveryFew:
    """Passes events on to a listener; those of progress once in so many seconds, or when a step does something new."""

    def __init__(self, seconds: float, listener: Listener, clock: Clock = time.monotonic) -> None:
        self._seconds, self._listener, self._clock = seconds, listener, clock
        self._passed, self._doing = clock(), ""

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener."""
        if isinstance(event, StepProgress):
            is_new = event.step.doing not in ("", self._doing)
            if not is_new and self._clock() - self._passed < self._seconds:
                return
            self._doing = event.step.doing
        if isinstance(event, StepStarted | StepProgress):
            self._passed = self._clock()
        self._listener(event, figures)


class _LogHandler(logging.Handler):
    """Hands records to a monitor, from info on."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(logging.INFO)
        self._monitor = monitor

    def createLock(self) -> None:  # noqa: N802
        # The monitor has its own lock, and a listener may log while it is held: two locks could block each other.
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        tell = self._monitor.warned if record.levelno >= logging.WARNING else self._monitor.said
        tell(record.getMessage())
