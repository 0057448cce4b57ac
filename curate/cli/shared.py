"""What the commands share: options, consoles, progress, and how values are written for people."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from curate.errors import InputError

if TYPE_CHECKING:
    from curate.bench.tables import TextTable
    from curate.config import PipelineConfig
    from curate.execution import Runner
    from curate.monitor import Monitor
    from curate.store import RunStore


class TerminalConsole(Console):
    """A console on which no text does anything: control characters and direction marks become spaces.

    Much that is printed comes from strangers: captions, names of files and fields, whatever a run directory holds.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See Console. What rich itself sends to the terminal stays."""
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control
                else Segment("\n".join(map(harmless, segment.text.split("\n"))), segment.style)
            )


out = TerminalConsole(highlight=False)
err = TerminalConsole(stderr=True, highlight=False)

PipelineFile = Annotated[Path, typer.Argument(help="The pipeline, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the pipeline, such as stages.noise.folds=3."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
RunnerName = Annotated[Literal["local", "ray"], typer.Option("--runner", help="Threads here, or a Ray cluster.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Most workers (Ray: model workers) at once.", show_default="all cores"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="A trial on the first N pairs (whole parts); it has a run directory of its own."
    ),
]
FitsFrom = Annotated[
    str | None,
    typer.Option(
        "--fits-from",
        metavar="RUN",
        help="Score with the models that this finished run has fitted; nothing is fitted again.",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="With `format: urls`: fetch once more what could not be downloaded."),
]
TruthFile = Annotated[
    Path | None, typer.Option(help="A _truth/truth.parquet from `curate data corrupt`: how good is noise_prob?")
]
RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]


KEPT = "what is finished is kept; run the same command again to go on"


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a command: Ctrl-C, and what a cluster sends before it takes the machine away."""


def ignore_signals() -> None:
    """The process ends already: one more signal would only interrupt the ending."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interruptible(kept: str = KEPT) -> Iterator[None]:
    """Ctrl-C ends with a word and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        ignore_signals()
        err.print(f"\ninterrupted: {kept}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None


def open_runner(name: str, workers: int | None) -> AbstractContextManager[Runner]:
    from curate import execution

    return execution.open_runner(name, workers)


@contextmanager
def show_progress(console: Console, monitor: Monitor | None = None) -> Iterator[Monitor]:
    """A monitor whose events are shown: in lines that change on a terminal, in lines at intervals elsewhere."""
    from curate.cli.terminal import PLAIN_SECONDS, PlainProgress, TerminalProgress
    from curate.monitor import EveryFew, Monitor

    monitor = monitor or Monitor()
    with monitor.ticking(), monitor.hearing_logs():
        if console.is_terminal and not console.quiet:
            with TerminalProgress(console) as shown:
                monitor.add(shown)
                yield monitor
        else:
            monitor.add(EveryFew(PLAIN_SECONDS, PlainProgress(console)))
            yield monitor


@contextmanager
def show_data_progress(quiet: bool) -> Iterator[Any]:
    from curate.cli.terminal import CallbackProgress

    with CallbackProgress(TerminalConsole(highlight=False, quiet=quiet)) as shown:
        yield shown


def print_table(console: Console, text: TextTable) -> None:
    """A table in full, however narrow the terminal and wherever the output goes: no figure is cut."""
    # Eleven figures fit 100 columns without edges and with little padding.
    table = Table(
        title=f"\n{escape(text.title)}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for place, head in enumerate(text.heads):
        table.add_column(head, justify="right" if place >= text.names else "left", no_wrap=True)
    for row, ours in zip(text.rows, text.ours, strict=True):
        table.add_row(*map(escape, row), style="bold" if ours else None)
    table.width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.print(table, crop=False)


def print_imports(imported: Sequence[str]) -> None:
    """Which code of the user's own ran because the pipeline names it."""
    for line in imported:
        out.print(f"imported {line}", markup=False, soft_wrap=True)


def harmless(text: str) -> str:
    """Captions come from strangers: no control character or direction mark of theirs reaches the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(text: str, most: int = 100) -> str:
    """A harmless text on one line, its end left out where it is long."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def percentage(count: int, total: int) -> str:
    """Never "100.0%" of less than all, nor "0.0%" of something."""
    if 0 < count < total and not 0.0005 <= count / total < 0.9995:
        return "<0.1%" if count < total / 2 else ">99.9%"
    return f"{count / total:.1%}" if total else ""


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def write_json(file: Path, value: Any) -> None:
    write_file("--json", file, json.dumps(value, indent=1) + "\n")


def write_file(option: str, file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written: {error}") from None


def make_empty_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be made or read: {error}") from None
    if taken:
        raise InputError(f"{option} {folder}: is not empty; name a new folder, so that no old file is mixed in")


def pipeline_of(store: RunStore, file: Path | None) -> PipelineConfig:
    """The pipeline in a file, or else the one that the run remembers."""
    from curate.config import load_config
    from curate.run_format import check_format
    from curate.state import remembered_config

    check_format(store)
    config = remembered_config(store) if file is None else load_config(file)
    if config is None:
        raise InputError(f"{store.url}: does not say where its input is; name the pipeline file with --pipeline")
    return config
