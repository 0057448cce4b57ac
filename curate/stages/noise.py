"""The row stage that says how likely an image and its caption do not belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import embedding_matrix, field_values
from curate.errors import InputError
from curate.noise.model import NoiseModel, Scores
from curate.noise.negative_impact import confidence_weight
from curate.noise.similarity import have_direction
from curate.schema import NOISE_SCHEMA, SIGNALS_TYPE, Status

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NoiseColumns:
    """How scores become labels and hints for trainers.

    Attributes:
        clean_below: a pair with a smaller noise_prob is labelled clean.
        noisy_above: one with a larger is labelled noisy; what is between is uncertain.
        smoothing: lambda of NLIP's label smoothing, omega = lambda * noise_prob.
        margin_image, margin_text: base margins of DSDMR, for a certainly clean pair.

    Raises:
        InputError: the thresholds are not 0 <= clean_below <= noisy_above <= 1.
    """

    clean_below: float = 0.3
    noisy_above: float = 0.7
    smoothing: float = 0.5
    margin_image: float = 0.3
    margin_text: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.clean_below <= self.noisy_above <= 1:
            raise InputError(
                f"noise: thresholds must be 0 <= clean_below <= noisy_above <= 1, not {self.clean_below} and "
                f"{self.noisy_above}"
            )

    def beliefs(self, noise_prob: Floats, noise_rank: Floats, negative_impact: Floats) -> dict[str, pa.Array | Floats]:
        """Columns by name: the probability itself, the rank, and what follows from both; all float32 [n]."""
        base = margin_share(1 - noise_prob)
        return {
            "noise_prob": noise_prob,
            "noise_rank": noise_rank,
            "label": self.labels(noise_prob),
            "smoothing": np.float32(self.smoothing) * noise_prob,
            "margin_image": np.float32(self.margin_image) * base,
            "margin_text": np.float32(self.margin_text) * base,
            "weight": confidence_weight(negative_impact),
        }

    def labels(self, noise_prob: Floats) -> pa.Array:
        """clean, uncertain or noisy."""
        names = np.full(len(noise_prob), "uncertain", dtype=object)
        names[noise_prob < self.clean_below] = "clean"
        names[noise_prob > self.noisy_above] = "noisy"
        return pa.array(names, pa.string())


class Noise:
    """Scores pairs with fitted models. A row that can't be used gets nulls: its status is not ok, or an embedding is
    missing, not finite or zero.

    A row's values depend on the row and the model alone: they are the same bytes whatever batch it comes in.

    Args:
        model: what `curate.noise.fit.fit_noise` made.
        how: thresholds and scales of what is derived from the scores.
        by: the kept field whose values have posteriors of their own, None if there is none; then `fields` is read too.
    """

    name = "noise"
    version = 3
    requires = ("row_id", "caption", "image_sha256", "status", "image_embedding", "text_embedding")
    provides = NOISE_SCHEMA

    def __init__(self, model: NoiseModel, how: NoiseColumns | None = None, by: str | None = None) -> None:
        self.model, self.how, self.by = model, how or NoiseColumns(), by

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        candidates = np.nonzero(_usable(batch))[0]
        image = embedding_matrix(batch["image_embedding"].take(candidates))
        text = embedding_matrix(batch["text_embedding"].take(candidates))
        comparable = have_direction(image) & have_direction(text)
        rows = candidates[comparable]
        if len(rows) == 0:
            return all_null(self.provides, batch.num_rows)
        scores = self.model.score(
            batch["image_sha256"].take(rows).to_pylist(),
            batch["caption"].take(rows).to_pylist(),
            image[comparable],
            text[comparable],
            None if self.by is None else field_values(batch["fields"].take(rows), self.by),
        )
        return placed(self._columns(scores), rows, batch.num_rows)

    def _columns(self, scores: Scores) -> pa.Table:
        nothing = pa.nulls(len(scores.fold), pa.float32())
        values = [
            pa.array(scores.signals[field.name]) if field.name in scores.signals else nothing for field in SIGNALS_TYPE
        ]
        made = {
            "signals": pa.StructArray.from_arrays(values, fields=list(SIGNALS_TYPE)),
            **self.how.beliefs(scores.noise_prob, scores.noise_rank, scores.signals["negative_impact"]),
            "memory_image": self._row_ids(scores.memory[:, 0]),
            "memory_text": self._row_ids(scores.memory[:, 1]),
            "fold": scores.fold,
        }
        return pa.Table.from_arrays([pa.array(made[name]) for name in self.provides.names], schema=self.provides)

    def _row_ids(self, rows: NDArray[np.int32]) -> pa.Array:
        """Names of rows of the sample; null for -1, and for all where the model does not say."""
        if self.model.row_ids is None:
            return pa.nulls(len(rows), pa.string())
        return pa.array(self.model.row_ids, pa.string()).take(pa.array(rows, mask=rows < 0))


def margin_share(clean_probability: Floats) -> Floats:
    """g(p) = (10^p - 1) / 9: share of the base margin that a pair deserves (soft margin of NCR, NeurIPS 2021).

    DSDMR's own formula is not public; its base margins and that they follow the mixture's posterior are. float32 [n]
    in [0, 1] for p in [0, 1].
    """
    share: Floats = (np.float32(10) ** clean_probability - np.float32(1)) / np.float32(9)
    return share


def _usable(batch: pa.Table) -> NDArray[np.bool_]:
    """Rows whose status is ok and that have both embeddings; bool [n]."""
    usable = pc.equal(batch["status"], Status.OK.value)
    for column in ("image_embedding", "text_embedding", "image_sha256", "caption"):
        usable = pc.and_(usable, batch[column].is_valid())
    answer: NDArray[np.bool_] = pc.fill_null(usable, False).to_numpy().astype(np.bool_)
    return answer


def placed(columns: pa.Table, rows: NDArray[np.intp], size: int) -> pa.Table:
    """`columns` put at `rows` of a table of `size` rows, null elsewhere."""
    source = np.full(size, -1, dtype=np.int64)
    source[rows] = np.arange(len(rows))
    return columns.take(pa.array(source, mask=source < 0)).combine_chunks()


def all_null(schema: pa.Schema, size: int) -> pa.Table:
    """A table of `size` rows without a value."""
    return pa.Table.from_arrays([pa.nulls(size, field.type) for field in schema], schema=schema)
