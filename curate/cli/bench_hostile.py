"""`curate bench hostile`."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.shared import (
    JsonFile,
    Quiet,
    TerminalConsole,
    harmless,
    make_empty_folder,
    print_table,
    show_data_progress,
    write_json,
)
from curate.errors import CurateError

if TYPE_CHECKING:
    from curate.bench.hostile.examine import Outcome
    from curate.bench.tables import TextTable

_SHOWN = 20


def hostile(
    inputs: Annotated[int, typer.Option(min=5, metavar="N", help="Hostile inputs to read.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An empty folder to work in.", show_default="a temporary one")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read at once.")] = 2,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Read damaged, lying and exploding inputs of every kind, and compare with what is promised. Exit 1 if not so."""
    from curate.bench.hostile.measure import bench_hostile, failures, records_of

    with tempfile.TemporaryDirectory(prefix="curate-hostile-") as temporary:
        folder = Path(temporary) if work is None else work
        make_empty_folder("--work", folder)
        with show_data_progress(quiet) as told:
            outcomes = bench_hostile(inputs, seed, folder, workers, told)
    if json_file is not None:
        libraries = {name: version(name) for name in ("pillow", "pyarrow", "pyyaml")}
        write_json(json_file, records_of(outcomes, seed, {"python": platform.python_version(), **libraries}))
    console = TerminalConsole(highlight=False, quiet=quiet)
    print_table(console, _table(outcomes))
    bad = list(failures(outcomes))
    for outcome in bad[:_SHOWN]:
        line = f"{outcome.verdict}  {outcome.drawn.kind}  (seed {outcome.drawn.seed!r})  {outcome.detail}"
        console.print(harmless(line), markup=False, soft_wrap=True)
    if bad:
        raise CurateError(f"{len(bad):,} of {len(outcomes):,} hostile inputs did not come out as promised")


def _table(outcomes: Sequence[Outcome]) -> TextTable:
    from curate.bench.hostile.measure import VERDICTS, count_verdicts
    from curate.bench.tables import TextTable

    heads = ("kind", "inputs", "as promised", "crashes", "hangs", "files outside", "wrong marks")
    counts = count_verdicts(outcomes)
    rows = [
        (kind, *(f"{number:,}" for number in (sum(of.values()), *(of[verdict] for verdict in VERDICTS))))
        for kind, of in counts.items()
    ]
    all_of = [sum(of[verdict] for of in counts.values()) for verdict in VERDICTS]
    rows.append(("all", *(f"{number:,}" for number in (sum(all_of), *all_of))))
    return TextTable("hostile inputs", heads, tuple(rows), tuple(row[0] == "all" for row in rows))
