from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.noise.topology import topology
from tests.noise.synthetic import auroc
from tests.noise.test_references import (
    assert_same_however_cut,
    chosen,
    mates,
    random_references,
    topical,
    with_twins,
)


def slow_topology(batch, references):
    scores = []
    for i in range(len(batch)):
        near = mates(batch, references, i)
        image = [references.weight[j] / (1 + np.exp(-float(batch.image[i] @ references.image[j]))) for j in near]
        text = [references.weight[j] / (1 + np.exp(-float(batch.text[i] @ references.text[j]))) for j in near]
        scores.append(np.dot(image, text) / np.sqrt(np.dot(image, image) * np.dot(text, text)))
    return scores


def test_agrees_with_a_slow_reference():
    references = random_references(40)
    batch = with_twins(references)
    np.testing.assert_allclose(topology(batch, references), slow_topology(batch, references), rtol=2e-6)


def test_range():
    """Worst case: the image equals one reference and opposes the other, the caption the other way round."""
    references = random_references(2)
    axis = np.eye(6, dtype=np.float32)[:1]
    opposite = np.concatenate([axis, -axis])
    references = replace(references, image=opposite, text=opposite, weight=np.ones(2, np.float32))
    batch = random_references(1, seed=1)
    worst = topology(replace(batch, image=axis, text=-axis), references)[0]
    best = topology(replace(batch, image=axis, text=axis), references)[0]
    assert 0.64 < worst < 0.66
    assert 1 - 1e-6 < best <= 1 + 1e-6


def test_a_pair_in_the_references_does_not_vouch_for_itself():
    references = random_references(40)
    pair = references.take(np.array([0]))
    more = chosen(references, np.r_[0, 0, 0:40])
    np.testing.assert_allclose(topology(pair, more), topology(pair, chosen(references, np.arange(1, 40))), rtol=1e-6)


def test_mismatched_references_take_no_part():
    references = random_references(40)
    batch = random_references(9, seed=1)
    weight = np.where(np.arange(40) < 25, 1, 0).astype(np.float32)
    trusted = replace(references, weight=weight)
    alone = chosen(trusted, np.arange(25))
    np.testing.assert_allclose(topology(batch, trusted), topology(batch, alone), rtol=1e-6)


def test_nothing_to_compare_with_is_zero():
    references = random_references(40)
    batch = random_references(3, seed=1)
    assert (topology(batch, replace(references, weight=np.zeros(40, np.float32))) == 0).all()
    assert topology(references.take(np.array([4])), chosen(references, np.array([4]))).tolist() == [0]


def test_does_not_depend_on_the_rows_beside():
    assert_same_however_cut(lambda batch, references: [topology(batch, references)])


def test_matching_pairs_score_higher():
    references, noisy = topical()
    assert auroc(noisy, -topology(references, references)) > 0.8
