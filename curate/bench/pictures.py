"""Pixels of a whole corpus, for models that are trained on them: decoded once, and kept."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import pixel_matrix
from curate.errors import InputError
from curate.pictures import read_pictures
from curate.plan import Plan
from curate.schema import Status
from curate.stages.decode import DecodeOptions
from curate.store import part_file

MOST_BYTES = 8 << 30
"""Pixels that are kept in memory: 57,000 pictures of 224 x 224."""


def corpus_pixels(plan: Plan, decode: DecodeOptions, most_bytes: int = MOST_BYTES) -> NDArray[np.uint8]:
    """Pictures of the pairs of `load_corpus`, in its order; RGB, uint8 [n, side, side, 3].

    Args:
        plan: whose embed step is complete.
        decode: how pixels are made.
        most_bytes: of memory that they may take.

    Raises:
        InputError: they take more.
        CurateError: a shard has changed since it was embedded.
    """
    rows = {number: _usable_rows(plan, number) for number in plan.manifest.parts}
    count, side = sum(map(len, rows.values())), decode.size
    if count * side * side * 3 > most_bytes:
        raise InputError(
            f"--model towers: {count:,} pictures of {side} x {side} pixels take {count * side * side * 3 / 2**30:.1f} "
            f"GiB of memory, more than {most_bytes / 2**30:g}. Give fewer pairs (--input), or an encoder that takes "
            "smaller pictures."
        )
    pixels = np.empty((count, side, side, 3), dtype=np.uint8)
    ends = dict(zip(rows, np.cumsum([len(of_part) for of_part in rows.values()]).tolist(), strict=True))

    def read(number: int) -> None:
        part = plan.manifest.parts[number]
        column = read_pictures(plan.source, plan.manifest.shards[part.shard], part, decode, rows[number])
        pixels[ends[number] - len(rows[number]) : ends[number]] = pixel_matrix(column, side)

    with ThreadPoolExecutor(os.cpu_count() or 1) as readers:
        list(readers.map(read, rows))
    return pixels


def _usable_rows(plan: Plan, number: int) -> NDArray[np.intp]:
    status = plan.store.read_table(part_file("embed", number), ["status"]).column("status")
    return np.nonzero(pc.equal(status, Status.OK.value).to_numpy())[0]
