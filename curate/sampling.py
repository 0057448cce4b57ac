"""The sample that fits work on: drawn by a seeded hash of each row's identity."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CurateError
from curate.noise.fit import NoiseSample
from curate.noise.grouping import hash_strings
from curate.schema import Status
from curate.store import RunStore, part_file

_IDENTITY = ["row_id", "status"]
_SAMPLED = [*_IDENTITY, "image_sha256", "image_embedding", "text_embedding"]

Hashes = npt.NDArray[np.uint64]


def draw_sample(store: RunStore, parts: Iterable[int], most_rows: int, seed: int, joint_space: bool) -> NoiseSample:
    """At most `most_rows` usable pairs of a run: those with the smallest hashes.

    Row order, part size and number of workers change nothing. Memory: the sample, and one part beside it.

    Args:
        store: the run directory; its embed step is complete.
        parts: numbers of the parts.
        most_rows: bound of the sample.
        seed: of the hash.
        joint_space: whether the towers were trained together.

    Raises:
        CurateError: not one pair is usable.
    """
    parts = list(parts)
    bound = _largest_hash(store, parts, most_rows, seed)
    tables = [_rows_up_to(store, number, seed, bound) for number in parts]
    table = pa.concat_tables(tables)
    if table.num_rows == 0:
        raise CurateError(f"{store.url}: not one pair is usable; the column `status` of embed/ says why")
    return NoiseSample(
        row_ids=table.column("row_id").to_pylist(),
        image=_matrix(table.column("image_embedding")),
        text=_matrix(table.column("text_embedding")),
        image_hash=hash_strings(table.column("image_sha256").to_pylist()),
        joint_space=joint_space,
    )


def _largest_hash(store: RunStore, parts: list[int], most_rows: int, seed: int) -> np.uint64:
    """The hash that the last row of the sample has."""
    smallest: Hashes = np.empty(0, np.uint64)
    for number in parts:
        rows = _usable(store.read_table(part_file("embed", number), _IDENTITY))
        smallest = np.concatenate([smallest, hash_strings(rows.column("row_id").to_pylist(), seed)])
        if len(smallest) > most_rows:
            smallest = np.partition(smallest, most_rows - 1)[:most_rows]
    return np.uint64(smallest.max(initial=0))


def _usable(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table.column("status"), Status.OK.value))


def _rows_up_to(store: RunStore, number: int, seed: int, bound: np.uint64) -> pa.Table:
    table = _usable(store.read_table(part_file("embed", number), _SAMPLED))
    return table.filter(pa.array(hash_strings(table.column("row_id").to_pylist(), seed) <= bound))


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    array = column.combine_chunks()
    return np.asarray(array.flatten()).astype(np.float32).reshape(len(array), -1)
