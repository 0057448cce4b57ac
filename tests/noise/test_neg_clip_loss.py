from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curate.noise.neg_clip_loss import draw_batches, neg_clip_loss
from tests.noise.synthetic import auroc
from tests.noise.test_references import (
    assert_same_however_cut,
    chosen,
    mates,
    random_references,
    topical,
    with_twins,
)


def slow_neg_clip_loss(batch, references, batches, tau):
    scores = []
    for i in range(len(batch)):
        near = mates(batch, references, i)
        own = float(batch.joint_image[i] @ batch.joint_text[i])
        scores_in_batches = []
        for members in batches:
            others = [j for j in members if j in near]
            to_texts = [own, *(float(batch.joint_image[i] @ references.joint_text[j]) for j in others)]
            to_images = [own, *(float(batch.joint_text[i] @ references.joint_image[j]) for j in others)]
            sums = [np.log(np.exp(np.array(s) / tau).sum()) for s in (to_texts, to_images)]
            scores_in_batches.append(own - tau / 2 * sum(sums))
        scores.append(np.mean(scores_in_batches))
    return scores


@pytest.mark.parametrize("tau", [0.01, 0.07, 1.0])
def test_agrees_with_a_slow_reference(tau):
    references = random_references(40)
    batch = with_twins(references)
    batches = draw_batches(40, 4, 15, np.random.default_rng(0))
    score = neg_clip_loss(batch, references, batches, tau)
    np.testing.assert_allclose(score, slow_neg_clip_loss(batch, references, batches, tau), atol=2e-6)
    assert (score <= 0).all()


def test_is_the_negative_clip_loss_of_a_training_batch():
    references = random_references(20)
    batches = draw_batches(20, 1, 20, np.random.default_rng(0))
    logits = torch.from_numpy(references.joint_image @ references.joint_text.T) / 0.07
    own = torch.arange(20)
    loss = sum(torch.nn.functional.cross_entropy(s, own, reduction="none") for s in (logits, logits.T)) / 2
    np.testing.assert_allclose(neg_clip_loss(references, references, batches, 0.07), -0.07 * loss.numpy(), atol=1e-6)


def test_twins_are_no_negatives():
    references = random_references(20)
    pair = references.take(np.array([3]))
    more = chosen(references, np.r_[0:20, 3, 3])
    few, many = (draw_batches(n, 1, n, np.random.default_rng(0)) for n in (20, 22))
    assert neg_clip_loss(pair, more, many, 0.07)[0] == pytest.approx(
        neg_clip_loss(pair, references, few, 0.07)[0], abs=1e-6
    )


def test_only_twins_cost_nothing():
    references = random_references(20)
    alone = chosen(references, np.array([3, 3]))
    batches = draw_batches(2, 3, 1, np.random.default_rng(0))
    assert neg_clip_loss(references.take(np.array([3])), alone, batches)[0] == pytest.approx(0, abs=1e-7)


def test_an_opposite_pair_stays_finite():
    """At tau = .01 its own term, e^-200 of the largest, underflows."""
    references = random_references(20)
    batch = references.take(np.array([0]))
    opposite = replace(batch, joint_image=references.joint_image[5:6], joint_text=-references.joint_image[5:6])
    batches = draw_batches(20, 5, 1, np.random.default_rng(0))
    score = neg_clip_loss(opposite, references, batches, 0.01)
    assert np.isfinite(score).all()
    assert -3 < score[0] < -0.5


def test_batches_are_a_draw_without_repetition():
    drawn, again, other = (draw_batches(50, 6, 20, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert drawn.dtype == np.int32
    assert drawn.shape == (6, 20)
    assert all(len(set(batch)) == 20 and min(batch) >= 0 and max(batch) < 50 for batch in drawn.tolist())
    assert len({tuple(batch) for batch in drawn.tolist()}) == 6
    assert (drawn == again).all()
    assert not (drawn == other).all()
    assert draw_batches(5, 2, 20, np.random.default_rng(0)).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_does_not_depend_on_the_rows_beside():
    batches = draw_batches(301, 10, 170, np.random.default_rng(0))
    assert_same_however_cut(lambda batch, references: [neg_clip_loss(batch, references, batches, 0.3)])


def test_matching_pairs_score_higher():
    references, noisy = topical()
    batches = draw_batches(len(references), 5, 200, np.random.default_rng(0))
    assert auroc(noisy, -neg_clip_loss(references, references, batches, 0.07)) > 0.9
