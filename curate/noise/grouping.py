"""Which pairs show the same picture, and which fold each falls into.

"This model never saw the pair" is only worth something if it did not see the pair's twin either. So pairs with one
picture (equal bytes, or nearly equal features) share a fold, and a training row that still has a twin in the held-out
fold is left out of that fold's training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

NEAR_IMAGE_COSINE = 0.99
# Squared distance of unit vectors at that cosine, 2 (1 - cos), and 2 % more for the rounding of sketches to float16.
NEAR_IMAGE_DISTANCE = np.float32(2 * (1 - NEAR_IMAGE_COSINE) * 1.02)
# The very same picture, but for rounding: cosine above .999.
SAME_IMAGE_DISTANCE = np.float32(2 * (1 - 0.999))
SKETCH_DIMENSIONS = 128
_BLOCK = 2048


def seed_key(seed: int) -> bytes:
    """The seed as a blake2b key."""
    return (seed % 2**64).to_bytes(8, "little")


def hash_strings(values: Iterable[str], seed: int = 0) -> Hashes:
    """blake2b of every string, keyed by the seed; uint64 [n]. The same on every machine and in every process."""
    key = seed_key(seed)
    digests = b"".join(
        hashlib.blake2b(v.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest() for v in values
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def design_effect(groups: NDArray[np.int64]) -> float:
    """How much larger the variance of a share is for groups of like rows (Kish 1965): sum of squared sizes over rows.

    1 where all rows stand alone, the group's size where all groups are equally large; rows of a group are taken for
    fully alike, which is the cautious end.
    """
    sizes = np.bincount(groups).astype(np.float64)
    return float((sizes * sizes).sum() / sizes.sum())


@dataclass(frozen=True)
class Sketch:
    """A short fingerprint of image features whose distances never exceed the true ones, so that no twin is missed.

    f = L2(L2(v) - mean) is projected on the leading principal directions; the length of what the projection loses is
    one more coordinate: |P a - P b|^2 + (|res a| - |res b|)^2 <= |a - b|^2 = 2 (1 - cos(a, b)). "Near" by sketch is
    thus implied by cosine > .99, and a little wider: among 8,843 clipart pictures it misses none of 16,196 pairs of
    twins and adds 4,907 pairs, of cosine .963 and up.

    Attributes:
        mean: mean of the L2-normalised embeddings, float32 [dv].
        basis: orthonormal columns, float32 [dv, s].
    """

    mean: Floats
    basis: Floats

    def of_features(self, features: Floats) -> Floats:
        """Sketches of centred unit features; float32 [n, s + 1], values that half precision holds."""
        projected = features @ self.basis
        lost = (features * features).sum(axis=1) - (projected * projected).sum(axis=1)
        sketch = np.column_stack([projected, np.sqrt(np.maximum(lost, 0))])
        return sketch.astype(np.float16).astype(np.float32)


def leading_directions(covariance: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """Eigenvectors of the largest eigenvalues, as columns; float64 [d, dimensions]. O(d^3)."""
    _, vectors = np.linalg.eigh(covariance)
    leading: NDArray[np.float64] = vectors[:, ::-1][:, :dimensions]
    return np.ascontiguousarray(leading)


def half_norms(sketch: Floats) -> Floats:
    """|s|^2 / 2 of every row, float32 [n]."""
    norms: Floats = np.float32(0.5) * (sketch * sketch).sum(axis=1)
    return norms


def near(a: Floats, b: Floats, distance: np.float32 = NEAR_IMAGE_DISTANCE) -> Bools:
    """Which rows of two sets of sketches may show one picture: squared distance; bool [len(a), len(b)]."""
    bound = half_norms(a)[:, None] + (half_norms(b) - np.float32(0.5) * distance)
    closer: Bools = a @ b.T > bound
    return closer


def group_by_picture(sketch: Floats, image_hash: Hashes) -> NDArray[np.int64]:
    """Leader clustering in row order: a row joins the first leader that is near, else leads a group of its own.

    No chains: all members lie within the radius of their leader, which bounds the diameter. Rows with equal
    `image_hash` always share a group. int64 [n], groups numbered in the order of their leaders. O(n groups s) time,
    O(block^2) memory.
    """
    _, first, inverse = np.unique(image_hash, return_index=True, return_inverse=True)
    distinct = np.sort(first)
    rank = np.searchsorted(distinct, first)
    groups = _lead(sketch[distinct])
    return groups[rank[inverse]]


def _lead(sketch: Floats) -> NDArray[np.int64]:
    groups = np.full(len(sketch), -1, dtype=np.int64)
    leaders: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for start in range(0, len(sketch), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(sketch)))
        groups[block] = _first_near_leader(sketch[block], sketch, leaders)
        free = block[groups[block] < 0]
        close = near(sketch[free], sketch[free])
        new: list[int] = []
        for position, row in enumerate(free):
            if groups[row] < 0:
                followers = free[close[position] & (groups[free] < 0)]
                groups[followers] = len(leaders) + len(new)
                groups[row] = len(leaders) + len(new)
                new.append(int(row))
        leaders = np.concatenate([leaders, np.array(new, dtype=np.int64)])
    return groups


def _first_near_leader(rows: Floats, sketch: Floats, leaders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the first leader near to each row, -1 where there is none."""
    found = np.full(len(rows), -1, dtype=np.int64)
    for start in range(0, len(leaders), _BLOCK):
        close = near(rows, sketch[leaders[start : start + _BLOCK]])
        hit = (found < 0) & close.any(axis=1)
        found[hit] = start + close[hit].argmax(axis=1)
    return found


def draw_folds(groups: NDArray[np.int64], folds: int) -> NDArray[np.int8]:
    """Whole groups dealt to folds in the order of their numbers, each to the smallest fold so far; int8 [n].

    Groups are numbered in the rows' seeded hash order: a seeded draw, as balanced as the largest group allows.
    """
    sizes = np.bincount(groups)
    fold_of_group = np.empty(len(sizes), dtype=np.int8)
    load = [0] * folds
    for group, size in enumerate(sizes.tolist()):
        smallest = load.index(min(load))
        fold_of_group[group] = smallest
        load[smallest] += size
    return fold_of_group[groups]


def folds_with_twins(sketch: Floats, fold: NDArray[np.int8], folds: int) -> Bools:
    """Whether a row has a near-duplicate picture in each fold (its own fold: itself); bool [n, folds].

    O(n^2 s) time on blocks, half of them by symmetry; O(block^2) memory.
    """
    twins = np.zeros((len(sketch), folds), dtype=np.bool_)
    starts = range(0, len(sketch), _BLOCK)
    for a in starts:
        for b in starts[a // _BLOCK :]:
            rows, columns = np.nonzero(near(sketch[a : a + _BLOCK], sketch[b : b + _BLOCK]))
            twins[a + rows, fold[b + columns]] = True
            twins[b + columns, fold[a + rows]] = True
    return twins
