"""`curate inspect`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.shared import (
    JsonFile,
    RunDirectory,
    TruthFile,
    harmless,
    make_empty_folder,
    out,
    pipeline_of,
    write_json,
)
from curate.cli.show import (
    print_completion,
    print_completion_counts,
    print_completion_heads,
    print_counts,
    print_facts,
    print_histogram,
    print_pair,
    print_rounds,
    print_shown,
    printable,
)
from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    from curate.ranking import Order
    from curate.store import RunStore
    from curate.summary import PairFilter
    from curate.terminal_pictures import PictureProtocol

PICTURE_FILE_PIXELS = 256
PICTURE_TERMINAL_PIXELS = 168


def inspect(
    run_directory: RunDirectory,
    key: Annotated[str | None, typer.Option(help="Show the pair with this key (or row_id) in full.")] = None,
    completions: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show N pictures that got a synthetic caption, an even sample."),
    ] = None,
    top: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="Which pairs to show first: noisy, clean, or boundary (noise_prob near one half).",
            show_default="noisy",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="How many pairs to show beside the counts.")] = 10,
    status: Annotated[str | None, typer.Option(help="Only pairs with this status, such as corrupt_image.")] = None,
    where: Annotated[str | None, typer.Option(help="Only these pairs: noise_prob < 0.5 and label != 'noisy'")] = None,
    seed: Annotated[int, typer.Option(min=0, help="--completions: another one shows other pictures.")] = 0,
    truth: TruthFile = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write pictures of the pairs shown as JPEG files to this empty folder."),
    ] = None,
    pipeline: Annotated[
        Path | None,
        typer.Option(help="Pictures: the pipeline that made the run, if the run directory was moved here."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what a run found: counts and pairs worth a look, completed captions, or one pair with every signal."""
    from curate.bench.truth import judge
    from curate.store import RunStore
    from curate.summary import PairFilter

    if key is not None and (completions, top, status, where) != (None, None, None, None):
        raise InputError("--key shows one pair: leave out --completions, --top, --status and --where")
    pairs, order = PairFilter(status, where), _order(top)
    store = RunStore(run_directory)
    figures = None if truth is None else judge(store, truth).to_json()
    reader = _PictureReader(store, pictures, pipeline)
    if key is not None:
        answer = _show_pair(store, key, reader)
    elif completions is not None:
        answer = _show_completions(store, completions, pairs, order, seed, reader)
    else:
        answer = _show_summary(store, count, order or "noisy", pairs, reader)
    if figures is not None:
        print_facts("against the truth", figures)
        answer = {**answer, "truth": figures}
    if json_file is not None:
        write_json(json_file, answer)


def _order(top: str | None) -> Order | None:
    from curate.ranking import ORDERS

    orders: dict[str, Order] = {order: order for order in ORDERS}
    if top is None:
        return None
    if top not in orders:
        raise InputError(f"--top {top}: must be noisy, clean or boundary; how many is said by --count")
    return orders[top]


def _show_pair(store: RunStore, key: str, reader: _PictureReader) -> dict[str, Any]:
    from curate.summary import find_pairs

    pairs = find_pairs(store, key)
    pictures = reader.pictures_of([pair["row_id"] for pair in pairs])
    for pair in pairs:
        pictures.show(pair["row_id"])
        print_pair(pair, pictures.files.get(pair["row_id"]))
    return {"pairs": [printable(pair) for pair in pairs], **pictures.to_json()}


def _show_completions(
    store: RunStore, count: int, pairs: PairFilter, order: Order | None, seed: int, reader: _PictureReader
) -> dict[str, Any]:
    from curate.completion.examples import completion_examples

    examples = completion_examples(store, count, pairs, order, seed)
    pictures = reader.pictures_of([example.row_id for example in examples.shown])
    print_completion_counts(out, examples)
    if examples.shown:
        print_completion_heads(out)
    for example in examples.shown:
        pictures.show(example.row_id)
        print_completion(out, example, pictures.files.get(example.row_id))
    return {"completions": examples.to_json(), **pictures.to_json()}


def _show_summary(
    store: RunStore, count: int, order: Order, pairs: PairFilter, reader: _PictureReader
) -> dict[str, Any]:
    from curate.summary import summarize

    summary = summarize(store, count, order, pairs)
    pictures = (
        reader.pictures_of([pair.row_id for pair in summary.shown]) if reader.folder else _Pictures({}, {}, None)
    )
    print_counts(out, summary)
    print_rounds(out, summary)
    print_histogram(out, summary.histogram)
    print_shown(out, summary, pictures.files)
    return {**summary.to_json(), **pictures.to_json()}


@dataclass(frozen=True)
class _Pictures:
    """Pictures of the pairs shown: row_id -> JPEG for the terminal, and row_id -> the file that was written."""

    jpegs: dict[str, bytes]
    files: dict[str, Path]
    protocol: PictureProtocol | None

    def show(self, row_id: str) -> None:
        from curate.terminal_pictures import picture_sequence

        if self.protocol is not None and row_id in self.jpegs:
            out.file.write(picture_sequence(self.protocol, self.jpegs[row_id]))

    def to_json(self) -> dict[str, Any]:
        return {"pictures": {row_id: str(file) for row_id, file in self.files.items()}} if self.files else {}


@dataclass(frozen=True)
class _PictureReader:
    """Where pictures come from, and the folder they go to if they are asked for as files."""

    store: RunStore
    folder: Path | None
    pipeline: Path | None

    def pictures_of(self, row_ids: Sequence[str]) -> _Pictures:
        """Those of the pairs that have a readable one; nothing is read where nobody would see it."""
        from curate.terminal_pictures import picture_protocol

        protocol = picture_protocol(os.environ) if out.is_terminal else None
        if self.folder is not None:
            make_empty_folder("--pictures", self.folder)
            jpegs = self._read(row_ids, PICTURE_FILE_PIXELS)
            return _Pictures(jpegs, _write_pictures(self.folder, row_ids, jpegs), protocol)
        if protocol is None:
            return _Pictures({}, {}, None)
        try:
            return _Pictures(self._read(row_ids, PICTURE_TERMINAL_PIXELS), {}, protocol)
        except (CurateError, OSError) as error:
            out.print(f"no pictures: {harmless(str(error))}", markup=False, soft_wrap=True)
            return _Pictures({}, {}, None)

    def _read(self, row_ids: Sequence[str], side: int) -> dict[str, bytes]:
        from curate.plan import source_options
        from curate.report.pictures import thumbnails
        from curate.sources import open_source

        config = pipeline_of(self.store, self.pipeline)
        source = open_source(source_options(config), self.store.address)
        return thumbnails(self.store, source, row_ids, config.input.max_image_pixels, side)


def _write_pictures(folder: Path, row_ids: Sequence[str], jpegs: Mapping[str, bytes]) -> dict[str, Path]:
    """Numbered as the pairs are shown: keys come from strangers, they are no names of files."""
    digits = len(str(len(row_ids)))
    numbered = {row_id: folder / f"{number:0{digits}d}.jpg" for number, row_id in enumerate(row_ids, start=1)}
    files = {row_id: file for row_id, file in numbered.items() if row_id in jpegs}
    for row_id, file in files.items():
        file.write_bytes(jpegs[row_id])
    return files
