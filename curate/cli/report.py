"""`curate report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.shared import RunDirectory, TruthFile, out, write_file
from curate.errors import InputError


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
    out.print(
        f"{file}  {len(page.encode()) / 1e6:.1f} MB, opens in any browser, needs nothing else",
        markup=False,
        soft_wrap=True,
    )
