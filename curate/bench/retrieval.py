"""How often the right caption is found by its picture, and the right picture by its caption."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from curate.noise.similarity import Floats

Direction: TypeAlias = Literal["image_to_text", "text_to_image"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
DEPTHS = (1, 5, 10)


def recalls(similarity: Floats) -> dict[tuple[Direction, int], float]:
    """R@k in percent: share of the queries whose own partner is among the k nearest; k of DEPTHS, both ways.

    A partner that ties with others stands behind them: what gives all pairs the same similarity finds nothing.

    Args:
        similarity: of n pictures (rows) and their n captions (columns), partners on the diagonal, float32 [n, n].

    Raises:
        ValueError: it is not square, or empty.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not similarity.size:
        raise ValueError(f"similarities must be square, pictures by captions; these are {similarity.shape}")
    found: dict[tuple[Direction, int], float] = {}
    for direction, table in zip(DIRECTIONS, (similarity, similarity.T), strict=True):
        rank = (table >= table.diagonal()[:, None]).sum(axis=1)
        found |= {(direction, depth): float(100 * np.mean(rank <= depth)) for depth in DEPTHS}
    return found
