"""What a run or a download shows while it works: a line per step on a terminal, lines at intervals elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text
from typing_extensions import Self

from curate.cli.shared import duration, harmless
from curate.events import (
    Event,
    InputRead,
    Noted,
    RunFigures,
    RunStarted,
    StepFigures,
    StepFinished,
    StepProgress,
    StepStarted,
    Warned,
)

PLAIN_SECONDS = 30.0
"""How often a step says how far it is where nobody watches a terminal."""
_WIDE = 80
"""Columns of a terminal that has room for bars."""
_SHOWN_SHARDS = 5


class TerminalProgress:
    """A line per step that changes in place: pairs done, rate, time left, workers or what is done at the moment.

    Hears a `Monitor`; shows while the context is open. `lines` is what is drawn.
    """

    def __init__(self, console: Console) -> None:
        bar = BarColumn(bar_width=min(30, console.width - 66)) if console.width >= _WIDE else SpinnerColumn()
        self._console = console
        self.lines = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            bar,
            _Field("pairs", Column(no_wrap=True, justify="right")),
            _Field("rate", Column(no_wrap=True, justify="right")),
            _Time(table_column=Column(no_wrap=True, justify="right")),
            # Takes what the others leave.
            _Field("note", Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._reading: TaskID | None = None

    def __enter__(self) -> Self:
        self.lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lines.stop()

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener."""
        if isinstance(event, StepStarted | StepProgress | StepFinished):
            self._show(event.step)
        elif isinstance(event, RunStarted):
            self._reading = self.lines.add_task("reading the input", total=None, **_NOTHING)
        elif isinstance(event, InputRead):
            if self._reading is not None:
                self.lines.remove_task(self._reading)
                self._reading = None
            for line in input_lines(event):
                self._console.print(line, markup=False)
        elif isinstance(event, Warned):
            self._console.print(f"[yellow]warning[/]  {escape(harmless(event.message))}")
        elif isinstance(event, Noted) and self._reading is not None:
            self.lines.update(self._reading, note=Text(harmless(event.message), style="dim"))

    def _show(self, step: StepFigures) -> None:
        if step.step not in self._tasks:
            self._tasks[step.step] = self.lines.add_task(step.step, total=None, **_NOTHING)
        self.lines.update(
            self._tasks[step.step],
            # A step that is not done by parts is a bar that moves until it is full.
            total=step.rows or (1 if step.finished else None),
            completed=step.rows_done or int(step.finished),
            pairs=_pairs(step),
            rate=_rate(step),
            note=_note(step),
            figures=step,
        )


class _Field(ProgressColumn):
    """A text that the task holds."""

    def __init__(self, name: str, column: Column) -> None:
        self._name = name
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        held = task.fields[self._name]
        return held if isinstance(held, Text) else Text(held)


class _Time(ProgressColumn):
    """Time left where it is known, else time gone; of a step that is complete the time it took."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        step: StepFigures = task.fields["figures"]
        if step.finished:
            return Text(clock(step.seconds), style="progress.elapsed") if step.rows_worked else Text("")
        if step.seconds_left is not None:
            return Text(f"{clock(step.seconds_left)} left", style="progress.remaining")
        gone = step.seconds if step.step else task.elapsed or 0.0
        return Text(clock(gone), style="progress.elapsed")


_NOTHING: dict[str, Any] = {"pairs": "", "rate": "", "note": "", "figures": StepFigures("")}


def counted(number: int, thing: str) -> str:
    """Such as "1 part" and "1,200 parts"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def was_done(step: StepFigures) -> bool:
    """Whether earlier runs have done it all."""
    return 0 < step.rows == step.rows_done and not step.rows_worked


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, such as 0:07 and 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _pairs(step: StepFigures) -> str:
    if step.rows:
        return f"{step.rows_done:,}/{step.rows:,}"
    return f"{step.rows_worked:,}" if step.finished else ""


def _rate(step: StepFigures) -> str:
    rate = step.rows_per_second
    if rate is None or not step.rows:
        return ""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _note(step: StepFigures) -> Text:
    if step.parts_failed:
        return Text(f"{step.parts_failed:,} of {step.parts:,} parts failed", style="red")
    if was_done(step):
        return Text("done before", style="dim")
    if step.finished:
        return Text("")
    if not step.rows:
        return Text(harmless(step.doing or step.about), style="dim")
    return Text(harmless(step.doing) or counted(step.workers, "worker"), style="dim")


class PlainProgress:
    """Lines for files and logs: a step begins, how far it is, what it does, that it is complete.

    Hears a `Monitor`, best through `EveryFew`.
    """

    def __init__(self, console: Console, now: Callable[[], datetime] = datetime.now) -> None:
        self._console, self._now = console, now

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener."""
        for line in plain_lines(event):
            text = f"{self._now():%H:%M:%S} {harmless(line)}"
            self._console.print(text, markup=False, soft_wrap=True)


def plain_lines(event: Event) -> list[str]:
    """What an event is to somebody who reads it later; nothing for what the run's summary says."""
    if isinstance(event, InputRead):
        return input_lines(event)
    if isinstance(event, Warned):
        return [f"warning: {event.message}"]
    if isinstance(event, Noted):
        return [event.message]
    if isinstance(event, StepStarted | StepProgress | StepFinished):
        told = _plain(event)
        return [f"{event.step.step:<12} {told}"] if told else []
    return []


def _plain(event: StepStarted | StepProgress | StepFinished) -> str:
    step = event.step
    if was_done(step):
        return f"{counted(step.rows, 'pair')}, done before" if isinstance(event, StepFinished) else ""
    if isinstance(event, StepStarted):
        return _plain_start(step)
    if isinstance(event, StepFinished):
        return f"done: {counted(step.rows_worked, 'pair')} in {duration(step.seconds)}{_after_comma(_rate(step))}"
    return _plain_progress(step)


def _plain_start(step: StepFigures) -> str:
    if not step.rows:
        return f"begins{_after_comma(step.about)}"
    done = f"{step.rows_done:,} done before" if step.rows_done else ""
    workers = counted(step.workers, "worker")
    size = f"{counted(step.rows, 'pair')} in {counted(step.parts, 'part')}"
    return f"begins, {size}{_after_comma(done)}, {workers}"


def _plain_progress(step: StepFigures) -> str:
    far = f"{step.rows_done:,}/{step.rows:,} pairs{_after_comma(_rate(step))}" if step.rows else ""
    failed = f"{counted(step.parts_failed, 'part')} failed" if step.parts_failed else ""
    left = "" if step.seconds_left is None else f"about {clock(step.seconds_left)} left"
    return ", ".join(filter(None, (far, failed, step.doing, f"{clock(step.seconds)} gone", left)))


def _after_comma(text: str) -> str:
    return text and f", {text}"


def input_lines(found: InputRead) -> list[str]:
    """The size of the input, and what is new about it."""
    shards, parts = counted(found.shards, "shard"), counted(found.parts, "part")
    lines = [f"input    {counted(found.pairs, 'pair')} in {shards}, cut into {parts}"]
    if found.shard_errors:
        damage = counted(found.shard_errors, "damaged place")
        lines.append(f"input    {damage} in shards, listed in shard_errors.parquet")
    return lines + change_lines(found.added, found.changed, found.gone)


def change_lines(added: Sequence[str], changed: Sequence[str], gone: Sequence[str]) -> list[str]:
    """Shards that are not as they were in the last run."""
    lines = []
    for verb, names in (("new", added), ("changed", changed), ("gone", gone)):
        if names:
            more = f" and {len(names) - _SHOWN_SHARDS} more" if len(names) > _SHOWN_SHARDS else ""
            lines.append(f"input    {verb} since the last run: {harmless(', '.join(names[:_SHOWN_SHARDS]))}{more}")
    return lines


class CallbackProgress:
    """Bars for functions that report (description, done, total), there while the context is open."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            speed_estimate_period=600,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, description: str, done: int, total: int | None) -> None:
        """Show how far the named work is."""
        if description not in self._tasks:
            self._tasks[description] = self._bars.add_task(description, total=total)
        self._bars.update(self._tasks[description], completed=done, total=total)
