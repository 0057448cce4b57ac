"""What is told while a plan is carried out: steps that begin, parts that are done, steps that are complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from curate.retries import RetryCounts


@dataclass(frozen=True)
class StepStart:
    """A step begins.

    Attributes:
        name: of the step; a fit's ends in " fit".
        about: what it does and how, for a person; empty where the name says it.
        rows, rows_done: pairs in all, and pairs whose files are there already; 0 where a step is not done by parts.
        parts, parts_done: the same in parts.
        workers: most that work at once on its models.
    """

    name: str
    about: str = ""
    rows: int = 0
    rows_done: int = 0
    parts: int = 0
    parts_done: int = 0
    workers: int = 1


@dataclass(frozen=True)
class PartReport:
    """One part is done.

    Attributes:
        number: the part.
        rows: its pairs.
        head_seconds, body_seconds: time a worker spent on reading and CPU stages, and on the model and writing.
        error: what went wrong, for a person; None if the file is there.
        statuses: pairs by status, from the step that reads the input; empty from every other.
        retries: requests to stores that a worker sent again for it.
        digest: of the file's bytes; None if it is not there.
    """

    number: int
    rows: int
    head_seconds: float = 0.0
    body_seconds: float = 0.0
    error: str | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    retries: RetryCounts = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True)
class StepReport:
    """One step is done: wall-clock seconds, pairs worked on, workers' seconds by kind of work, requests sent again."""

    name: str
    seconds: float
    rows: int
    head_seconds: float = 0.0
    body_seconds: float = 0.0
    retries: RetryCounts = field(default_factory=dict)


class Progress(Protocol):
    """Hears how a plan is carried out. `curate.monitor.Monitor` makes figures of it; a test may count."""

    def step_started(self, start: StepStart) -> None:
        """A step begins."""
        ...

    def part_done(self, name: str, report: PartReport) -> None:
        """A part of the step is done, or could not be done."""
        ...

    def step_done(self, report: StepReport) -> None:
        """The step is complete."""
        ...
