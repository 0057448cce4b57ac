from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.noise.neighbours import neighbour_disagreement, weighted_neighbour_disagreement
from tests.noise.synthetic import auroc
from tests.noise.test_references import (
    assert_same_however_cut,
    chosen,
    mates,
    random_references,
    topical,
    with_twins,
)

BOTH = pytest.mark.parametrize("score", [neighbour_disagreement, weighted_neighbour_disagreement])


def lemon_mean(cosines, distances, agreement, weight):
    terms = [
        np.exp(-0.1 * -c) * np.exp(-5 * (1 - a)) * d for c, d, a in zip(cosines, distances, agreement, strict=True)
    ]
    return sum(terms) / len(terms)


def clean_mean(cosines, distances, agreement, weight):
    omega = [w * np.exp(c / 0.1) for w, c in zip(weight, cosines, strict=True)]
    return sum(o * d for o, d in zip(omega, distances, strict=True)) / sum(omega)


def slow_disagreement(batch, references, mean, beta):
    scores = []
    for i in range(len(batch)):
        near = mates(batch, references, i)
        image = {j: float(batch.image[i] @ references.image[j]) for j in near}
        text = {j: float(batch.text[i] @ references.text[j]) for j in near}
        score = 1 - float(batch.joint_image[i] @ batch.joint_text[i])
        for mine, other in ((image, text), (text, image)):
            nearest = sorted(near, key=lambda j: -mine[j])[:30]
            score += beta * mean(
                [mine[j] for j in nearest],
                [1 - other[j] for j in nearest],
                references.agreement[nearest],
                references.weight[nearest],
            )
        scores.append(score)
    return scores


@pytest.mark.parametrize("size", [15, 32, 80])
def test_agrees_with_lemon_in_slow_loops(size):
    references = random_references(size)
    batch = with_twins(references)
    expected = slow_disagreement(batch, references, lemon_mean, 5)
    np.testing.assert_allclose(neighbour_disagreement(batch, references), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [15, 32, 80])
def test_weighted_agrees_with_slow_loops(size):
    references = random_references(size)
    batch = with_twins(references)
    expected = slow_disagreement(batch, references, clean_mean, 0.2)
    np.testing.assert_allclose(weighted_neighbour_disagreement(batch, references), expected, rtol=1e-5)


@BOTH
def test_a_pair_in_the_references_does_not_vouch_for_itself(score):
    references = random_references(80)
    pair = references.take(np.array([0]))
    more = chosen(references, np.r_[0, 0, 0:80])
    others = chosen(references, np.arange(1, 80))
    assert score(pair, more)[0] == pytest.approx(score(pair, others)[0], rel=1e-6)


@BOTH
def test_without_neighbours_the_pairs_own_distance_is_left(score):
    references = random_references(80)
    pair = references.take(np.array([4]))
    assert score(pair, chosen(references, np.array([4, 4])))[0] == pytest.approx(1 - references.agreement[4])


def test_clean_neighbours_count_and_others_do_not():
    references = random_references(60)
    batch = random_references(9, seed=1)
    weight = (np.arange(60) < 20).astype(np.float32)
    trusting = replace(references, weight=weight)
    score = weighted_neighbour_disagreement(batch, trusting)
    for i in range(len(batch)):
        part = 0.0
        for mine, other in (("image", "text"), ("text", "image")):
            cosines = getattr(references, mine) @ getattr(batch, mine)[i]
            clean = [j for j in np.argsort(-cosines)[:30] if j < 20]
            distances = 1 - getattr(references, other)[clean] @ getattr(batch, other)[i]
            part += np.average(distances, weights=np.exp(cosines[clean] / 0.1))
        own = 1 - float(batch.joint_image[i] @ batch.joint_text[i])
        # What others weigh is a millionth, times at most e^(2 / .1) for closeness.
        assert score[i] == pytest.approx(own + 0.2 * part, abs=2e-3)


def test_when_no_neighbour_is_clean_all_count_alike():
    references = random_references(60)
    batch = random_references(9, seed=1)
    none, all_of_them = (replace(references, weight=np.full(60, w, np.float32)) for w in (0, 1))
    np.testing.assert_allclose(
        weighted_neighbour_disagreement(batch, none), weighted_neighbour_disagreement(batch, all_of_them), rtol=1e-6
    )


def test_lemon_knows_no_weights():
    references = random_references(60)
    batch = random_references(9, seed=1)
    unknown = replace(references, weight=np.zeros(60, np.float32))
    assert (neighbour_disagreement(batch, references) == neighbour_disagreement(batch, unknown)).all()


@BOTH
def test_does_not_depend_on_the_rows_beside(score):
    assert_same_however_cut(lambda batch, references: [score(batch, references)])


@BOTH
def test_mismatched_pairs_score_higher(score):
    references, noisy = topical()
    assert auroc(noisy, score(references, references)) > 0.85


@BOTH
def test_neighbours_tell_mismatches_without_the_pairs_own_similarity(score):
    references, noisy = topical()
    blind = replace(references, joint_image=np.zeros_like(references.joint_image))
    assert auroc(noisy, score(blind, references)) > 0.75
