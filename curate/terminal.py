"""Progress bars: what a run or a download shows while it works."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typing_extensions import Self

from curate.execution import PartReport, StepReport


class _Rate(ProgressColumn):
    """Pairs per second since the bar began, without those that were done before."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        fresh = task.completed - task.fields["before"]
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{fresh / seconds:,.0f}/s" if fresh > 0 and seconds else "", style="progress.data.speed")


class _Bars:
    """A set of bars that are there while the context is open."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            speed_estimate_period=600,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _show(self, name: str, done: float, total: float | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=int(done), before=done)
        self._bars.update(self._tasks[name], completed=done, total=total)  # type: ignore[arg-type]


class TerminalProgress(_Bars):
    """A bar per step: pairs done, rate, time left."""

    def step_started(self, name: str, rows: int, rows_done: int) -> None:
        """See Progress."""
        self._done = rows_done
        self._total = rows
        self._show(name, rows_done, rows or None)

    def part_done(self, name: str, report: PartReport) -> None:
        """See Progress."""
        self._done += report.rows
        self._show(name, self._done, self._total)

    def step_done(self, report: StepReport) -> None:
        """See Progress."""
        if not self._total:
            self._show(report.name, report.rows, report.rows)


class CallbackProgress(_Bars):
    """Bars for functions that report (description, done, total)."""

    def __call__(self, description: str, done: int, total: int | None) -> None:
        """Show how far the named work is."""
        self._show(description, done, total)
