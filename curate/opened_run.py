"""A finished run as Python sees it: its annotations as tables, its pairs with their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.config import PipelineConfig
from curate.errors import CurateError, InputError
from curate.export.selection import Selection, selected_parts
from curate.limits import MAX_IMAGE_PIXELS
from curate.pairs import pairs_with_images
from curate.plan import source_options
from curate.sources import open_source
from curate.stages.decode import decode_upright
from curate.store import RunStore
from curate.summary import Summary, annotation_files, summarize
from curate.where import parse_where

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

_IDENTITY = ("row_id", "key", "caption")


@dataclass(frozen=True, repr=False)
class Pair:
    """One pair of a run with its picture.

    Attributes:
        image: bytes of the picture as they came; None where there is none.
        annotations: the columns that were asked for, with `row_id`, `key` and `caption`; `pair["label"]` for short.
        max_pixels: a picture with more is not decoded.
    """

    image: bytes | None
    annotations: dict[str, Any]
    max_pixels: int = MAX_IMAGE_PIXELS

    def __getitem__(self, column: str) -> Any:
        return self.annotations[column]

    @property
    def row_id(self) -> str:
        """Identity of the pair, unique in the run."""
        return str(self.annotations["row_id"])

    @property
    def key(self) -> str:
        """The pair's key as it came."""
        return str(self.annotations["key"])

    @property
    def caption(self) -> str | None:
        """The caption as it came; None where there is none or it is not valid UTF-8."""
        caption: str | None = self.annotations["caption"]
        return caption

    def picture(self) -> Image.Image:
        """The picture, decoded: RGB, upright.

        Raises:
            CurateError: there is none, it cannot be decoded, or it has too many pixels.
        """
        if self.image is None:
            raise CurateError(f"{self.row_id}: this pair has no picture")
        try:
            return decode_upright(self.image, self.max_pixels)
        except CurateError as error:
            raise CurateError(f"{self.row_id}: {error}") from error

    def __repr__(self) -> str:
        size = "no image" if self.image is None else f"{len(self.image):,} bytes of image"
        return f"Pair({self.row_id!r}, {self.caption!r}, {size}, {len(self.annotations)} columns)"


class Run:
    """A finished run, as it was when it was opened.

    Args:
        store: the run directory.
        pipeline: says where the input is, for pictures; None: nobody knows.

    Raises:
        InputError: there are no annotations.
        CurateError: they cannot be read.
    """

    def __init__(self, store: RunStore, pipeline: PipelineConfig | None) -> None:
        self._store, self._pipeline = store, pipeline
        self._files = annotation_files(store)
        self._dataset = store.dataset(self._files)

    @property
    def url(self) -> str:
        """The run directory."""
        return self._store.url

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the annotations' columns; what higher values mean is in a field's metadata."""
        return self._dataset.schema.remove_metadata()

    @property
    def columns(self) -> list[str]:
        """Names of the annotations' columns."""
        names: list[str] = self._dataset.schema.names
        return names

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the annotations were made with: model, weights, precision, versions, options of every stage, seed."""
        facts = self._store.read_facts(self._files[0]) or {}
        return {name: value for name, value in facts.items() if name != "fingerprint"}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Pairs by label, and by status where they have none; together they are all pairs."""
        table = self._read(["label", "status"], None)
        found = pc.value_counts(pc.coalesce(table.column("label"), table.column("status"))).to_pylist()
        ordered = sorted(found, key=lambda each: (-each["counts"], each["values"]))
        return {each["values"]: each["counts"] for each in ordered}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return f"Run({self.url!r}: {len(self):,} pairs: {counts})"

    def summary(self, top: int = 5) -> Summary:
        """Counts, a histogram of noise_prob, the most suspicious pairs (at most `top`), what the fits say."""
        return summarize(self._store, top)

    def to_arrow(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Annotations, one row per pair in input order. Only the columns that are asked for are read.

        Args:
            columns: names of columns, in this order; None: all.
            where: a condition such as "noise_prob < 0.5 and label != 'noisy'"; None: all pairs.

        Raises:
            InputError: there is no such column, or the condition is not understood.
            CurateError: a file is absent or broken.
        """
        self._check_columns(columns)
        return self._read(columns, where)

    def to_pandas(self, columns: Sequence[str] | None = None, where: str | None = None) -> pd.DataFrame:
        """The same as a DataFrame. Needs pandas.

        Raises:
            InputError, CurateError: as `to_arrow`.
        """
        frame: pd.DataFrame = self.to_arrow(columns, where).to_pandas()
        return frame

    def pairs(self, where: str | None = None, columns: Sequence[str] | None = None) -> Iterator[Pair]:
        """Pairs with the bytes of their pictures, which are read again from the input, in input order.

        Memory does not grow with the run: the annotations of one part and a few pictures are held. Pairs that cannot
        be used come too; "status == 'ok'" leaves them out.

        Args:
            where: a condition, see `to_arrow`; None: all pairs.
            columns: of the annotations; `row_id`, `key` and `caption` are always there. None: all.

        Raises:
            InputError: as `to_arrow`, or nobody knows where the input is.
            CurateError: a file is absent or broken, or the input changed since the run.
        """
        self._check_columns(columns)
        self._condition(where)
        if self._pipeline is None:
            raise InputError(
                f"{self.url}: does not say where its input is; name its pipeline: curate.open(run, pipeline=...)"
            )
        source = open_source(source_options(self._pipeline), self._store.address)
        names = self.columns if columns is None else list(dict.fromkeys([*_IDENTITY, *columns]))
        chosen = ((number, table.select(names)) for number, table in selected_parts(self._store, Selection(where)))
        max_pixels = self._pipeline.input.max_image_pixels
        read = pairs_with_images(self._store, source, chosen)
        return (Pair(image, annotations, max_pixels) for image, annotations in read)

    def _read(self, columns: Sequence[str] | None, where: str | None) -> pa.Table:
        condition = self._condition(where)
        try:
            table = self._dataset.to_table(columns=None if columns is None else list(columns), filter=condition)
        except (OSError, pa.ArrowInvalid) as error:
            raise CurateError(f"{self.url}: annotations cannot be read: {error}. Run the pipeline again.") from error
        return table.replace_schema_metadata()

    def _condition(self, where: str | None) -> pc.Expression | None:
        return None if where is None else parse_where(where, self.schema, "where")

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        if isinstance(columns, str):
            raise InputError(f"columns: must be a list of names, such as ['{columns}']")
        unknown = [name for name in columns or () if name not in self.columns]
        if unknown:
            raise InputError(
                f"columns: {', '.join(unknown)}: not in the annotations, which have {', '.join(self.columns)}"
            )
