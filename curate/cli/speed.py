"""`curate bench speed`: how fast every costly part is, beside the machine's limit and beside what others use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from curate.cli.shared import JsonFile, Quiet, err, interruptible, print_table, write_json

if TYPE_CHECKING:
    from curate.bench.speed.records import Record


def speed(
    rows: Annotated[
        str,
        typer.Option(
            metavar="NAME,..",
            help="all, or names: end_to_end, bare_loop, eager_loop, decode, memory, noise_fit, resume, neighbours, "
            "fits, concepts, caption.",
        ),
    ] = "end_to_end,decode",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="GLOB", help="WebDataset tars; default: drawn pictures.")
    ] = None,
    image_sizes: Annotated[
        str,
        typer.Option(
            "--image-size", metavar="N,..", help="Longest side in pixels, as JPEG; 0 leaves pictures as they are."
        ),
    ] = "0",
    repeats: Annotated[int, typer.Option(min=1, help="Of every measurement, all methods in turn.")] = 5,
    images: Annotated[int, typer.Option(min=1, help="Pairs of an end-to-end run.")] = 2048,
    model: Annotated[str, typer.Option(help="open_clip model, or its config; it gets random weights.")] = "ViT-B-32",
    runners: Annotated[str, typer.Option("--runner", metavar="R,..", help="local, ray.")] = "local,ray",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="NAME=PYTHON", help="clip_retrieval or data_juicer, and its environment's interpreter."
        ),
    ] = None,
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="For pictures, weights and runs.")] = Path(
        "runs/bench-speed"
    ),
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure speed and memory side by side: medians of repeats that are taken in turn, and their ratios."""
    from curate.bench.setup import parse_names
    from curate.bench.speed.measure import (
        Sizes,
        SpeedBench,
        bench_speed,
        check_peers,
        check_rows,
        check_runners,
        parse_sizes,
    )
    from curate.bench.speed.records import environment
    from curate.bench.speed.tables import speed_tables

    wanted = check_rows(parse_names(rows))
    bench = SpeedBench(
        inputs=inputs or [],
        image_sizes=parse_sizes(image_sizes),
        rounds=repeats,
        model=model,
        device=device,
        work=work.absolute(),
        runners=check_runners(parse_names(runners)),
        peers=check_peers(peers or []),
        sizes=Sizes(images=images, part_rows=min(128, max(1, images // 4)), decode_images=min(200, images)),
    )
    console = Console(highlight=False, quiet=quiet)
    records: list[Record] = [environment(bench.described())]

    def tell(what: str) -> None:
        if not quiet:
            err.print(what, markup=False)

    try:
        with interruptible("what was measured so far is written"):
            for record in bench_speed(bench, wanted, tell):
                records.append(record)
                if json_file is not None:
                    write_json(json_file, records)
    finally:
        for table in speed_tables(records):
            print_table(console, table)
