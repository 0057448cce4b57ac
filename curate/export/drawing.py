"""How often a trainer should draw a pair, and pairs sorted by it for trainers that draw whole shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import InputError
from curate.export.selection import CaptionChoice

COMPLETED_WEIGHT = 0.5
"""Of a pair with a completed caption, which is mostly right and seldom exactly so. Measured in docs/downstream.md."""
WEIGHT_GROUPS = 8


def draw_weights(table: pa.Table, caption: CaptionChoice) -> NDArray[np.float64]:
    """In proportion to what each pair should be drawn: 1 - noise_prob, or `COMPLETED_WEIGHT` with a completed caption.

    Args:
        table: annotations.
        caption: that the trainer gets.

    Returns:
        float64 [n], in [0, 1].

    Raises:
        InputError: the run has no noise_prob.
    """
    weight = pc.subtract(pa.scalar(1.0), table.column("noise_prob").cast(pa.float64()))
    if caption != "original":
        changed = pc.fill_null(pc.not_equal(table.column("caption_source"), "original"), False)
        weight = pc.if_else(changed, COMPLETED_WEIGHT, weight)
    if weight.null_count:
        raise InputError("--weighted: this run has no noise_prob; add the stage noise and run it again")
    values: NDArray[np.float64] = weight.to_numpy()
    return values


def weight_groups(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Group of each pair, int64 [n], in [0, WEIGHT_GROUPS): bins of equal width, the largest weights first."""
    return WEIGHT_GROUPS - 1 - np.minimum(weights * WEIGHT_GROUPS, WEIGHT_GROUPS - 1).astype(np.int64)
