"""`curate report` and `curate doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from curate.cli.shared import JsonFile, RunDirectory, TruthFile, out, write_file, write_json
from curate.errors import CurateError, InputError


def report(
    run_directory: RunDirectory,
    target: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the page goes.", show_default="RUN/report.html")
    ] = None,
    truth: TruthFile = None,
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="Most pairs to show for each reason.")] = 60,
    pipeline: Annotated[
        Path | None, typer.Option(help="The pipeline that made the run, if the run directory was moved here.")
    ] = None,
) -> None:
    """Write one HTML page with plots and pictures: what is wrong, why we think so, and which threshold to take."""
    from curate.config import load_config
    from curate.report.build import make_report
    from curate.store import RunStore

    store = RunStore(run_directory)
    local = store.local_root
    if target is None and local is None:
        raise InputError(f"{run_directory} is not on this machine: say where the page goes with --out FILE")
    with out.status("reading the run and its pictures"):
        page = make_report(store, None if pipeline is None else load_config(pipeline), truth, pairs)
    file = target or Path(str(local)) / "report.html"
    write_file("--out", file, page)
    out.print(f"{file}  {len(page.encode()) / 1e6:.1f} MB, opens in any browser, needs nothing else", markup=False)


def doctor(
    store: Annotated[str | None, typer.Option(help="Also try to write to this run directory or URL.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Look at the installation and say what is missing and how to get it."""
    from curate.doctor import examine

    with out.status("looking"):
        findings = examine(store)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(marks[finding.state], finding.name, escape(finding.found))
    out.print(table)
    for finding in findings:
        if finding.remedy:
            out.print(f"\n{marks[finding.state]} {finding.name}: {escape(finding.remedy)}")
    if json_file is not None:
        write_json(json_file, [finding.to_json() for finding in findings])
    if any(finding.state == "problem" for finding in findings):
        raise CurateError("the installation has problems; see above")
