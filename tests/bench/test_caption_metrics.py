from __future__ import annotations

import numpy as np
import pytest

from curate.bench.caption_metrics import caption_figures, cider_d, true_ranks

pytest.importorskip("sacrebleu")


def test_cider_d_of_the_truth_itself_is_10_where_it_has_four_words():
    true = ["a red dog runs", "two cats sleep well"]
    np.testing.assert_allclose(cider_d(true, true), [10.0, 10.0])


def test_cider_d_by_hand():
    """One of two unigrams and no bigram in common; idf of every n-gram is log 2, so it cancels.

    n = 1: min(1, 1) * 1 / (sqrt 2 sqrt 2) = 1/2; n = 2: 0; n = 3, 4: no n-grams. 10/4 * 1/2 = 1.25.
    """
    np.testing.assert_allclose(cider_d(["red dog", "x y"], ["red cat", "blue house"]), [1.25, 0.0])


def test_cider_d_punishes_length_and_repetition():
    """written "dog dog dog": unigram weight 3, clipped to 1: 1 * 1 / (3 * 1) = 1/3; lengths differ by 2."""
    expected = 10 / 4 * (1 / 3) * np.exp(-(2**2) / (2 * 6.0**2))
    np.testing.assert_allclose(cider_d(["dog dog dog", "x"], ["dog", "cat"])[0], expected)


def test_words_that_all_true_captions_have_count_nothing():
    np.testing.assert_allclose(cider_d(["a cat", "a b"], ["a dog", "a bird"])[0], 0.0)


def test_true_ranks_count_nearer_ones_and_half_of_ties():
    eye = np.eye(3, dtype=np.float32)
    assert true_ranks(eye, eye).tolist() == [0, 0, 0]
    assert true_ranks(eye[[1, 1, 1]], eye).tolist() == [1, 0, 1]
    assert true_ranks(np.ones((3, 3), np.float32), np.ones((3, 3), np.float32)).tolist() == [1, 1, 1]


def test_figures():
    eye = np.eye(2, dtype=np.float32)
    figures = caption_figures(["a dog", "a dog"], ["A dog", "the cat"], eye[[0, 0]], eye, ["a dog"])
    assert figures.distinct_ratio == 0.5
    assert figures.length == 2
    assert figures.new_words == 0
    assert figures.recall_at_1 == 0.5
    assert figures.cosine == 0.5
    assert caption_figures(["a dgo"], ["a dog"], eye[:1], eye[:1], ["a dog"]).new_words == 0.5
