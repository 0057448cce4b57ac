"""Which pairs of a run are exported, and with which caption: its annotations, one part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.store import RunStore
from curate.summary import annotation_files, check_completed
from curate.where import parse_where

CaptionChoice: TypeAlias = Literal["original", "completed"]
COMPLETED = "completed_caption"


@dataclass(frozen=True)
class Selection:
    """What to export.

    Attributes:
        where: a condition, see `curate.where`; None: all pairs.
        columns: of the annotations, in this order; None: all.
        caption: which caption a trainer gets; "completed" takes the original where nothing was completed.
    """

    where: str | None = None
    columns: tuple[str, ...] | None = None
    caption: CaptionChoice = "original"


def selected_parts(store: RunStore, selection: Selection) -> Iterator[tuple[int, pa.Table]]:
    """(number of the part, its chosen rows in input order) with all columns; `caption` is the one that was chosen.

    Raises:
        InputError: there are no annotations, or the selection does not fit them.
    """
    names = annotation_files(store)
    schema = store.read_table(names[0]).schema.remove_metadata()
    check(selection, schema)
    if selection.caption == "completed":
        check_completed(store, "--caption completed")
    condition = None if selection.where is None else parse_where(selection.where, schema)
    for name in names:
        table = store.read_table(name)
        number = int(name.rpartition("-")[2].removesuffix(".parquet"))
        yield number, _with_caption(table if condition is None else table.filter(condition), selection.caption)


def check(selection: Selection, schema: pa.Schema) -> None:
    """Whether the annotations have what is asked for.

    Raises:
        InputError: they do not.
    """
    unknown = [name for name in selection.columns or () if name not in schema.names]
    if unknown:
        raise InputError(
            f"--columns {', '.join(unknown)}: not in the annotations, which have {', '.join(schema.names)}"
        )


def chosen_columns(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """The columns asked for, in that order."""
    return table if columns is None else table.select(list(columns))


def _with_caption(table: pa.Table, caption: CaptionChoice) -> pa.Table:
    if caption == "original":
        return table
    place = table.schema.get_field_index("caption")
    return table.set_column(place, "caption", pc.coalesce(table.column(COMPLETED), table.column("caption")))
