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
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

from curate.progress import PartReport, StepReport, StepStart

TICK_SECONDS = 1.0
"""How often listeners hear of a step in which nothing happens: a fit, a large part."""


@dataclass(frozen=True)
class StepFigures:
    """How far a step is.

    Attributes:
        step: its name.
        about: what it does and how, for a person.
        doing: what it does at this moment, where that is known.
        rows, rows_done: pairs in all and pairs done, by earlier runs too; rows is 0 where it is not done by parts.
        rows_worked: pairs that this run worked on; those a fit was fitted on once it is finished.
        parts, parts_done, parts_failed: the same in parts; failed ones are not done.
        workers: most that work at once.
        seconds: since it began, until it ended.
        expected_seconds: what it may take in all, from earlier runs; None: not known.
        head_seconds, body_seconds: workers' time for reading and CPU stages, and for models and writing.
        finished: whether it is complete.
    """

    step: str
    about: str = ""
    doing: str = ""
    rows: int = 0
    rows_done: int = 0
    rows_worked: int = 0
    parts: int = 0
    parts_done: int = 0
    parts_failed: int = 0
    workers: int = 1
    seconds: float = 0.0
    expected_seconds: float | None = None
    head_seconds: float = 0.0
    body_seconds: float = 0.0
    finished: bool = False

    @property
    def rows_per_second(self) -> float | None:
        """Pairs worked on by this run, since the step began; None before the first."""
        return self.rows_worked / self.seconds if self.rows_worked and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """From the rate so far, else from what earlier runs took; None: not known."""
        if self.finished:
            return 0.0
        if self.rows_worked and self.rows_per_second:
            return (self.rows - self.rows_done) / self.rows_per_second
        left = (self.expected_seconds or 0.0) - self.seconds
        return left if left > 0 else None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, seconds in thousandths."""
        made = {**asdict(self), "rows_per_second": self.rows_per_second, "seconds_left": self.seconds_left}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in made.items()}


@dataclass(frozen=True)
class RunFigures:
    """How far a run is.

    Attributes:
        run: the run directory; empty while it is not known.
        runner: local or ray.
        state: running, finished, failed or interrupted.
        seconds: since it began.
        pairs, shards, parts: of the input.
        shard_errors: what in the shards could not become a pair.
        statuses: pairs that this run read, by status.
        warnings: number of warnings.
        steps: those that have begun, in order.
        error: why it failed.
        exit_code: of the command; None while it runs.
    """

    run: str = ""
    runner: str = ""
    state: str = "running"
    seconds: float = 0.0
    pairs: int = 0
    shards: int = 0
    parts: int = 0
    shard_errors: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    warnings: int = 0
    steps: tuple[StepFigures, ...] = ()
    error: str | None = None
    exit_code: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        steps = [step.to_json() for step in self.steps]
        return {**asdict(self), "seconds": round(self.seconds, 3), "statuses": dict(self.statuses), "steps": steps}


@dataclass(frozen=True)
class RunStarted:
    """The command begins; nothing is read yet."""

    name: ClassVar[str] = "run_started"
    run: str
    pipeline: str
    runner: str
    version: str
    limit: int | None = None
    fits_from: str | None = None
    metrics: str | None = None


@dataclass(frozen=True)
class InputRead:
    """The input is listed and cut into parts. Shards that were added, changed or are gone since the last run."""

    name: ClassVar[str] = "input_read"
    pairs: int
    shards: int
    parts: int
    shard_errors: int
    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    gone: Sequence[str] = ()


@dataclass(frozen=True)
class _OfStep:
    """Something about a step; its figures are those of the moment."""

    step: StepFigures


class StepStarted(_OfStep):
    """A step begins."""

    name: ClassVar[str] = "step_started"


class StepProgress(_OfStep):
    """A part is done, or a second has passed, or the step says what it does now."""

    name: ClassVar[str] = "step_progress"


class StepFinished(_OfStep):
    """A step is complete."""

    name: ClassVar[str] = "step_finished"


@dataclass(frozen=True)
class Noted:
    """Something worth a line that belongs to no step: weights that are fetched."""

    name: ClassVar[str] = "note"
    message: str


@dataclass(frozen=True)
class Warned:
    """Something a person should know; the run goes on."""

    name: ClassVar[str] = "warning"
    message: str
    step: str | None = None


@dataclass(frozen=True)
class RunFinished:
    """All is done. Pairs of the whole run by status and label, and commands to type next."""

    name: ClassVar[str] = "run_finished"
    pairs: int
    statuses: Mapping[str, int]
    labels: Mapping[str, int]
    shard_errors: int
    separable: str | None
    next: Sequence[str]
    exit_code: int = 0


@dataclass(frozen=True)
class RunFailed:
    """The run ended with an error. What is done is kept."""

    name: ClassVar[str] = "run_failed"
    error: str
    exit_code: int
    step: str | None = None


@dataclass(frozen=True)
class RunInterrupted:
    """The run was told to stop by a signal. What is done is kept."""

    name: ClassVar[str] = "run_interrupted"
    exit_code: int
    step: str | None = None


Event: TypeAlias = (
    RunStarted
    | InputRead
    | StepStarted
    | StepProgress
    | StepFinished
    | Noted
    | Warned
    | RunFinished
    | RunFailed
    | RunInterrupted
)
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
        thread = threading.Thread(target=self._tick, args=(stop, seconds), name="curate-monitor", daemon=True)
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
            figures = self.figures
            for listener in self._listeners:
                listener(event, figures)

    def _tick(self, stop: threading.Event, seconds: float) -> None:
        while not stop.wait(seconds):
            with self._lock:
                if self._step is not None and self._broken is None:
                    self._step = self._of_step()
                    try:
                        self._tell(StepProgress(self._step))
                    except OSError as error:
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
