from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from curate.noise.arrays import pack, unpack


@dataclass(frozen=True)
class Leaf:
    rows: NDArray[np.float32]
    stored_in_half: ClassVar[bool] = True


@dataclass(frozen=True)
class Exact:
    rows: NDArray[np.float32]
    flags: NDArray[np.bool_]


@dataclass(frozen=True)
class Tree:
    keys: NDArray[np.uint64]
    fold: NDArray[np.int8]
    precise: NDArray[np.float64]
    share: float
    count: int
    leaf: Leaf
    many: tuple[Exact, ...]
    none: tuple[Exact, ...]
    maybe: Leaf | None
    missing: Leaf | None
    bare: NDArray[Any] | None


def tree():
    rng = np.random.default_rng(0)
    halved = rng.standard_normal((4, 3)).astype(np.float16).astype(np.float32)
    return Tree(
        keys=np.array([0, 2**64 - 1], np.uint64),
        fold=np.array([-1, 3], np.int8),
        precise=rng.standard_normal(5),
        share=0.1,
        count=7,
        leaf=Leaf(halved),
        many=(
            Exact(rng.standard_normal((2, 2)).astype(np.float32), np.array([True, False])),
            Exact(halved, halved > 0),
        ),
        none=(),
        maybe=Leaf(halved[:0]),
        missing=None,
        bare=None,
    )


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_what_is_packed_comes_back_exactly():
    held = tree()
    again = unpack(Tree, load(save(pack(held))))
    for name in ("keys", "fold", "precise"):
        assert same(getattr(again, name), getattr(held, name))
    assert (again.share, again.count, again.none) == (0.1, 7, ())
    assert isinstance(again.count, int)
    assert same(again.leaf.rows, held.leaf.rows)
    assert len(again.many) == 2
    for ours, theirs in zip(again.many, held.many, strict=True):
        assert same(ours.rows, theirs.rows)
        assert same(ours.flags, theirs.flags)
    assert same(again.maybe.rows, held.maybe.rows)
    assert again.missing is None
    assert again.bare is None
    assert save(pack(again)) == save(pack(held))


def test_names_are_paths_and_only_marked_classes_are_stored_in_half():
    packed = pack(tree())
    assert packed["leaf.rows"].dtype == np.float16
    assert packed["many.0.rows"].dtype == np.float32
    assert int(packed["many.length"]) == 2
    assert not any(name.startswith(("missing", "bare")) for name in packed)


def test_arrays_that_are_not_contiguous_keep_their_values():
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2].T
    again = unpack(Leaf, load(save(pack(Leaf(rows)))))
    assert again.rows.tolist() == rows.tolist()


def test_an_array_that_is_missing_is_an_error():
    packed = pack(tree())
    del packed["keys"]
    with pytest.raises(KeyError, match="keys"):
        unpack(Tree, packed)
