"""Row `neighbours`: the 30 nearest among all pairs, exactly and by inverted lists; and the signal as curate scores it.

curate's own signal compares with a sample of at most 16,384 reference pairs, whatever the size of the corpus: its
time per pair does not grow. What a search among all pairs would take stands beside, and what inverted lists miss.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.noise.fit import NoiseOptions
from curate.noise.neighbours import NEIGHBOURS, weighted_neighbour_disagreement
from curate.noise.references import Batch, References
from curate.noise.similarity import Floats, unit_rows

METHODS = ("signal", "exact", "inverted_lists")
QUERIES = 1024
DIMENSIONS = 384
_INTRINSIC = 32
_NOISE = 0.15
_ROWS_AT_ONCE = 100_000
_LISTS_LOOKED_INTO = 32
_TRAINED_ON = 100_000


def features(count: int, seed: int = 0) -> Floats:
    """Seeded unit features that vary in 32 directions and a little in all 384, as embeddings do; float32 [n, 384]."""
    plane = np.random.default_rng(1).standard_normal((_INTRINSIC, DIMENSIONS), dtype=np.float32)
    random = np.random.default_rng([seed, count])
    made = np.empty((count, DIMENSIONS), dtype=np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        held = made[start : start + _ROWS_AT_ONCE]
        np.matmul(random.standard_normal((len(held), _INTRINSIC), dtype=np.float32), plane, out=held)
        held += np.float32(_NOISE * _INTRINSIC**0.5) * random.standard_normal(held.shape, dtype=np.float32)
        held[:] = unit_rows(held)
    return made


def neighbours_child(method: str, pairs: int) -> ChildCommand:
    """1,024 pairs are compared with `pairs` others per measurement; `method`: one of METHODS."""
    return module_child(f"{method} {pairs:,}", "curate.bench.speed.neighbours", {"method": method, "pairs": pairs})


def _make(given: dict[str, Any]) -> Measure:
    threadpool_limits(1)  # All on one core, as every worker of a run is.
    return {"signal": _signal, "exact": _exact, "inverted_lists": _inverted_lists}[given["method"]](given["pairs"])


def _signal(pairs: int) -> Measure:
    held = min(pairs, NoiseOptions().references)
    image, text = features(held, 2), features(held, 3)
    sketch = features(held, 4)[:, :64]
    ones = np.ones(held, dtype=np.float32)
    references = References(image, text, image, text, sketch, text, agreement=ones, weight=ones)
    asked = [features(QUERIES, seed) for seed in (5, 6, 7)]
    batch = Batch(asked[0], asked[1], asked[0], asked[1], asked[2][:, :64], asked[1])

    def measure() -> Answer:
        started = time.perf_counter()
        weighted_neighbour_disagreement(batch, references)
        return {"seconds": time.perf_counter() - started, "references": held}

    return measure


def _exact(pairs: int) -> Measure:
    base, asked = features(pairs), features(QUERIES, 5)

    def measure() -> Answer:
        started = time.perf_counter()
        nearest_exactly(base, asked)
        return {"seconds": time.perf_counter() - started}

    return measure


def nearest_exactly(base: Floats, asked: Floats) -> NDArray[np.int64]:
    """Positions in `base` of the 30 largest inner products with each row of `asked`; int64 [n, 30], in no order."""
    best: Floats = np.full((len(asked), NEIGHBOURS), -np.inf, dtype=np.float32)
    places: NDArray[np.int64] = np.zeros((len(asked), NEIGHBOURS), dtype=np.int64)
    for start in range(0, len(base), _ROWS_AT_ONCE):
        cosine = np.concatenate([best, asked @ base[start : start + _ROWS_AT_ONCE].T], axis=1)
        chosen = np.argpartition(cosine, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        fresh = np.take_along_axis(places, np.minimum(chosen, NEIGHBOURS - 1), axis=1)
        places = np.where(chosen < NEIGHBOURS, fresh, chosen - NEIGHBOURS + start)
        best = np.take_along_axis(cosine, chosen, axis=1)
    return places


def recall(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    """Mean share of each row's wanted positions that were found."""
    return float(np.mean([len(np.intersect1d(*rows)) / len(rows[1]) for rows in zip(found, wanted, strict=True)]))


def _inverted_lists(pairs: int) -> Measure:
    import faiss

    faiss.omp_set_num_threads(1)
    base, asked = features(pairs), features(QUERIES, 5)
    started = time.perf_counter()
    lists = int(4 * pairs**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIMENSIONS), DIMENSIONS, lists, faiss.METRIC_INNER_PRODUCT)
    chosen = np.random.default_rng(0).choice(pairs, min(pairs, max(_TRAINED_ON, 40 * lists)), replace=False)
    index.train(base[np.sort(chosen)])
    index.add(base)
    index.nprobe = _LISTS_LOOKED_INTO
    built = time.perf_counter() - started
    wanted = nearest_exactly(base, asked)

    def measure() -> Answer:
        started = time.perf_counter()
        _, found = index.search(asked, NEIGHBOURS)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "build_seconds": built, "recall": recall(found, wanted), "lists": lists}

    return measure


if __name__ == "__main__":
    serve(_make)
