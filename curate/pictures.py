"""Pictures of some pairs of a part, read again from their source: pixels are not kept between steps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.sources.base import Part, Shard, Source
from curate.stages.decode import Decode, DecodeOptions

DECODE_BATCH_ROWS = 64
"""Rows whose image bytes are in memory at once."""


def read_pictures(
    source: Source, shard: Shard, part: Part, options: DecodeOptions, rows: NDArray[np.intp]
) -> pa.ChunkedArray:
    """Pixels of chosen pairs; only these are decoded, and without any the shard is not opened.

    Args:
        source: reads the shard.
        shard, part: where the pairs are.
        options: how pixels are made.
        rows: numbers of the pairs within the part, ascending; they had usable pictures when the part was embedded.

    Returns:
        One value of `Decode`'s column `pixels` for each of `rows`, none of them null.

    Raises:
        CurateError: the shard has changed, or a picture that was decoded once cannot be decoded now.
    """
    decode = Decode(options)
    if not len(rows):
        return pa.chunked_array([], decode.provides.field("pixels").type)
    wanted = np.zeros(part.rows, dtype=np.bool_)
    wanted[rows] = True
    first, made = 0, []
    for batch in source.read(shard, part, DECODE_BATCH_ROWS):
        made.append(decode(batch.filter(pa.array(wanted[first : first + batch.num_rows]))))
        first += batch.num_rows
    table = pa.concat_tables(made)
    if table["pixels"].null_count:
        error = next(said for said in table["error"].to_pylist() if said)
        raise CurateError(f"{shard.name}: a picture was decoded once and cannot be now: {error}")
    return table["pixels"]
