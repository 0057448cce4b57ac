"""`curate verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from curate.cli.shared import JsonFile, RunDirectory, duration, harmless, out, write_json

if TYPE_CHECKING:
    from curate.verify import Verified

MOST_SHOWN = 50


def verify(
    run_directory: RunDirectory,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at names, sizes and footers only, not at every value.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Check a run against its manifest: every file, row, checksum, column and fingerprint. Changes nothing."""
    from curate.store import RunStore
    from curate.verify import verify_run

    store = RunStore(run_directory)
    with out.status("checking"):
        found = verify_run(store, quick)
    _print(found)
    if json_file is not None:
        write_json(json_file, found.to_json())
    if not found.ok:
        raise typer.Exit(1)


def _print(found: Verified) -> None:
    table = Table("checked", "files", "rows", "MB")
    for name in table.columns[1:]:
        name.justify = "right"
    for each in found.checked:
        rows = f"{each.rows:,}" if each.rows else ""
        table.add_row(each.name, f"{each.files:,}", rows, f"{each.bytes / 1e6:,.1f}")
    out.print(table)
    for note in found.notes:
        out.print(f"note     {harmless(note)}", markup=False, soft_wrap=True)
    for finding in found.findings[:MOST_SHOWN]:
        told = f"{finding.file}: {finding.problem}"
        out.print(f"wrong    {harmless(told)}\n         {harmless(finding.advice)}", markup=False, soft_wrap=True)
    if len(found.findings) > MOST_SHOWN:
        out.print(f"         and {len(found.findings) - MOST_SHOWN:,} more; --json FILE has all of them", markup=False)
    verdict = "nothing is wrong" if found.ok else f"{len(found.findings):,} files are not as they should be"
    looked = "names, sizes and footers" if found.quick else "all values"
    out.print(f"{verdict}; looked at {looked} in {duration(found.seconds)}", markup=False)
