"""`curate init` and `curate validate`: before a pipeline runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.shared import Overrides, PipelineFile, harmless, out, print_imports, write_file
from curate.errors import InputError

if TYPE_CHECKING:
    from curate.init import FoundInput
    from curate.sources.options import ColumnNames


def init(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A folder of tars, a Parquet, CSV or JSONL file, a pattern, or a URL.", show_default=False
        ),
    ] = None,
    target: Annotated[Path, typer.Option("--out", metavar="FILE", help="The pipeline to write.")] = Path(
        "pipeline.yaml"
    ),
    output: Annotated[
        str | None, typer.Option(metavar="RUN", help="Its run directory.", show_default="runs/ and the input's name")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="webdataset, parquet, jsonl or csv, where there are several.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the pictures.")] = None,
    caption_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the captions.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> None:
    """Write a pipeline with comments for the pairs that are there. What cannot be seen is asked, on a terminal."""
    from curate.doctor import OFFLINE_PACKAGES
    from curate.init import default_output, files_and_bytes, find_inputs, pipeline_text
    from curate.models.torch_pair import MISSING, installed
    from curate.sources.options import ColumnNames

    if target.exists() and not force:
        raise InputError(f"--out {target}: is there already. Name another file, or overwrite it with --force.")
    source = source or _asked(
        "Where are the pairs (folder, file or pattern)?", "Where are the pairs? Say it: curate init data/mine"
    )
    found = _chosen(find_inputs(source), kind)
    found, columns = _with_columns(found, ColumnNames(image_column, caption_column))
    offline = all(installed(package) != MISSING for package in OFFLINE_PACKAGES)
    write_file("--out", target, pipeline_text(found, columns, output or default_output(source), offline))
    out.print(
        f"{target} written for {files_and_bytes(found.files, found.bytes)} of format {found.format}", markup=False
    )
    out.print(f"next  curate validate {target}\n      curate run {target} --limit 500", markup=False, soft_wrap=True)


def validate(pipeline: PipelineFile, overrides: Overrides = None) -> None:
    """Say all that is wrong with a pipeline, and with what it names, before it runs."""
    from curate.config import PYTHON, STAGE_NAMES
    from curate.init import files_and_bytes
    from curate.validate import validate as look_at

    with out.status("looking"):
        valid = look_at(pipeline, overrides or [])
    config, size = valid.config, sum(shard.size for shard in valid.shards)
    given = [name for name in STAGE_NAMES if name != PYTHON and getattr(config.stages, name) is not None]
    stages = ", ".join([*given, *(each.stage for each in config.stages.python)])
    weights = "" if valid.weights_read else ", known by name; fetched by the first run if they are not here"
    out.print(f"input    {files_and_bytes(len(valid.shards), size)}", markup=False)
    out.print(f"encoder  {config.encoder.model}{weights}", markup=False, soft_wrap=True)
    out.print(f"stages   {stages}\noutput   {config.output}", markup=False, soft_wrap=True)
    print_imports(valid.imported)
    out.print(f"nothing is wrong; next: curate run {pipeline}", markup=False, soft_wrap=True)


def _asked(question: str, needed: str) -> str:
    if not sys.stdin.isatty():
        raise InputError(needed)
    answer: str = typer.prompt(harmless(question))
    return answer


def _chosen(inputs: list[FoundInput], kind: str | None) -> FoundInput:
    from curate.init import files_and_bytes

    listed = " and ".join(f"{found.format} ({files_and_bytes(found.files, found.bytes)})" for found in inputs)
    if kind is None and len(inputs) == 1:
        return inputs[0]
    name = kind or _asked(f"Which format? There are {listed}", f"There are {listed}. Choose with --format.")
    for found in inputs:
        if found.format == name:
            return found
    raise InputError(f"--format {name}: there are {listed}")


def _with_columns(found: FoundInput, columns: ColumnNames) -> tuple[FoundInput, ColumnNames]:
    """Ask for columns until the files have all that a pair needs. A column of web addresses makes it `urls`."""
    from curate.init import as_urls, check_columns
    from curate.sources.table import MissingColumnError

    while True:
        try:
            check_columns(found, columns)
        except MissingColumnError as error:
            addresses = as_urls(found, columns, error.columns) if error.role == "image" else None
            if addresses is not None:
                found, columns = addresses
                continue
            name = _asked(
                f"Which column holds the {error.role}? There are {', '.join(error.columns)}",
                f"{error} Here that is --{error.role}-column NAME",
            )
            columns = replace(columns, image=name) if error.role == "image" else replace(columns, caption=name)
        else:
            named = as_urls(found, columns, [columns.image]) if columns.image else None
            return named or (found, columns)
