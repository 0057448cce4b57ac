"""`curate clean`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from curate import __version__
from curate.cli.shared import JsonFile, RunDirectory, harmless, out, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curate.clean import Needless


def clean(
    run_directory: RunDirectory,
    intermediate: Annotated[
        bool,
        typer.Option("--intermediate", help="Drop files of steps whose columns the annotations hold as well."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Remove what a run does not need: leftovers, and files of parts and steps that are no longer in it."""
    from curate.clean import intermediate_files, needless_files, remove
    from curate.errors import InputError
    from curate.lock import lock_run
    from curate.store import MANIFEST_FILE, RunStore

    store = RunStore(run_directory)
    if not store.exists(MANIFEST_FILE):
        raise InputError(f"{store.url}: is no run directory: it has no manifest")
    with lock_run(store):
        with out.status("looking"):
            found = needless_files(store)
            dropped = intermediate_files(store, found) if intermediate else []
        everything = [*found, *dropped]
        if not dry_run:
            remove(store, everything, __version__)
    _print(everything, dry_run)
    if dropped:
        out.print("a further run of the pipeline would make the dropped steps again", markup=False)
    if json_file is not None:
        files = [{"file": each.name, "bytes": each.size, "why": each.why} for each in everything]
        freed = 0 if dry_run else sum(each.size for each in everything)
        write_json(json_file, {"run": store.url, "dry_run": dry_run, "bytes_freed": freed, "files": files})


def _print(files: Sequence[Needless], dry_run: bool) -> None:
    if not files:
        out.print("nothing to remove", markup=False)
        return
    whys: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for each in files:
        kind = (each.name.rpartition("/")[0] or each.name, each.why)
        whys[kind] += 1
        sizes[kind] += each.size
    for (folder, why), count in whys.items():
        told = f"{count:,} in {folder}: {why}, {sizes[folder, why] / 1e6:,.1f} MB"
        out.print(harmless(told), markup=False, soft_wrap=True)
    verb = "would be removed" if dry_run else "removed"
    out.print(f"{len(files):,} files {verb}, {sum(each.size for each in files) / 1e6:,.1f} MB", markup=False)
