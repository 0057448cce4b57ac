"""Which version of curate can read a run directory: `format.json` at its root says how it is laid out.

    {"run_format": 1, "schema_version": 1, "written_by": "0.1.0", "dropped": []}

Runs made before there was such a file are of format 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from curate.errors import CurateError
from curate.schema import SCHEMA_VERSION
from curate.store import RunStore

RUN_FORMAT = 1
"""Raise it when earlier versions of curate could no longer read, or would spoil, what this one writes."""
FORMAT_FILE = "format.json"


@dataclass(frozen=True)
class RunFormat:
    """How a run directory is laid out.

    Attributes:
        run_format: of the directory, see RUN_FORMAT.
        schema_version: of the annotations.
        written_by: version of curate that laid it out; empty where that is not said.
        dropped: steps whose files `curate clean --intermediate` has removed since the last run.
    """

    run_format: int = RUN_FORMAT
    schema_version: int = SCHEMA_VERSION
    written_by: str = ""
    dropped: tuple[str, ...] = ()


def read_format(store: RunStore) -> RunFormat:
    """What a run directory says of itself.

    Raises:
        CurateError: a newer version of curate made it, or it cannot be understood.
    """
    try:
        said = store.read_json(FORMAT_FILE)
        if said is None:
            return RunFormat(1, 1)
        found = RunFormat(
            run_format=int(said["run_format"]),
            schema_version=int(said["schema_version"]),
            written_by=str(said["written_by"]),
            dropped=tuple(str(step) for step in said["dropped"]),
        )
    except (CurateError, ValueError, LookupError, TypeError) as error:
        raise CurateError(
            f"{store.path(FORMAT_FILE)}: cannot be understood ({error}). It holds the format of the run directory: "
            "restore it, or delete it if this run is of the version of curate that is installed."
        ) from None
    if found.run_format > RUN_FORMAT or found.schema_version > SCHEMA_VERSION:
        raise CurateError(
            f"{store.url}: was written by curate {found.written_by} in a newer format (run_format "
            f"{found.run_format}, schema_version {found.schema_version}; this version knows {RUN_FORMAT} and "
            f"{SCHEMA_VERSION}). Upgrade curate to read it or to go on with it."
        )
    return found


def check_format(store: RunStore) -> None:
    """Whether this version of curate can read a run directory.

    Raises:
        CurateError: a newer version of curate made it, or it cannot be understood.
    """
    read_format(store)


def write_format(store: RunStore, version: str, dropped: Sequence[str] = ()) -> None:
    """Say how a run directory is laid out; one that says so already keeps the version that laid it out.

    Args:
        store: the run directory.
        version: of curate.
        dropped: steps whose files were removed.

    Raises:
        CurateError: a newer version of curate made it, or it cannot be written.
    """
    known = read_format(store)
    said = {
        "run_format": RUN_FORMAT,
        "schema_version": SCHEMA_VERSION,
        "written_by": known.written_by or version,
        "dropped": list(dropped),
    }
    text = (json.dumps(said, indent=1) + "\n").encode()
    if not store.exists(FORMAT_FILE) or store.read_bytes(FORMAT_FILE) != text:
        store.write_bytes(FORMAT_FILE, text)
