"""Recipes: which pairs and captions each trains on, and how they are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.bench.curated import Curated
from curate.bench.recipes import METHODS, RECIPES, REFERENCES, check_methods, numbered
from curate.errors import InputError
from tests.bench.test_downstream import told_right

ROWS = 160


@pytest.fixture(scope="module")
def part() -> Curated:
    wrong, rows = np.arange(ROWS) % 2 == 0, np.arange(ROWS)
    image, text = np.random.default_rng(0).standard_normal((2, ROWS, 4)).astype(np.float32)
    return told_right(wrong, image, text, np.where(wrong, np.roll(rows, 2), rows))


def test_the_truth_in_place_of_one_part(part):
    doubtful = part.noise_prob.copy()
    doubtful[1::4], doubtful[0::4] = 0.9, 0.2
    mistaken = replace(part, noise_prob=doubtful, completed=[*map(str.upper, part.true_captions)])
    weight = {name: METHODS[name](mistaken).weight > 0 for name in METHODS}
    lost, residue = np.arange(ROWS) % 4 == 1, np.arange(ROWS) % 4 == 0
    assert (weight["kept_nothing_lost"] != weight["kept"]).tolist() == lost.tolist()
    assert (weight["kept_no_residue"] != weight["kept"]).tolist() == residue.tolist()
    assert (weight["oracle"] == ~part.mismatched).all()
    completed, true = METHODS["completed"](mistaken), METHODS["completed_true_captions"](mistaken)
    assert true.captions == part.true_captions != completed.captions
    assert np.array_equal(true.text, part.true_text)
    assert np.array_equal(true.weight, completed.weight)


def test_captions_that_say_the_same_have_one_number():
    one, other = numbered(["A dog", "a cat", " a dog\n"], ["a cat", "a horse", "A CAT"])
    assert one.tolist() == [0, 1, 0]
    assert other.tolist() == [1, 2, 1]


def test_methods_are_named():
    assert check_methods(["completed", "kept"]) == ["raw", "oracle", "full_clean", "kept", "completed"]
    assert check_methods(["all"]) == [*REFERENCES, *RECIPES]
    assert check_methods(["all", "ablations"]) == list(METHODS)
    with pytest.raises(InputError, match="--method magic: choose among all, ablations, raw"):
        check_methods(["magic"])
