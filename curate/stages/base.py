"""What every row stage promises."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class RowStage(Protocol):
    """Turns the columns of one batch of rows into new columns of the same rows, in the same order.

    A stage knows nothing of Ray, parts or files, and compares a row only with artifacts, never with its neighbours.
    `version` goes into the fingerprint: raise it when the same input would give another output.
    """

    name: str
    version: int
    requires: tuple[str, ...]
    provides: pa.Schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        ...
