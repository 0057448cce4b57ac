"""Heads on frozen towers: they learn what the hints let them, and the development part chooses the epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curate.bench.paper.adapter import HeadOptions, Heads, batch_loss, head_trainer
from curate.bench.paper.retrieval import recalls
from curate.bench.paper.training import Embedded, Hints
from tests.noise.synthetic import unit

APART = HeadOptions(joint_space=False, dimensions=16, epochs=8, batch=100, learning_rate=3e-3)
JOINT = replace(APART, joint_space=True, temperature=0.05)


def part(images, seed, joint=False, captions=2, topics=6):
    """Images and captions that share a latent vector, under towers that never met or that nearly agree."""
    maps, rng = np.random.default_rng(9), np.random.default_rng(seed)
    to_image = maps.standard_normal((topics, 24))
    to_text = to_image + 0.8 * maps.standard_normal((topics, 24)) if joint else maps.standard_normal((topics, 20))
    latent, image_of = rng.standard_normal((images, topics)), np.repeat(np.arange(images), captions)
    image = latent @ to_image + 0.1 * rng.standard_normal((images, 24))
    text = latent[image_of] @ to_text + 0.1 * rng.standard_normal((len(image_of), to_text.shape[1]))
    return Embedded(unit(image).astype(np.float32), unit(text).astype(np.float32), image_of)


def all_rows(embedded, smoothing=0.0):
    count = len(embedded.image_of)
    return Hints(np.arange(count), np.full(count, smoothing, np.float32))


def total(project, test):
    return recalls(*project(test.image, test.text), test.image_of).total


def shuffled(embedded, share, seed=0):
    """Some captions given another's image; (the part, which are)."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(embedded.image_of))[: int(share * len(embedded.image_of))]
    given = embedded.image_of.copy()
    given[rows] = given[np.roll(rows, 1)]
    return replace(embedded, image_of=given), given != embedded.image_of


@pytest.mark.parametrize(("options", "gain"), [(APART, 300), (JOINT, 15)])
def test_heads_learn_what_the_towers_do_not_know(options, gain):
    train, dev, test = (part(images, seed, options.joint_space) for images, seed in ((200, 0), (40, 1), (80, 2)))
    nothing = head_trainer(replace(options, epochs=0))(train, all_rows(train), dev, 0)
    learned = head_trainer(options)(train, all_rows(train), dev, 0)
    assert total(learned, test) > total(nothing, test) + gain


def test_heads_of_joint_towers_start_as_the_towers_are():
    train, dev, test = part(50, 0, joint=True), part(20, 1, joint=True), part(30, 2, joint=True)
    image, text = head_trainer(replace(JOINT, epochs=0))(train, all_rows(train), dev, 0)(test.image, test.text)
    np.testing.assert_allclose(image, test.image, atol=1e-6)
    np.testing.assert_allclose(text, test.text, atol=1e-6)


def test_an_epoch_that_is_worse_on_the_development_part_does_not_count():
    train, dev = part(100, 0, joint=True), part(20, 1, joint=True)
    worse, _ = shuffled(train, 1.0)
    spoilt = head_trainer(replace(JOINT, learning_rate=1.0))(worse, all_rows(worse), dev, 0)
    assert total(spoilt, dev) >= total(lambda image, text: (image, text), dev)


def test_rows_left_out_and_rows_smoothed_do_less_harm():
    train, dev, test = part(200, 0), part(40, 1), part(80, 2)
    noisy, wrong = shuffled(train, 0.6)
    raw = head_trainer(APART)(noisy, all_rows(noisy), dev, 0)
    right = np.nonzero(~wrong)[0]
    kept = head_trainer(APART)(noisy, Hints(right, np.zeros(len(right), np.float32)), dev, 0)
    smoothed = head_trainer(APART)(noisy, Hints(np.arange(len(wrong)), 0.9 * wrong.astype(np.float32)), dev, 0)
    assert total(raw, test) + 10 < total(smoothed, test)
    assert total(raw, test) + 30 < total(kept, test)


def test_captions_of_one_image_are_no_negatives_of_each_other():
    train = part(30, 0, joint=True)
    heads = Heads(JOINT, 24, 24, torch.Generator())
    hints = all_rows(train)
    one_image, two_images = np.array([0, 1]), np.array([0, 2])
    assert train.image_of[:3].tolist() == [0, 0, 1]
    assert batch_loss(heads, 0.05, train, hints, one_image).item() == 0
    assert batch_loss(heads, 0.05, train, hints, two_images).item() > 0


def test_the_seed_alone_decides():
    train, dev, test = part(60, 0), part(20, 1), part(30, 2)
    one, again, other = (head_trainer(APART)(train, all_rows(train), dev, seed) for seed in (0, 0, 1))
    made = [project(test.image, test.text)[0].tobytes() for project in (one, again, other)]
    assert made[0] == made[1] != made[2]
