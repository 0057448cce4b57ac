from __future__ import annotations

import numpy as np
import pytest
import torch

from curate.noise.agreement import Projected, project
from curate.noise.memorization import TEMPERATURE, Heads, itc_loss, warm_up
from tests.noise.synthetic import auroc, corpus, features_of, random_features, unit


def random_pairs(rows, seed=0):
    """Features, and the same pairs in the space of some heads."""
    rng = np.random.default_rng(seed)
    joint = Projected(*(unit(rng.standard_normal((rows, 5))).astype(np.float32) for _ in range(2)))
    return joint, random_features(rows, seed=seed)


def some(joint, features, rows):
    return Projected(joint.image[rows], joint.text[rows]), features.take(rows)


def test_loss_agrees_with_cross_entropy():
    joint, features = random_pairs(20)
    scores = torch.from_numpy(joint.image @ joint.text.T) / TEMPERATURE
    own = torch.arange(20)
    by_image = torch.nn.functional.cross_entropy(scores, own, reduction="none")
    by_text = torch.nn.functional.cross_entropy(scores.T, own, reduction="none")
    loss = itc_loss(joint, features, joint, features)
    np.testing.assert_allclose(loss, ((by_image + by_text) / 2).numpy(), rtol=1e-4, atol=1e-5)
    assert (loss >= 0).all()


def test_twins_are_no_negatives():
    joint, features = random_pairs(20)
    alone = some(joint, features, np.array([3]))
    more = some(joint, features, np.r_[0:20, 3, 3])
    assert itc_loss(*alone, *more)[0] == pytest.approx(itc_loss(*alone, joint, features)[0], abs=1e-5)
    picture, caption = (random_pairs(20)[1] for _ in range(2))
    picture.sketch[7] = features.sketch[3]
    caption.caption[7] = features.caption[3]
    without = some(joint, features, np.delete(np.arange(20), 7))
    for twin in (picture, caption):
        assert itc_loss(*alone, joint, twin)[0] == pytest.approx(itc_loss(*alone, *without)[0], abs=1e-5)


def test_against_nothing_but_twins_there_is_no_loss():
    joint, features = random_pairs(20)
    alone = some(joint, features, np.array([3]))
    assert itc_loss(*alone, *alone)[0] == pytest.approx(0, abs=1e-6)


def test_heads_are_a_view_of_unit_rows():
    features = features_of(corpus(rows=50)[0])
    rng = np.random.default_rng(0)
    maps = (rng.standard_normal((rows.shape[1], 7)) for rows in (features.image, features.text))
    heads = Heads(*(each.astype(np.float32) for each in maps))
    np.testing.assert_allclose(heads.image(features), unit(features.image @ heads.image_map), atol=1e-5)
    np.testing.assert_allclose(heads.text(features), unit(features.text @ heads.text_map), atol=1e-5)


def test_heads_depend_on_the_seed_alone_and_leave_torch_as_it_was():
    features = features_of(corpus(rows=200)[0])
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (warm_up(features.image, features.text, epochs=2, seed=seed) for seed in (1, 1, 2))
    assert (torch.get_rng_state() == state).all()
    assert torch.get_num_threads() == threads
    assert (first.image_map == again.image_map).all()
    assert (first.text_map == again.text_map).all()
    assert not (first.image_map == other.image_map).all()


def test_mismatches_have_a_larger_loss_before_they_are_memorized():
    sample, noisy = corpus(rows=1000, mismatched=0.2)
    features = features_of(sample)
    pairs = project(warm_up(features.image, features.text, epochs=3, seed=0), features)
    assert auroc(noisy, itc_loss(pairs, features, pairs, features)) > 0.75
