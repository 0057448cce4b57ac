from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from curate.noise.rank import fit_rank


@pytest.mark.parametrize("rows", [100, 5000])
def test_the_rank_is_the_share_that_scores_higher(rows):
    scores = np.random.default_rng(0).standard_normal(rows).astype(np.float32)
    expected = 1 - (rankdata(scores) - 0.5) / rows
    np.testing.assert_allclose(fit_rank(scores)(scores), expected, atol=1 / rows + 1e-3)


def test_the_order_is_kept_and_the_mean_is_a_half():
    scores = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    ranks = fit_rank(scores)(scores)
    assert (np.diff(ranks[np.argsort(scores)]) <= 0).all()
    assert ranks.mean() == pytest.approx(0.5, abs=1e-3)
    assert ranks.dtype == np.float32


def test_of_equal_scores_half_count_as_higher():
    scores = np.where(np.arange(1000) < 400, 0, np.linspace(1, 2, 1000)).astype(np.float32)
    rank = fit_rank(scores)
    assert rank(scores)[0] == pytest.approx(0.8, abs=2e-3)
    assert rank(scores).mean() == pytest.approx(0.5, abs=2e-3)
    assert fit_rank(np.ones(50, np.float32))(np.ones(2, np.float32)).tolist() == [0.5, 0.5]


def test_scores_beyond_the_sample_get_ranks_inside_the_unit_interval():
    scores = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    beyond = np.array([-1e30, -100, -5, scores.min(), 0, scores.max(), 5, 100, 1e30], np.float32)
    ranks = fit_rank(scores)(beyond)
    assert ((ranks >= 0) & (ranks <= 1)).all()
    assert (np.diff(ranks) <= 0).all()
    assert ranks[2] > ranks[3] > 0.99
    assert ranks[6] < ranks[5] < 0.01


def test_a_strict_order_stays_strict_between_the_ends():
    scores = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    line = np.linspace(scores.min() - 1, scores.max() + 1, 400).astype(np.float32)
    assert (np.diff(fit_rank(scores)(line)) < 0).all()
