"""The commands. Thin: everything they do is in the library; these are the only modules that print."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

from curate import __version__
from curate.cli import (
    bench,
    bench_hostile,
    chaos,
    clean,
    data,
    doctor,
    export,
    inspect,
    pipeline,
    report,
    run,
    speed,
    verify,
)
from curate.cli.shared import err, harmless, ignore_signals, out
from curate.errors import CurateError, InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Offline curation of noisy web image-text corpora: which captions do not belong to their image?",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"curate {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `curate` itself."""


app.command()(pipeline.init)
app.command()(pipeline.validate)
app.command()(run.run)
app.command()(run.plan)
app.command()(inspect.inspect)
app.command()(report.report)
app.command()(export.export)
app.command()(verify.verify)
app.command()(clean.clean)
app.command()(doctor.doctor)
data_app = typer.Typer(no_args_is_help=True, help="Make corpora to try curate on and to measure it with.")
app.add_typer(data_app, name="data")
data_app.command()(data.clipart)
data_app.command()(data.corrupt)
bench_app = typer.Typer(no_args_is_help=True, help="Measure curate against known truth, beside published methods.")
app.add_typer(bench_app, name="bench")
bench_app.command()(bench.noise)
bench_app.command()(bench.concepts)
bench_app.command()(bench.captions)
bench_app.command()(bench.downstream)
bench_app.command()(bench.paper)
bench_app.command()(chaos.chaos)
bench_app.command()(bench_hostile.hostile)
bench_app.command()(speed.speed)


def entry() -> None:
    """The process `curate`: `main`, and then nothing interrupts its ending any more."""
    try:
        main()
    finally:
        ignore_signals()


def main() -> None:
    """Every command: every error becomes a message and an exit code (0 done, 1 failed, 2 your input)."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    # What a damaged picture means for its row is said in the row's error.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        app()
    except InputError as error:
        _complain(error)
        sys.exit(2)
    except (CurateError, OSError) as error:
        _complain(error)
        sys.exit(1)


def _complain(error: Exception) -> None:
    err.print("[bold red]error[/]", end=" ")
    # Names of shards and fields in it come from strangers.
    err.print("\n".join(map(harmless, str(error).split("\n"))), markup=False, soft_wrap=True)
