from __future__ import annotations

import numpy as np
import pytest

from curate.noise import nulls
from curate.noise.nulls import hard_mismatches, random_mismatches
from tests.noise.synthetic import random_features


def bank_with_copies(rows=120):
    """Captions of which every tenth says what the first says."""
    bank = random_features(rows, width=12)
    bank.caption[::10] = bank.caption[0]
    return bank


def rng(seed=0):
    return np.random.default_rng(seed)


def cosines(bank, mismatches):
    return (bank.caption[mismatches.image] * bank.caption[mismatches.text]).sum(axis=1)


def test_random_mismatches_never_say_nearly_the_same():
    bank = bank_with_copies()
    made = random_mismatches(bank, rng())
    assert (cosines(bank, made) <= 0.98).all()
    assert (made.image != made.text).all()
    assert 300 < len(made) < 360


def test_random_mismatches_use_every_image_and_caption_alike():
    bank = random_features(120, width=12)
    made = random_mismatches(bank, rng())
    for side in (made.image, made.text):
        assert np.bincount(side, minlength=120).max() == 3
        assert np.bincount(side, minlength=120).min() >= 1


def test_other_draws_with_another_generator_the_same_with_the_same():
    bank = random_features(120, width=12)
    for make in (random_mismatches, hard_mismatches):
        first, again, other = (make(bank, rng(seed)) for seed in (1, 1, 2))
        assert (first.text == again.text).all()
        assert len(first) != len(other) or (first.text != other.text).any()


@pytest.mark.parametrize("block", [1024, 50])
def test_hard_mismatches_have_a_caption_of_ranks_two_to_eleven(monkeypatch, block):
    monkeypatch.setattr(nulls, "_BLOCK", block)
    bank = bank_with_copies()
    made = hard_mismatches(bank, rng())
    assert len(made) == 3 * 120
    ranks = []
    for image, text in zip(made.image, made.text, strict=True):
        cosine = bank.caption @ bank.caption[image]
        assert cosine[text] <= 0.98
        others = cosine[cosine <= 0.98]
        # Copies of another caption have several ranks together.
        first, last = 1 + (others > cosine[text] + 1e-6).sum(), (others > cosine[text] - 1e-6).sum()
        assert first <= 11
        assert last >= 2
        ranks += [first] if first == last else []
    assert set(ranks) == set(range(2, 12))
    assert (np.bincount(made.image, minlength=120) == 3).all()


def test_hard_mismatches_are_harder():
    bank = random_features(120, width=12)
    assert cosines(bank, hard_mismatches(bank, rng())).mean() > cosines(bank, random_mismatches(bank, rng())).mean()


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5])
def test_a_tiny_bank_gives_what_it_has(rows):
    bank = random_features(120, width=12).take(slice(0, rows))
    hard, random = hard_mismatches(bank, rng()), random_mismatches(bank, rng())
    assert 0 < len(hard) <= 3 * rows if rows >= 3 else len(hard) == 0
    for made in (hard, random):
        assert (made.image != made.text).all()


def test_one_caption_for_all_gives_no_mismatch():
    bank = random_features(40, width=12)
    bank.caption[:] = bank.caption[0]
    assert len(random_mismatches(bank, rng())) == len(hard_mismatches(bank, rng())) == 0


@pytest.mark.parametrize("make", [random_mismatches, hard_mismatches])
def test_other_captions_of_the_same_picture_are_no_mismatch(make):
    bank = random_features(120, width=12)
    same_picture = np.arange(120) // 4
    bank.sketch[:] = bank.sketch[4 * same_picture]
    made = make(bank, rng())
    assert len(made) > 100
    assert (same_picture[made.image] != same_picture[made.text]).all()
