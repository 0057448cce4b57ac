"""Recalls as the papers count them, against a loop over every query."""

from __future__ import annotations

import numpy as np
import pytest

from curate.bench.paper.retrieval import fold_recalls, recalls


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noisy_pairs(images=300, captions=5, width=12, noise=1.4, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((images, width))
    image_of = np.repeat(np.arange(images), captions)
    return unit(image), unit(image[image_of] + noise * rng.standard_normal((len(image_of), width))), image_of


def slow(image, text, image_of):
    """(image -> text, text -> image) by sorting every query's answers."""
    scores = image @ text.T
    to_text, to_image = [], []
    for row in range(len(image)):
        order = np.argsort(-scores[row]).tolist()
        to_text.append(min(order.index(own) for own in np.nonzero(image_of == row)[0]))
    for row in range(len(text)):
        to_image.append(np.argsort(-scores[:, row]).tolist().index(image_of[row]))
    return [[100 * np.mean(np.array(ranks) < at) for at in (1, 5, 10)] for ranks in (to_text, to_image)]


def test_recalls_are_those_of_a_loop_and_their_sum_is_the_papers_rsum():
    pairs = noisy_pairs()
    found, expected = recalls(*pairs), slow(*pairs)
    np.testing.assert_allclose([found.to_text, found.to_image], expected)
    assert 20 < found.to_text[0] < 95
    assert found.total == pytest.approx(np.sum(expected))


def test_captions_may_stand_in_any_order():
    image, text, image_of = noisy_pairs(images=40)
    order = np.random.default_rng(1).permutation(len(text))
    assert recalls(image, text[order], image_of[order]) == recalls(image, text, image_of)


def test_folds_are_consecutive_images_searched_by_themselves():
    image, text, image_of = noisy_pairs(images=100)
    parts = [slice(start, start + 20) for start in range(0, 100, 20)]
    each = [slow(image[part], text[5 * part.start : 5 * part.stop], np.repeat(np.arange(20), 5)) for part in parts]
    found = fold_recalls(image, text, image_of)
    np.testing.assert_allclose([found.to_text, found.to_image], np.mean(each, axis=0))
    assert found.total > recalls(image, text, image_of).total


def test_a_model_that_gives_everything_one_score_finds_nothing():
    ones = np.ones((30, 4), np.float32) / 2
    found = recalls(ones, np.repeat(ones, 5, axis=0), np.repeat(np.arange(30), 5))
    assert found.total == 0


def test_perfect_pairs_are_all_found():
    image, text, image_of = noisy_pairs(noise=0.0)
    assert recalls(image, text, image_of).total == 600
