"""The row stage that says how likely an image and its caption do not belong together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import InputError
from curate.noise.model import NoiseModel, Scores
from curate.schema import NOISE_SCHEMA, SIGNALS_TYPE, Status


class Noise:
    """Scores pairs with fitted models. A row that can't be used (status not ok, no finite embeddings) gets nulls.

    A row's values depend on the row and the model alone: they are the same bytes whatever batch it comes in.

    Args:
        model: what `curate.noise.fit.fit_noise` made.
        clean_below: a pair with a smaller noise_prob is labelled clean.
        noisy_above: one with a larger is labelled noisy; what is between is uncertain.

    Raises:
        InputError: the thresholds are not 0 <= clean_below <= noisy_above <= 1.
    """

    name = "noise"
    version = 1
    requires = ("row_id", "caption", "image_sha256", "status", "image_embedding", "text_embedding")
    provides = NOISE_SCHEMA

    def __init__(self, model: NoiseModel, clean_below: float = 0.3, noisy_above: float = 0.7) -> None:
        if not 0 <= clean_below <= noisy_above <= 1:
            raise InputError(
                f"noise: thresholds must be 0 <= clean_below <= noisy_above <= 1, not {clean_below} and {noisy_above}"
            )
        self.model = model
        self.clean_below = clean_below
        self.noisy_above = noisy_above

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        candidates = np.nonzero(_usable(batch))[0]
        image = _matrix(batch["image_embedding"].take(candidates))
        text = _matrix(batch["text_embedding"].take(candidates))
        finite = np.isfinite(image).all(axis=1) & np.isfinite(text).all(axis=1)
        rows = candidates[finite]
        if len(rows) == 0:
            return _all_null(self.provides, batch.num_rows)
        scores = self.model.score(
            batch["row_id"].take(rows).to_pylist(),
            batch["image_sha256"].take(rows).to_pylist(),
            image[finite],
            text[finite],
        )
        return _placed(self._columns(scores), rows, batch.num_rows)

    def _columns(self, scores: Scores) -> pa.Table:
        nothing = pa.nulls(len(scores.fold), pa.float32())
        arrays = [getattr(scores, field.name) for field in SIGNALS_TYPE]
        values = [nothing if array is None else pa.array(array) for array in arrays]
        signals = pa.StructArray.from_arrays(values, fields=list(SIGNALS_TYPE))
        columns = [signals, pa.array(scores.noise_prob), self._labels(scores.noise_prob), pa.array(scores.fold)]
        return pa.Table.from_arrays(columns, schema=self.provides)

    def _labels(self, noise_prob: NDArray[np.float32]) -> pa.Array:
        names = np.full(len(noise_prob), "uncertain", dtype=object)
        names[noise_prob < self.clean_below] = "clean"
        names[noise_prob > self.noisy_above] = "noisy"
        return pa.array(names, pa.string())


def _usable(batch: pa.Table) -> NDArray[np.bool_]:
    """Rows whose status is ok and that have both embeddings; bool [n]."""
    usable = pc.equal(batch["status"], Status.OK.value)
    for column in ("image_embedding", "text_embedding", "image_sha256"):
        usable = pc.and_(usable, batch[column].is_valid())
    answer: NDArray[np.bool_] = pc.fill_null(usable, False).to_numpy().astype(np.bool_)
    return answer


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A list column without nulls as float32 [n, d]."""
    values = np.concatenate(
        [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks] or [np.empty(0)]
    )
    width = len(values) // max(len(column), 1)
    matrix: NDArray[np.float32] = values.astype(np.float32).reshape(len(column), width)
    return matrix


def _placed(columns: pa.Table, rows: NDArray[np.intp], size: int) -> pa.Table:
    """`columns` put at `rows` of a table of `size` rows, null elsewhere."""
    source = np.full(size, -1, dtype=np.int64)
    source[rows] = np.arange(len(rows))
    return columns.take(pa.array(source, mask=source < 0)).combine_chunks()


def _all_null(schema: pa.Schema, size: int) -> pa.Table:
    return pa.Table.from_arrays([pa.nulls(size, field.type) for field in schema], schema=schema)
