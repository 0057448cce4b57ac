"""`curate doctor`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from curate.cli.shared import JsonFile, out, write_json
from curate.errors import CurateError


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
