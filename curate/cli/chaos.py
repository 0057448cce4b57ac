"""`curate bench chaos`: disturb whole runs, resume them, and compare with undisturbed ones."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from curate.cli.shared import JsonFile, Quiet, err, interruptible, print_table, write_json

if TYPE_CHECKING:
    from curate.bench.chaos.outcomes import Outcome


def chaos(
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs that are disturbed.")] = 20,
    seed: Annotated[int, typer.Option(help="Of kinds and moments.")] = 0,
    only: Annotated[
        str | None, typer.Option("--only", metavar="KIND,..", help="Kinds of disturbance.", show_default="all")
    ] = None,
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="Holds all runs; trials that are done there stay done.")
    ] = Path("runs/bench-chaos"),
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Disturb runs, resume them, and compare every byte with an undisturbed run. Exit code 1: something differs."""
    from curate.bench.chaos.outcomes import complaints, outcome_records, outcome_table
    from curate.bench.chaos.suite import open_bench, run_trials
    from curate.bench.setup import parse_names

    # Processes and mounts of a trial are ended and undone, whoever ends the bench.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, quiet=quiet)
    outcomes: list[Outcome] = []
    kept = f"trials that are done are kept in {work}; run the same command again to go on"
    with interruptible(kept), open_bench(work, [] if only is None else parse_names(only)) as bench:
        for kind, reason in bench.left_out.items():
            console.print(f"left out: {kind}: {reason}", markup=False)
        try:
            with console.status("getting ready") as status:
                for outcome in run_trials(bench, runs, seed, status.update):
                    outcomes.append(outcome)
                    console.print(_line(outcome), markup=False, soft_wrap=True)
        finally:
            if json_file is not None:
                write_json(json_file, outcome_records(outcomes, seed))
        about = {kind: each.about for kind, each in bench.kinds.items()}
        print_table(console, outcome_table(outcomes, about))
    wrong = complaints(outcomes)
    for line in wrong:
        err.print(line, markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _line(outcome: Outcome) -> str:
    word = "recovered" if outcome.recovered else "NOT RECOVERED"
    about = f"{outcome.number + 1:4} {outcome.kind:16} {outcome.moment:36} exit code {outcome.exit_code:4}"
    return f"{about}  {word}, {outcome.seconds:.0f} s"
