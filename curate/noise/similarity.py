"""Rows of unit length and their cosines, in chunks of a fixed shape.

Matrix products of pairs that are to be scored are always made in chunks of CHUNK rows, the last one padded with zeros:
a row's result then does not depend on how the rows were cut into batches. Measured with OpenBLAS: for a fixed shape a
row's product is bit for bit the same at any position; for other shapes it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Parts of a few hundred rows, dealt to five folds, should not be padding for the most part.
CHUNK = 64
NEAR_TEXT_COSINE = 0.98
_TINY = np.float32(1e-12)
_GROUP = 16


def unit_rows(rows: Floats) -> Floats:
    """Rows divided by their Euclidean norm; a zero row stays zero. float32 [n, d] -> float32 [n, d]."""
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit: Floats = rows / np.maximum(norms, _TINY)
    return unit


def have_direction(rows: Floats) -> Bools:
    """Whether rows are finite and not zero, so that they have cosines; float32 or float16 [n, d] -> bool [n]."""
    usable: Bools = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    return usable


def centred_unit_rows(rows: Floats, mean: Floats) -> Floats:
    """L2-normalise, centre, L2-normalise: L2(L2(x) - mean). float32 [n, d] -> float32 [n, d].

    Args:
        rows: embeddings, float32 or float16 [n, d].
        mean: mean of the L2-normalised embeddings of the rows a model is trained on, float32 [d].
    """
    return unit_rows(unit_rows(rows.astype(np.float32, copy=False)) - mean)


def half(array: Floats) -> Floats:
    """The nearest values that half precision holds, as float32."""
    return array.astype(np.float16).astype(np.float32)


def padded_chunks(rows: int) -> Iterator[slice]:
    """Slices of CHUNK rows that cover `rows`."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


def padded(rows: Floats) -> Floats:
    """`rows` followed by zero rows up to CHUNK."""
    if len(rows) == CHUNK:
        return rows
    full = np.zeros((CHUNK, rows.shape[1]), dtype=np.float32)
    full[: len(rows)] = rows
    return full


def map_rows(function: Callable[[Floats], Floats], rows: Floats) -> Floats:
    """`function` over padded chunks of rows: same bytes for a row wherever it stands and whoever stands beside it."""
    pieces = [function(padded(rows[part]))[: part.stop - part.start] for part in padded_chunks(len(rows))]
    return np.concatenate(pieces) if pieces else function(padded(rows))[:0]


def largest(values: Floats, count: int) -> NDArray[np.intp]:
    """Positions of the largest `count` values of every row, in no order; float32 [n, m] -> [n, min(count, m)].

    They lie in the groups of columns with the largest maxima, so that only those few are sorted out: several times
    faster than a partition of the whole row.
    """
    rows, width = values.shape
    groups = -(-width // _GROUP)
    if groups <= 2 * count:
        return np.argpartition(values, width - min(count, width), axis=1)[:, -count:]
    full = np.full((rows, groups * _GROUP), -np.inf, dtype=np.float32)
    full[:, :width] = values
    # Column j belongs to group j mod groups: maxima are then taken between whole contiguous stretches.
    maxima = full.reshape(rows, _GROUP, groups).max(axis=1)
    best = np.argpartition(maxima, groups - count, axis=1)[:, -count:]
    candidates = (best[:, None, :] + groups * np.arange(_GROUP)[:, None]).reshape(rows, -1)
    among = np.take_along_axis(full, candidates, axis=1)
    chosen = np.argpartition(among, among.shape[1] - count, axis=1)[:, -count:]
    found = np.take_along_axis(candidates, chosen, axis=1)
    # Where fewer than `count` values are finite, the padding is as large as what is left.
    return np.where(found < width, found, values.argmin(axis=1)[:, None]) if found.max(initial=0) >= width else found


def top_mean(similarities: Floats, neighbours: int) -> Floats:
    """Mean of the largest `neighbours` finite values of every row; 0 where a row has none. float32 [n, b] -> [n]."""
    top = np.sort(np.take_along_axis(similarities, largest(similarities, neighbours), axis=1), axis=1)
    finite = np.isfinite(top)
    total: Floats = np.where(finite, top, np.float32(0)).sum(axis=1)
    mean: Floats = total / np.maximum(finite.sum(axis=1), 1).astype(np.float32)
    return mean
