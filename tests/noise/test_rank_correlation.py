from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from curate.noise.rank_correlation import _ascending, rank_correlation
from tests.noise.synthetic import auroc
from tests.noise.test_references import (
    assert_same_however_cut,
    chosen,
    mates,
    random_references,
    topical,
    with_twins,
)


def test_agrees_with_spearman():
    references = random_references(40)
    batch = with_twins(references)
    expected = []
    for i in range(len(batch)):
        near = mates(batch, references, i)
        expected.append(spearmanr(references.image[near] @ batch.image[i], references.text[near] @ batch.text[i])[0])
    np.testing.assert_allclose(rank_correlation(batch, references), expected, atol=1e-6)


def test_same_and_opposite_order():
    references = random_references(40)
    batch = random_references(5, seed=1)
    same = replace(references, text=references.image)
    assert rank_correlation(replace(batch, text=batch.image), same).tolist() == [1] * 5
    assert rank_correlation(replace(batch, text=-batch.image), same).tolist() == [-1] * 5


def test_a_pair_in_the_references_does_not_vouch_for_itself():
    references = random_references(40)
    pair = references.take(np.array([0]))
    more = chosen(references, np.r_[0, 0, 0:40, 0])
    others = chosen(references, np.arange(1, 40))
    assert rank_correlation(pair, more)[0] == rank_correlation(pair, others)[0]


def test_of_equal_references_the_earlier_ranks_lower():
    """Four references, two of them with one image: cosines .9, .5, .5, .1 against .4, .3, .2, .1."""

    def rows(cosines):
        cosines = np.array(cosines, np.float32)
        return np.column_stack([cosines, np.sqrt(1 - cosines**2)])

    references = replace(random_references(4), image=rows([0.9, 0.5, 0.5, 0.1]), text=rows([0.4, 0.3, 0.2, 0.1]))
    batch = random_references(1, seed=1)
    axis = np.array([[1, 0]], np.float32)
    # Ranks by image 3, 1, 2, 0 and by text 3, 2, 1, 0.
    score = rank_correlation(replace(batch, image=axis, text=axis), references)
    assert score[0] == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_ascending_is_a_stable_argsort():
    rng = np.random.default_rng(0)
    cosines = np.round(rng.uniform(-1, 1, (20, 300)), 1).astype(np.float32)
    cosines[rng.random(cosines.shape) < 0.1] = -np.inf
    assert (np.signbit(cosines) & (cosines == 0)).any()
    assert (_ascending(cosines) == np.argsort(cosines, axis=1, kind="stable")).all()


def test_too_few_references_is_zero():
    references = random_references(40)
    pair = references.take(np.array([4]))
    assert rank_correlation(pair, chosen(references, np.array([4]))).tolist() == [0]
    assert rank_correlation(pair, chosen(references, np.array([4, 5]))).tolist() == [0]


def test_many_references_do_not_overflow():
    """The sum of squared differences of 3,000 opposite ranks is 9e9."""
    references = random_references(3000)
    batch = random_references(1, seed=1)
    same = replace(references, text=references.image)
    assert rank_correlation(replace(batch, text=-batch.image), same)[0] == pytest.approx(-1, abs=1e-6)


def test_does_not_depend_on_the_rows_beside():
    assert_same_however_cut(lambda batch, references: [rank_correlation(batch, references)])


def test_matching_pairs_score_higher():
    references, noisy = topical()
    assert auroc(noisy, -rank_correlation(references, references)) > 0.8
