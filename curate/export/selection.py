"""Which pairs of a run are exported, and with which caption: its annotations, one part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.schema import Status
from curate.store import RunStore
from curate.summary import annotation_files, check_completed
from curate.where import parse_where

CaptionChoice: TypeAlias = Literal["original", "completed", "both"]
COMPLETED = "completed_caption"
FOR_BOTH = ("caption", COMPLETED, "p_use_synthetic")
"""Columns that a trainer needs that mixes both captions."""
_NO_CAPTION = (Status.MISSING_CAPTION, Status.EMPTY_CAPTION, Status.CAPTION_NOT_UTF8)


@dataclass(frozen=True)
class Selection:
    """What to export.

    Attributes:
        where: a condition, see `curate.where`; None: all pairs.
        columns: of the annotations, in this order; None: all.
        caption: which caption a trainer gets. "completed": in the place of the original, which stays where nothing
            was completed. "both": the original stays, and the columns of `FOR_BOTH` are there whatever is asked for.
    """

    where: str | None = None
    columns: tuple[str, ...] | None = None
    caption: CaptionChoice = "original"

    def chosen_columns(self, table: pa.Table, always: tuple[str, ...] = ()) -> pa.Table:
        """The columns asked for, in that order, after those that are needed always."""
        if self.columns is None:
            return table
        needed = FOR_BOTH if self.caption == "both" else ()
        return table.select(list(dict.fromkeys([*always, *self.columns, *needed])))


def selected_parts(store: RunStore, selection: Selection) -> Iterator[tuple[int, pa.Table]]:
    """(number of the part, its chosen rows in input order) with all columns; `caption` is the one that was chosen.

    Raises:
        InputError: there are no annotations, or the selection does not fit them.
    """
    names = annotation_files(store)
    schema = store.read_table(names[0]).schema.remove_metadata()
    check(selection, schema)
    if selection.caption != "original":
        check_completed(store, f"--caption {selection.caption}")
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


def usable(table: pa.Table, caption: CaptionChoice) -> pa.Table:
    """The rows that a trainer can use: they have a readable picture, and a caption of the kind that was chosen.

    A picture without a caption of its own is among them if one was written for it and may be used.
    """
    status = table.column("status")
    good = pc.equal(status, Status.OK.value)
    if caption != "original":
        captionless = pc.is_in(status, pa.array([each.value for each in _NO_CAPTION]))
        written = pc.fill_null(pc.equal(table.column("caption_source"), "synthetic"), False)
        good = pc.or_(good, pc.and_(captionless, written))
    return table.filter(good)


def _with_caption(table: pa.Table, caption: CaptionChoice) -> pa.Table:
    if caption != "completed":
        return table
    place = table.schema.get_field_index("caption")
    return table.set_column(place, "caption", pc.coalesce(table.column(COMPLETED), table.column("caption")))
