"""The figures of a run, and what can happen in it: what listeners of a `Monitor` hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias


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
    """All is done. Pairs of the whole run by status and label, commands to type next, requests sent again by store."""

    name: ClassVar[str] = "run_finished"
    pairs: int
    statuses: Mapping[str, int]
    labels: Mapping[str, int]
    shard_errors: int
    separable: str | None
    next: Sequence[str]
    exit_code: int = 0
    retries: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


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
