from __future__ import annotations

import numpy as np
import pytest

from curate.noise.similarity import (
    CHUNK,
    Pairs,
    centred_unit_rows,
    clip_similarity,
    csls,
    map_rows,
    shuffled_pairs,
    top_mean,
    unit_rows,
)
from tests.noise.synthetic import unit


def random_pairs(rows, width=6, seed=0):
    rng = np.random.default_rng(seed)
    image, text, caption = (unit(rng.standard_normal((rows, width))).astype(np.float32) for _ in range(3))
    return Pairs(image, text, rng.standard_normal((rows, 4)).astype(np.float32), caption)


def test_clip_similarity_is_the_cosine():
    image = np.array([[3.0, 0.0], [1.0, 1.0]], np.float32)
    text = np.array([[2.0, 0.0], [-1.0, 1.0]], np.float32)
    np.testing.assert_allclose(clip_similarity(image, text), [1.0, 0.0], atol=1e-7)


def test_zero_rows_stay_zero():
    zero = np.zeros((2, 3), np.float32)
    assert (unit_rows(zero) == 0).all()
    assert np.isfinite(centred_unit_rows(zero, np.zeros(3, np.float32))).all()


def test_top_mean_leaves_out_twins():
    rows = np.array([[5, 1, 4, -np.inf], [-np.inf] * 3 + [2], [-np.inf] * 4], np.float32)
    np.testing.assert_allclose(top_mean(rows, 2), [4.5, 2.0, 0.0])


def slow_csls(pairs, bank, neighbours):
    scores = []
    for i in range(len(pairs)):
        mates = [
            j
            for j in range(len(bank))
            if ((pairs.sketch[i] - bank.sketch[j]) ** 2).sum() > 0.0204 and pairs.caption[i] @ bank.caption[j] <= 0.98
        ]
        to_texts = sorted((float(pairs.image[i] @ bank.text[j]) for j in mates), reverse=True)[:neighbours]
        to_images = sorted((float(pairs.text[i] @ bank.image[j]) for j in mates), reverse=True)[:neighbours]
        scores.append(2 * float(pairs.image[i] @ pairs.text[i]) - np.mean(to_texts) - np.mean(to_images))
    return scores


@pytest.mark.parametrize("neighbours", [1, 10])
def test_csls_agrees_with_a_slow_reference(neighbours):
    bank = random_pairs(50)
    pairs = bank.take(np.arange(30), np.arange(30))
    pairs.sketch[5] = bank.sketch[40]
    pairs.caption[6] = bank.caption[41]
    np.testing.assert_allclose(csls(pairs, bank, neighbours), slow_csls(pairs, bank, neighbours), atol=1e-5)


def test_a_pair_in_the_bank_does_not_vouch_for_itself_nor_its_twins():
    bank = random_pairs(50)
    alone = bank.take(np.array([0]), np.array([0]))
    twins = bank.take(np.r_[0, 0, 1:50], np.r_[0, 0, 1:50])
    without = bank.take(np.arange(1, 50), np.arange(1, 50))
    assert csls(alone, twins, 10)[0] == pytest.approx(csls(alone, without, 10)[0], abs=1e-6)


def test_a_rows_product_does_not_depend_on_where_it_stands():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((300, 77)).astype(np.float32)
    rows = rng.standard_normal((3 * CHUNK + 5, 300)).astype(np.float32)
    whole = map_rows(lambda chunk: chunk @ weights, rows)
    for start, stop in [(0, 1), (5, 300), (CHUNK - 1, 2 * CHUNK + 3), (len(rows) - 1, len(rows))]:
        assert (map_rows(lambda chunk: chunk @ weights, rows[start:stop]) == whole[start:stop]).all()
    assert map_rows(lambda chunk: chunk @ weights, rows[:0]).shape == (0, 77)


def test_shuffled_pairs_are_mismatches():
    bank = random_pairs(100)
    bank.caption[50:] = bank.caption[50]
    shuffled = shuffled_pairs(bank, 3, np.random.default_rng(0))
    original = {image.tobytes(): caption for image, caption in zip(bank.image, bank.caption, strict=True)}
    own = np.stack([original[image.tobytes()] for image in shuffled.image])
    assert ((own * shuffled.caption).sum(axis=1) <= 0.98).all()
    assert 150 < len(shuffled) < 300
