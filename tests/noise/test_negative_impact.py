from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.negative_impact import confidence_weight, fit_memory_bank, negative_impact
from tests.noise.synthetic import auroc
from tests.noise.test_references import (
    assert_same_however_cut,
    chosen,
    mates,
    random_references,
    topical,
    with_twins,
)

TAU = 0.3


def loss(head, batch, references, row):
    """1/2 (CE_i2t + CE_t2i) of a pair among the references that are no twins, under s = v (I + W) t / tau."""
    near = mates(batch, references, row)
    v, t = batch.joint_image[row].astype(float), batch.joint_text[row].astype(float)
    form = np.eye(len(v)) + head
    own = v @ form @ t / TAU
    to_texts = [own, *(v @ form @ references.joint_text[j] / TAU for j in near)]
    to_images = [own, *(references.joint_image[j] @ form @ t / TAU for j in near)]
    return sum(np.log(np.exp(scores).sum()) - own for scores in (to_texts, to_images)) / 2


def gradient(batch, references, row, width=4, h=1e-5):
    """By central finite differences over all entries of the head."""
    slope = np.empty((width, width))
    for entry in np.ndindex(width, width):
        head = np.zeros((width, width))
        head[entry] = h
        slope[entry] = (loss(head, batch, references, row) - loss(-head, batch, references, row)) / (2 * h)
    return slope


def slow_memory(batch, references, row, threshold=0.5):
    """Nearest certainly clean pair by image and by text."""
    certain = [j for j in mates(batch, references, row) if references.weight[j] > threshold]
    by_image = max(certain, key=lambda j: batch.image[row] @ references.image[j])
    by_text = max(certain, key=lambda j: batch.text[row] @ references.text[j])
    return by_image, by_text


def small():
    references = random_references(20, width=4)
    return with_twins(references), references


def test_ratio_is_the_first_order_effect_by_finite_differences():
    batch, references = small()
    impact = negative_impact(batch, references, fit_memory_bank(references, TAU, 0.5), step=0.1)
    for i in range(len(batch)):
        entries = slow_memory(batch, references, i)
        assert (impact.memory_image[i], impact.memory_text[i]) == entries
        mine = gradient(batch, references, i)
        ratios = []
        for c in entries:
            before = loss(np.zeros((4, 4)), references, references, c)
            gain = 0.1 * TAU**2 * (mine * gradient(references, references, c)).sum()
            ratios.append(before / (before - gain))
        assert impact.ratio[i] == pytest.approx(np.mean(ratios), rel=1e-4)


def test_ratio_is_what_a_small_step_does_to_the_memory_entries():
    batch, references = small()
    step = 1e-3
    impact = negative_impact(batch, references, fit_memory_bank(references, TAU, 0.5), step)
    for i in range(len(batch)):
        learnt = -step * TAU**2 * gradient(batch, references, i)
        ratios = [
            loss(np.zeros((4, 4)), references, references, c) / loss(learnt, references, references, c)
            for c in slow_memory(batch, references, i)
        ]
        assert impact.ratio[i] - 1 == pytest.approx(np.mean(ratios) - 1, rel=0.05, abs=3e-7)


def test_memory_holds_losses_of_certain_references_only():
    _, references = small()
    memory = fit_memory_bank(references, TAU, 0.5)
    assert memory.position.tolist() == [j for j in range(20) if references.weight[j] > 0.5]
    expected = [loss(np.zeros((4, 4)), references, references, j) for j in memory.position]
    np.testing.assert_allclose(memory.loss, expected, rtol=1e-5)


def test_weight_is_tanh_below_one():
    batch, references = random_references(300, seed=1), random_references(60)
    impact = negative_impact(batch, references, fit_memory_bank(references, TAU, 0.5))
    harmful = impact.ratio < 1
    assert 20 < harmful.sum() < 280
    np.testing.assert_allclose(impact.weight[harmful], np.tanh(impact.ratio[harmful]), rtol=1e-6)
    assert (impact.weight[~harmful] == 1).all()
    assert impact.weight.min() >= 0.61
    assert impact.weight[harmful].max() < 0.77


def test_only_harmful_pairs_weigh_less():
    weight = confidence_weight(np.array([0, 0.5, 0.999, 1, 7], np.float32))
    np.testing.assert_allclose(weight, [0, np.tanh(0.5), np.tanh(0.999), 1, 1], rtol=1e-6)


@pytest.mark.parametrize("tau", [0.001, 0.01, 0.1, 1.0, 100.0])
def test_the_largest_step_keeps_the_ratio_within_its_bounds(tau):
    batch, references = random_references(300, seed=1), random_references(60)
    impact = negative_impact(batch, references, fit_memory_bank(references, tau, 0.2), step=0.2)
    assert np.isfinite(impact.ratio).all()
    assert impact.ratio.min() >= 1 / 1.8 - 1e-5
    assert impact.ratio.max() <= 1 / 0.2 + 1e-5


def test_a_pair_that_a_certain_neighbour_contradicts_is_harmful_and_one_it_confirms_is_not():
    references, _ = topical(mismatched=0.0)
    references = replace(references, weight=np.ones(len(references), np.float32))
    memory = fit_memory_bank(references, TAU)
    images, opposite = references.image[:50], -references.image[:50]
    right = replace(references.take(slice(0, 50)), text=images, joint_text=images)
    wrong = replace(right, text=opposite, joint_text=opposite)
    ratios = [negative_impact(batch, references, memory).ratio for batch in (right, wrong)]
    assert (ratios[0] > 1).mean() > 0.9
    assert (ratios[1] < 1).mean() > 0.9


def test_a_pair_in_the_memory_is_not_compared_with_itself():
    references = random_references(60)
    pair = references.take(np.array([0]))
    certain = replace(references, weight=np.ones(60, np.float32))
    more, others = chosen(certain, np.r_[0, 0:60]), chosen(certain, np.arange(1, 60))
    with_itself = negative_impact(pair, more, fit_memory_bank(more, TAU))
    without = negative_impact(pair, others, fit_memory_bank(others, TAU))
    assert with_itself.memory_image[0] - 2 == without.memory_image[0]
    assert with_itself.memory_text[0] - 2 == without.memory_text[0]


def test_without_memory_nothing_is_said():
    batch, references = small()
    for positions, threshold in [(np.arange(20), 1.0), (np.array([3, 3]), 0.0)]:
        few = chosen(references, positions)
        impact = negative_impact(batch.take(np.array([3])), few, fit_memory_bank(few, TAU, threshold))
        assert impact.ratio.tolist() == impact.weight.tolist() == [1]
        assert impact.memory_image.tolist() == impact.memory_text.tolist() == [-1]


def test_does_not_depend_on_the_rows_beside():
    def score(batch, references):
        # An absurd step, so that the last bit of a gradient shows in the ratio.
        impact = negative_impact(batch, references, fit_memory_bank(references, 0.3, 0.6), step=50.0)
        return [impact.ratio, impact.weight, impact.memory_image, impact.memory_text]

    assert_same_however_cut(score)


def test_matching_pairs_have_a_higher_ratio():
    references, noisy = topical()
    impact = negative_impact(references, references, fit_memory_bank(references, TAU))
    assert auroc(noisy, -impact.ratio) > 0.75
    assert auroc(noisy, -impact.weight) > 0.7
