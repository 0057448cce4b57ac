"""`curate export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from curate.cli.shared import RunDirectory, interruptible, make_empty_folder, out, pipeline_of
from curate.errors import InputError

if TYPE_CHECKING:
    from curate.export.webdataset import ExportedShards
    from curate.sources.base import Source
    from curate.store import RunStore

_MOST_PAIRS = 10_000


def export(
    run_directory: RunDirectory,
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is empty or not there yet.")],
    kind: Annotated[
        Literal["webdataset", "hf", "parquet", "csv"],
        typer.Option("--format", help="With pictures: webdataset, hf (Hugging Face). Without: parquet, csv."),
    ] = "webdataset",
    where: Annotated[
        str | None, typer.Option(help="Which pairs: noise_prob < 0.5 and label != 'noisy'", show_default="all")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,..", help="Which annotations.", show_default="all")
    ] = None,
    caption: Annotated[
        Literal["original", "completed", "both"],
        typer.Option(help="Which caption trainers get; both: the original, and the completed one to mix it with."),
    ] = "original",
    weighted: Annotated[
        bool,
        typer.Option(
            "--weighted",
            help="webdataset: sort pairs into shards by 1 - noise_prob, for trainers that draw shards by weight.",
        ),
    ] = False,
    shard_pairs: Annotated[int, typer.Option(min=1, max=_MOST_PAIRS, help="Most pairs in one file.")] = _MOST_PAIRS,
    pipeline: Annotated[
        Path | None,
        typer.Option(help="With pictures: the pipeline that made the run, if the run directory was moved here."),
    ] = None,
) -> None:
    """Write chosen pairs with their pictures for trainers, or their annotations as tables."""
    from curate.export.huggingface import export_huggingface
    from curate.export.selection import Selection
    from curate.export.table import export_table
    from curate.export.webdataset import export_webdataset
    from curate.store import RunStore

    if weighted and kind != "webdataset":
        raise InputError(f"--weighted: is for --format webdataset; a reader of {kind} draws pairs by their noise_prob")
    store = RunStore(run_directory)
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    selection = Selection(where, names, caption)
    make_empty_folder("--out", target)
    with interruptible(), out.status("exporting"):
        if kind == "webdataset":
            shards = export_webdataset(store, _source(store, pipeline), target, selection, shard_pairs, weighted)
            written = shards.sizes
        elif kind == "hf":
            written = export_huggingface(store, _source(store, pipeline), target, selection, shard_pairs)
        else:
            written = export_table(store, target, selection, kind, shard_pairs)
    out.print(f"{sum(written.values()):,} pairs in {len(written)} files in {target}", markup=False)
    if kind == "webdataset" and written:
        _print_training_options(target, shards)


def _source(store: RunStore, pipeline: Path | None) -> Source:
    from curate.plan import source_options
    from curate.sources import open_source

    return open_source(source_options(pipeline_of(store, pipeline)), store.address)


def _print_training_options(target: Path, shards: ExportedShards) -> None:
    from curate.export.open_clip import training_options

    lines = ["python -m open_clip_train.main", *training_options(target, shards), "--model ViT-B-32"]
    out.print("train: " + " \\\n  ".join(lines), markup=False, soft_wrap=True)
