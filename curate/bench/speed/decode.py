"""Row `decode`: image bytes to pixels, by method and size of the source, alone on one core and on all."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.workload import Workload
from curate.columns import pixel_matrix
from curate.schema import Status
from curate.stages.decode import DECODE_MODES, Decode, DecodeOptions

METHODS = DECODE_MODES
SOURCE_SIZES = (300, 640, 1024, 2048)
_ROWS_AT_ONCE = 64


def decode_options(method: str, size: int) -> DecodeOptions:
    """How a method makes pixels of `size` x `size`."""
    return DecodeOptions(size=size, mode=method)


def decoded(images: Sequence[bytes], size: int, method: str = "exact", workers: int = 1) -> NDArray[np.uint8]:
    """All images' pixels, uint8 [n, size, size, 3]."""
    stage = Decode(decode_options(method, size))

    def some(start: int) -> NDArray[np.uint8]:
        held = images[start : start + _ROWS_AT_ONCE]
        batch = pa.table(
            {
                "image": pa.array(held, pa.large_binary()),
                "status": pa.array([Status.OK.value] * len(held), pa.string()),
                "error": pa.nulls(len(held), pa.string()),
            }
        )
        return pixel_matrix(stage(batch).column("pixels"), size)

    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(some, range(0, len(images), _ROWS_AT_ONCE))))


def decode_child(work: Workload, method: str, size: int, all_cores: bool) -> ChildCommand:
    """All images of the workload per measurement, to `size` x `size`."""
    name = f"decode_{'all_cores' if all_cores else method}"
    given = {"work": work.to_json(), "method": method, "size": size, "all_cores": all_cores}
    return module_child(name, "curate.bench.speed.decode", given)


def _make(given: dict[str, Any]) -> Measure:
    images, _ = Workload(**given["work"]).pairs()
    workers = len(os.sched_getaffinity(0)) if given["all_cores"] else 1

    def measure() -> Answer:
        started = time.monotonic()
        decoded(images, given["size"], given["method"], workers)
        return {"images": len(images), "seconds": time.monotonic() - started}

    return measure


if __name__ == "__main__":
    serve(_make)
