from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.agreement import SIGNALS, Projected, agreement, project, surroundings
from curate.noise.joint import ZeroShot
from tests.noise.synthetic import random_features, unit

NAMES = pytest.mark.parametrize("name", SIGNALS)


def pairs_and_bank(bank_rows=50, rows=30):
    """The first pairs of a bank, two of which share a picture or a caption with a pair at its end."""
    bank = random_features(bank_rows)
    pairs = bank.take(np.arange(rows))
    pairs.sketch[5] = bank.sketch[-1]
    pairs.caption[6] = bank.caption[-2]
    pairs.text[6] = bank.text[-2]
    return pairs, bank


def compared(pairs, bank):
    """The seven signals, the raw space being the view; a dict of [n]."""
    own, others = project(ZeroShot(), pairs), project(ZeroShot(), bank)
    around = surroundings(pairs, bank)
    made = agreement(own.similarity(), own.image @ others.text.T, own.text @ others.image.T, around)
    assert made.shape == (len(pairs), 7)
    return dict(zip(SIGNALS, made.T, strict=True))


def same_picture(a, b):
    return ((a - b) ** 2).sum() <= 0.0204


def slow(pairs, bank):
    signals = {name: [] for name in SIGNALS}
    for i in range(len(pairs)):
        image, caption = pairs.raw_image[i].astype(float), pairs.caption[i].astype(float)
        picture = [same_picture(pairs.sketch[i], bank.sketch[j]) for j in range(len(bank))]
        text = [pairs.caption[i] @ bank.caption[j] > 0.98 for j in range(len(bank))]
        to_texts = [float(image @ bank.caption[j]) for j in range(len(bank))]
        to_images = [float(caption @ bank.raw_image[j]) for j in range(len(bank))]
        mates = [j for j in range(len(bank)) if not picture[j] and not text[j]]
        like_text = sorted(
            (j for j in range(len(bank)) if not text[j]), key=lambda j: -float(pairs.text[i] @ bank.text[j])
        )
        like_image = sorted(
            (j for j in range(len(bank)) if not picture[j]),
            key=lambda j: -float(pairs.image_unit[i] @ bank.image_unit[j]),
        )
        d = float(image @ caption)
        r, c = [to_texts[j] for j in mates], [to_images[j] for j in mates]
        signals["similarity"].append(d)
        signals["csls_image"].append(d - np.mean(sorted(r)[-10:]))
        signals["csls_text"].append(d - np.mean(sorted(c)[-10:]))
        signals["z_image"].append((d - np.mean(r)) / np.std(r))
        signals["z_text"].append((d - np.mean(c)) / np.std(c))
        signals["over_near_texts"].append(d - np.mean([to_texts[j] for j in like_text[:10]]))
        signals["over_near_images"].append(d - np.mean([to_images[j] for j in like_image[:10]]))
    return signals


@NAMES
@pytest.mark.parametrize("bank_rows", [14, 50, 401])
def test_signals_are_those_of_slow_loops(name, bank_rows):
    pairs, bank = pairs_and_bank(bank_rows, min(30, bank_rows - 2))
    np.testing.assert_allclose(compared(pairs, bank)[name], slow(pairs, bank)[name], atol=2e-5)


@NAMES
def test_a_pair_in_the_bank_does_not_vouch_for_itself_nor_its_twins(name):
    bank = random_features(50)
    alone = bank.take(np.array([0]))
    with_twins, without = bank.take(np.r_[0, 0, 0:50]), bank.take(np.arange(1, 50))
    assert compared(alone, with_twins)[name][0] == pytest.approx(compared(alone, without)[name][0], abs=1e-5)


@NAMES
@pytest.mark.parametrize("twins", [45, 400])
def test_where_nearly_the_whole_bank_are_twins_the_others_are_compared_with(name, twins):
    """A caption that nearly all pairs have."""
    bank = random_features(twins + 5)
    bank.caption[:twins], bank.text[:twins] = bank.caption[0], bank.text[0]
    alone = bank.take(np.array([0]))
    expected = slow(alone, bank)[name][0]
    if name == "over_near_texts":
        others = bank.raw_image[0] @ bank.caption[twins:].T
        expected = float(bank.raw_image[0] @ bank.caption[0]) - others.mean()
    assert compared(alone, bank)[name][0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@NAMES
def test_nothing_but_twins_is_no_error(name):
    bank = random_features(12)
    copies = bank.take(np.zeros(20, dtype=int))
    assert np.isfinite(compared(copies.take(slice(0, 2)), copies)[name]).all()


@NAMES
def test_a_match_scores_higher_than_a_mismatch(name):
    bank = random_features(200, width=8)
    bank = replace(bank, raw_image=unit(bank.caption + 0.8 * bank.raw_image).astype(np.float32))
    own = compared(bank, bank)[name]
    turned = replace(bank, caption=np.roll(bank.caption, 1, axis=0), text=np.roll(bank.text, 1, axis=0))
    assert (own > compared(turned, bank)[name]).mean() > 0.85


def test_a_mismatch_leaves_out_the_picture_that_its_caption_belongs_to():
    pairs, bank = pairs_and_bank()
    around = surroundings(pairs, bank)
    some = around.of_mismatches(np.array([5, 1]), np.array([2, 6]))
    assert (some.near_images == around.near_images[[5, 1]]).all()
    assert (some.near_texts == around.near_texts[[2, 6]]).all()
    left_out = some.image_twin | some.text_twin
    for row, (image, text) in enumerate([(5, 2), (1, 6)]):
        twins = (around.image_twin[image], around.text_twin[text], around.same_picture[text])
        assert (left_out[row] == np.logical_or.reduce(twins)).all()
    assert left_out[0, -1]
    assert left_out[1, -2]


def test_similarity_is_the_cosine_of_the_pair():
    rows = unit(np.random.default_rng(0).standard_normal((2, 9, 5))).astype(np.float32)
    pairs = Projected(*rows)
    np.testing.assert_allclose(pairs.similarity(), [float(v @ t) for v, t in zip(*rows, strict=True)], atol=1e-6)
    assert (pairs.rounded().image == pairs.image.astype(np.float16)).all()
