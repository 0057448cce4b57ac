from __future__ import annotations

import numpy as np
import pytest
import torch

from curate.noise.fit import NoiseOptions, fit_noise
from curate.noise.memorization import TEMPERATURE, itc_loss, warm_up
from tests.noise.synthetic import auroc, corpus, score_sample
from tests.noise.test_similarity import random_pairs


def test_loss_agrees_with_cross_entropy():
    pairs = random_pairs(20)
    loss = itc_loss(pairs, pairs)
    scores = torch.from_numpy(pairs.image @ pairs.text.T) / TEMPERATURE
    own = torch.arange(20)
    by_image = torch.nn.functional.cross_entropy(scores, own, reduction="none")
    by_text = torch.nn.functional.cross_entropy(scores.T, own, reduction="none")
    np.testing.assert_allclose(loss, ((by_image + by_text) / 2).numpy(), rtol=1e-4, atol=1e-5)


def test_twins_are_no_negatives():
    negatives = random_pairs(20)
    alone = negatives.take(np.array([3]), np.array([3]))
    more = negatives.take(np.r_[np.arange(20), 3, 3], np.r_[np.arange(20), 3, 3])
    assert itc_loss(alone, more)[0] == pytest.approx(itc_loss(alone, negatives)[0], abs=1e-5)


def test_heads_depend_on_the_seed_alone_and_leave_torch_as_it_was():
    sample, _ = corpus(rows=200)
    means = sample.image.mean(0), sample.text.mean(0)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (warm_up(sample.image, sample.text, *means, epochs=2, seed=seed) for seed in (1, 1, 2))
    assert (torch.get_rng_state() == state).all()
    assert torch.get_num_threads() == threads
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == other[0]).all()


def test_mismatches_have_a_larger_loss():
    sample, noisy = corpus(rows=1500, mismatched=0.2)
    scores = score_sample(fit_noise(sample, NoiseOptions(rounds=1), seed=0), sample)
    assert (scores.itc_loss >= 0).all()
    assert auroc(noisy, scores.itc_loss) > 0.75
