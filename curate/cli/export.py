"""`curate export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from curate.cli.shared import RunDirectory, interruptible, make_empty_folder, out, pipeline_of

if TYPE_CHECKING:
    from curate.export.selection import Selection
    from curate.store import RunStore


def export(
    run_directory: RunDirectory,
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is empty or not there yet.")],
    kind: Annotated[Literal["webdataset", "parquet", "csv"], typer.Option("--format")] = "webdataset",
    where: Annotated[
        str | None, typer.Option(help="Which pairs: noise_prob < 0.5 and label != 'noisy'", show_default="all")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,..", help="Which annotations.", show_default="all")
    ] = None,
    caption: Annotated[
        Literal["original", "completed"], typer.Option(help="Which caption trainers get.")
    ] = "original",
    shard_pairs: Annotated[int, typer.Option(min=1, max=10_000, help="Most pairs in one file.")] = 10_000,
    pipeline: Annotated[
        Path | None,
        typer.Option(help="webdataset: the pipeline that made the run, if the run directory was moved here."),
    ] = None,
) -> None:
    """Write chosen pairs as WebDataset shards (with their pictures) for trainers, or their annotations as tables."""
    from curate.export.selection import Selection
    from curate.export.table import export_table
    from curate.store import RunStore

    store = RunStore(run_directory)
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    selection = Selection(where, names, caption)
    make_empty_folder("--out", target)
    with interruptible(), out.status("exporting"):
        if kind == "webdataset":
            written = _export_webdataset(store, target, selection, shard_pairs, pipeline)
        else:
            written = export_table(store, target, selection, kind, shard_pairs)
    out.print(f"{sum(written.values()):,} pairs in {len(written)} files in {target}", markup=False)


def _export_webdataset(
    store: RunStore, target: Path, selection: Selection, shard_pairs: int, pipeline: Path | None
) -> dict[str, int]:
    from curate.export.webdataset import export_webdataset
    from curate.plan import source_options
    from curate.sources import open_source

    source = open_source(source_options(pipeline_of(store, pipeline)))
    return export_webdataset(store, source, target, selection, shard_pairs)
