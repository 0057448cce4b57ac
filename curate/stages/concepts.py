"""The row stage that says what an image shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.columns import embedding_matrix
from curate.concepts.fuse import Scorer
from curate.concepts.model import ConceptModel, TopConcepts
from curate.noise.similarity import have_direction
from curate.schema import CONCEPTS_SCHEMA, CONCEPTS_TYPE


@dataclass(frozen=True)
class ConceptColumns:
    """How many concepts an image gets, and by whose opinion."""

    top_k: int = 10
    scorer: Scorer = "default"


class Concepts:
    """Finds the concepts of every image that has an embedding, whatever its caption is or whether there is one.

    Null where there is no readable image, or where nothing could be fitted. A row's values depend on its picture and
    the model alone: they are the same bytes whatever batch it comes in.

    Args:
        model: what `curate.concepts.fit.fit_concepts` made.
        how: what is kept of it.
    """

    name = "concepts"
    version = 2
    requires = ("image_sha256", "image_embedding")
    provides = CONCEPTS_SCHEMA

    def __init__(self, model: ConceptModel, how: ConceptColumns | None = None) -> None:
        self.model, self.how = model, how or ConceptColumns()
        self._names = pa.array(model.vocabulary.names, pa.string())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        rows = self._usable(batch)
        if len(rows) == 0:
            return pa.Table.from_arrays([pa.nulls(batch.num_rows, CONCEPTS_TYPE)], schema=self.provides)
        found = self.model.top(
            batch["image_sha256"].take(rows).to_pylist(),
            embedding_matrix(batch["image_embedding"].take(rows)),
            self.how.scorer,
            self.how.top_k,
        )
        return pa.Table.from_arrays([self._lists(found, rows, batch.num_rows)], schema=self.provides)

    def _usable(self, batch: pa.Table) -> NDArray[np.intp]:
        """Rows with a picture that can be compared."""
        if self.model.fitted is None:
            return np.empty(0, dtype=np.intp)
        present = batch["image_embedding"].is_valid().to_numpy() & batch["image_sha256"].is_valid().to_numpy()
        rows = np.nonzero(present)[0]
        return rows[have_direction(embedding_matrix(batch["image_embedding"].take(rows)))]

    def _lists(self, found: TopConcepts, rows: NDArray[np.intp], size: int) -> pa.Array:
        """One list for each row of the batch."""
        count = np.zeros(size, dtype=np.int64)
        count[rows] = found.place.shape[1]
        offsets = pa.array(np.concatenate([[0], np.cumsum(count)]), pa.int32())
        values = pa.StructArray.from_arrays(
            [self._names.take(pa.array(found.place.reshape(-1))), pa.array(found.score.reshape(-1))],
            fields=list(CONCEPTS_TYPE.value_type),
        )
        missing = np.ones(size, dtype=bool)
        missing[rows] = False
        return pa.ListArray.from_arrays(offsets, values, type=CONCEPTS_TYPE, mask=pa.array(missing))
