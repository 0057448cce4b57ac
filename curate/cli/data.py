"""`curate data`: corpora to try curate on and to measure it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from curate.cli.shared import Quiet, interruptible, out, show_data_progress


def clipart(
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the shards go.")],
    image_size: Annotated[
        int, typer.Option(min=0, help="Longest side in pixels; 0 keeps the original files byte for byte.")
    ] = 256,
    debs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the Debian packages from here instead of apt-get.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build a real, naturally noisy corpus of about 8,800 drawings and photos from Debian's packages."""
    from curate.corpora.clipart import fetch_clipart

    with interruptible(), show_data_progress(quiet) as heard:
        report = fetch_clipart(target, image_size=image_size, debs=debs, progress=heard)
    if not quiet:
        origins = ", ".join(f"{count:,} from {package}" for package, count in report.pairs_by_package.items())
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in report.left_out.items())
        out.print(f"{report.pairs:,} pairs in {report.shards} shards in {target}: {origins}", markup=False)
        out.print(f"left out: {left_out or 'nothing'}", markup=False)


def corrupt(
    source: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="WebDataset tars.")],
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the shards and _truth go.")],
    kind: Annotated[
        Literal["random", "category", "nearest", "partial"],
        typer.Option(help="Who swaps captions with whom; partial: one word of the caption."),
    ] = "random",
    rate: Annotated[float, typer.Option(help="Share of pairs to mismatch, between 0 and 1.")] = 0.4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    category_field: Annotated[str, typer.Option(help="kind category: field of the JSON member.")] = "category",
    quiet: Quiet = False,
) -> None:
    """Swap captions, or words of them, among pairs and write down the truth, to measure with `inspect --truth`."""
    from curate.corpora.corrupt import corrupt as corrupt_corpus
    from curate.models.encoder import caption_embedder

    embed = caption_embedder() if kind == "nearest" else None
    with interruptible(), show_data_progress(quiet) as heard:
        report = corrupt_corpus(
            source,
            target,
            kind=kind,
            rate=rate,
            seed=seed,
            category_field=category_field,
            embed_captions=embed,
            progress=heard,
        )
    if not quiet:
        done = " (was there already)" if report.already_done else ""
        out.print(
            f"{report.mismatched:,} of {report.usable:,} usable pairs mismatched: {report.reached_rate:.1%}, "
            f"{report.asked_rate:.1%} asked for{done}",
            markup=False,
        )
        out.print(f"shards   {target}/*.tar\ntruth    {report.truth}", markup=False, soft_wrap=True)
