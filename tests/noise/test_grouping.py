from __future__ import annotations

import hashlib

import numpy as np
import pytest

from curate.errors import InputError
from curate.noise import grouping
from curate.noise.features import fit_reducer, sketches
from curate.noise.fit import training_rows
from curate.noise.grouping import design_effect, draw_folds, folds_with_twins, group_by_picture, hash_strings, near
from tests.noise.synthetic import halved, unit


def features_with_twins(rows=300, width=40, seed=0):
    """Random features where row 3 k + 1 and 3 k + 2 are near-twins (cosine about .997) of row 3 k."""
    rng = np.random.default_rng(seed)
    base = unit(rng.standard_normal((rows // 3, width)))
    copies = np.repeat(base, 3, axis=0)
    jitter = rng.standard_normal(copies.shape) * 0.05 / width**0.5
    return halved(copies + jitter)


def sketcher_of(image):
    return fit_reducer(image, image, 4, grouping.SKETCH_DIMENSIONS).sketch


def all_different(rows):
    return np.arange(rows, dtype=np.uint64)


def test_hashes_are_those_of_blake2b_and_depend_on_the_seed():
    assert hash_strings(["a", "b"]).dtype == np.uint64
    assert hash_strings(["a"], 0)[0] != hash_strings(["a"], 1)[0]
    expected = hashlib.blake2b(b"a", digest_size=8, key=bytes(8)).digest()
    assert int(hash_strings(["a"])[0]) == int.from_bytes(expected, "little")
    assert len(hash_strings([])) == 0


@pytest.mark.parametrize("width", [16, 300])
def test_sketch_distances_never_exceed_true_ones(width):
    rng = np.random.default_rng(0)
    image = halved(rng.standard_normal((500, width)) + 2)
    sketcher = sketcher_of(image)
    sketch = sketches(sketcher, image).astype(np.float64)
    features = grouping_features(image, sketcher.mean)
    a, b = rng.integers(0, 500, 2000), rng.integers(0, 500, 2000)
    sketched = np.linalg.norm(sketch[a] - sketch[b], axis=1)
    true = np.linalg.norm(features[a] - features[b], axis=1)
    assert (sketched <= true + 1e-3).all()


def grouping_features(image, mean):
    return unit(unit(image.astype(np.float64)) - mean)


def test_every_pair_of_twins_is_near():
    image = features_with_twins()
    sketcher = sketcher_of(image)
    sketch = sketches(sketcher, image)
    features = grouping_features(image, sketcher.mean)
    twins = features @ features.T > grouping.NEAR_IMAGE_COSINE
    assert twins.sum() > len(image)
    assert near(sketch, sketch)[twins].all()


def test_twins_share_a_group_and_others_do_not():
    image = features_with_twins()
    groups = group_by_picture(sketches(sketcher_of(image), image), all_different(300))
    assert (groups.reshape(-1, 3) == groups.reshape(-1, 3)[:, :1]).all()
    assert len(np.unique(groups)) == 100


def test_equal_picture_hash_shares_a_group_whatever_the_features():
    sketch = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    picture = all_different(50)
    picture[[3, 20, 41]] = 7
    picture[7] = 99
    groups = group_by_picture(sketch, picture)
    assert groups[3] == groups[20] == groups[41]
    assert len(np.unique(groups)) == 48


def test_groups_are_the_same_across_block_borders(monkeypatch):
    image = features_with_twins()[np.random.default_rng(1).permutation(300)]
    sketch = sketches(sketcher_of(image), image)
    whole = group_by_picture(sketch, all_different(300))
    fold = np.random.default_rng(2).integers(0, 5, 300).astype(np.int8)
    twins = folds_with_twins(sketch, fold, 5)
    expected = [[near(sketch[[row]], sketch[fold == k]).any() for k in range(5)] for row in range(300)]
    np.testing.assert_array_equal(twins, expected)
    monkeypatch.setattr(grouping, "_BLOCK", 7)
    np.testing.assert_array_equal(group_by_picture(sketch, all_different(300)), whole)
    np.testing.assert_array_equal(folds_with_twins(sketch, fold, 5), twins)


def test_a_chain_of_near_pictures_does_not_become_one_group():
    angles = np.linspace(0, np.pi / 2, 60)
    circle = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(60)]).astype(np.float32)
    groups = group_by_picture(circle, all_different(60))
    assert near(circle[:-1], circle[1:]).diagonal().all()
    assert len(np.unique(groups)) > 5
    for group in np.unique(groups):
        spread = angles[groups == group]
        assert spread.max() - spread.min() < 0.6


def test_a_chain_cut_by_folds_leaves_no_twin_to_train_on():
    angles = np.linspace(0, np.pi / 2, 600)
    circle = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(600)]).astype(np.float32)
    fold = (np.arange(600) // 150).astype(np.int8)
    trained = training_rows(circle, fold, 4)
    for k in range(4):
        assert not near(circle[trained[:, k]], circle[fold == k]).any()
        assert not (trained[:, k] & (fold == k)).any()
        assert trained[:, k].sum() > 300


def test_folds_keep_groups_whole_and_are_balanced():
    groups = np.repeat(np.arange(200), np.random.default_rng(0).integers(1, 6, 200))
    fold = draw_folds(groups, 5)
    for group in range(200):
        assert len(np.unique(fold[groups == group])) == 1
    sizes = np.bincount(fold, minlength=5)
    assert sizes.max() - sizes.min() <= 5


def test_one_picture_cannot_be_held_out():
    sketch = np.zeros((200, 3), np.float32)
    with pytest.raises(InputError, match="too many pairs show the same picture"):
        training_rows(sketch, draw_folds(group_by_picture(sketch, all_different(200)), 5), 5)


def test_the_design_effect_is_the_size_of_equal_groups():
    assert design_effect(np.arange(50)) == 1
    assert design_effect(np.repeat(np.arange(20), 5)) == 5
    assert 1 < design_effect(np.array([0, 1, 2, 3, 3])) < 2
