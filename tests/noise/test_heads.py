"""Heads by themselves: where they start, what they learn from, and that equal inputs give equal bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curate.noise.agreement import project
from curate.noise.crossfit import RIDGES, fit_cca, weighted_moments
from curate.noise.features import Features
from curate.noise.heads import (
    HeadOptions,
    TrustedPairs,
    heads_from_cca,
    heads_from_joint_space,
    memory_entries,
    torch_threads_restored,
    train_heads,
)
from curate.noise.joint import fit_residual_adapter
from tests.noise.synthetic import corpus, features_of, random_features

LOSSES = ("nitc", "npc", "dsdmr", "infonce")
QUICK = HeadOptions(epochs=3, batch=64, learning_rate=0.01)


@pytest.fixture(scope="module")
def pairs():
    """300 matching pairs, and CCA fitted to the first 40 of them: there is something left to learn."""
    features = features_of(corpus(rows=300, mismatched=0.0)[0])
    believed = np.zeros(300, np.float32)
    cca = fit_cca(weighted_moments(features.image[:40], features.text[:40], np.ones(40, np.float32)), 8, 40.0)
    return cca, TrustedPairs(features, believed, np.ones(300, np.float32))


def trained(start, pairs, options, seed=(0,)):
    with torch_threads_restored():
        return train_heads(start, pairs, options, seed)


def mean_rank(heads, features):
    """Mean place of the right caption among all, 0 is the best."""
    projected = project(heads, features)
    cosine = projected.image @ projected.text.T
    return (cosine > cosine.diagonal()[:, None]).sum(axis=1).mean()


def test_untrained_heads_are_the_space_they_start_from(pairs):
    cca, given = pairs
    heads, middle = heads_from_cca(cca), len(RIDGES) // 2
    for mine, whole in ((heads.image, cca.image), (heads.text, cca.text)):
        piece = np.split(whole(given.features), len(RIDGES), axis=1)[middle]
        np.testing.assert_allclose(mine(given.features), piece * len(RIDGES) ** 0.5, atol=1e-5)


def test_heads_of_joint_towers_start_as_the_centred_towers():
    features = features_of(corpus(rows=120, joint_space=True)[0])
    adapter = fit_residual_adapter(features.raw_image, features.caption, np.ones(120, np.float32))
    start, unbent = heads_from_joint_space(adapter), replace(adapter, residual=0 * adapter.residual)
    np.testing.assert_allclose(start.text(features), unbent.text(features), atol=1e-6)
    np.testing.assert_allclose(start.image(features), unbent.image(features), atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_brings_images_nearer_to_their_captions(pairs, loss):
    cca, given = pairs
    start = heads_from_cca(cca)
    after = trained(start, given, replace(QUICK, loss=loss))
    assert mean_rank(after, given.features) < 0.8 * mean_rank(start, given.features)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_inputs_give_equal_bytes_whatever_torch_was_told_before(pairs, loss):
    cca, given = pairs
    options, made = replace(QUICK, loss=loss, epochs=1), []
    with torch_threads_restored():
        for threads in (1, 4):
            torch.set_num_threads(threads)
            made.append(train_heads(heads_from_cca(cca), given, options, (3, 1)))
    for name in ("image_map", "text_map", "image_bias", "text_bias"):
        assert getattr(made[0], name).tobytes() == getattr(made[1], name).tobytes()


def test_the_number_of_threads_is_as_it_was(pairs):
    cca, given = pairs
    threads = torch.get_num_threads()
    trained(heads_from_cca(cca), given, replace(QUICK, epochs=1))
    assert torch.get_num_threads() == threads


def test_what_is_believed_of_pairs_changes_what_is_learned(pairs):
    """Each paper's element is at work: smoothing, weights, margins; plain InfoNCE takes no notice."""
    cca, given = pairs
    doubted = np.linspace(0, 0.45, 300, dtype=np.float32)
    other = {
        "nitc": replace(given, noise_prob=doubted),
        "npc": replace(given, weight=1 - doubted),
        "dsdmr": replace(given, noise_prob=doubted),
        "infonce": replace(given, noise_prob=doubted, weight=1 - doubted),
    }
    for loss, believed in other.items():
        options = replace(QUICK, loss=loss, epochs=1)
        one, two = (trained(heads_from_cca(cca), each, options) for each in (given, believed))
        assert np.array_equal(one.image_map, two.image_map) == (loss == "infonce"), loss


def test_the_distribution_gap_drives_doubtful_pairs_away_from_the_others(pairs):
    cca, given = pairs
    doubtful = np.arange(300) % 2 == 0
    believed = replace(given, noise_prob=np.where(doubtful, 0.95, 0.05).astype(np.float32))

    def apart(**gap: float) -> float:
        heads = project(trained(heads_from_cca(cca), believed, replace(QUICK, loss="dsdmr", **gap)), given.features)
        own = (heads.image * heads.text).sum(axis=1)
        return float(own[~doubtful].mean() - own[doubtful].mean())

    assert apart(distribution_gap=1.0) > 2 * apart()


def test_copies_of_a_pair_are_no_negatives_of_each_other():
    """Of a corpus of copies of one pair nothing can be learned, and nothing is."""
    one = random_features(1, width=6)
    features = one.take(np.zeros(32, dtype=np.intp))
    others = random_features(50, width=6)
    moments = weighted_moments(others.image, others.text, np.ones(50, np.float32))
    start = heads_from_cca(fit_cca(moments, 4, 10.0))
    pairs = TrustedPairs(features, np.zeros(32, np.float32), np.ones(32, np.float32))
    for loss in ("nitc", "infonce", "dsdmr"):
        after = trained(start, pairs, replace(QUICK, loss=loss, batch=16))
        np.testing.assert_array_equal(after.image_map, start.image_map)


def test_memory_entries_are_the_nearest_certain_pairs_but_twins():
    angles = np.radians([0, 1, 30, 80, 170])
    circle = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    features = Features(
        image=circle,
        image_unit=circle,
        text=circle[::-1].copy(),
        raw_image=circle,
        caption=np.eye(5, dtype=np.float32),
        sketch=9 * np.eye(5, dtype=np.float32)[[0, 0, 2, 3, 4]],
    )
    pairs = TrustedPairs(features, np.array([0, 0, 0.05, 0.3, 0.0], np.float32), np.ones(5, np.float32))
    entries = memory_entries(pairs)
    # Pair 0: pair 1 has the same picture; pair 2 is the next. Pair 3 is not certain enough to be anyone's entry.
    assert entries[:, 0].tolist() == [2, 2, 1, 2, 2]
    assert 3 not in entries
    assert not (entries == np.arange(5)[:, None]).any()
    nobody = replace(pairs, noise_prob=np.full(5, 0.4, np.float32))
    assert (memory_entries(nobody) == -1).all()


def test_npc_without_a_certain_pair_still_learns(pairs):
    cca, given = pairs
    start = heads_from_cca(cca)
    doubtful = replace(given, noise_prob=np.full(300, 0.4, np.float32))
    assert mean_rank(trained(start, doubtful, replace(QUICK, loss="npc")), given.features) < mean_rank(
        start, given.features
    )


def test_a_last_batch_of_one_pair_is_left_out(pairs):
    cca, given = pairs
    odd = TrustedPairs(given.features.take(slice(0, 65)), given.noise_prob[:65], given.weight[:65])
    after = trained(heads_from_cca(cca), odd, replace(QUICK, loss="dsdmr"))
    assert np.isfinite(after.image_map).all()
