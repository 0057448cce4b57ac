"""The vote of similar images."""

import numpy as np

from curate.concepts.mentions import MentionTable
from curate.concepts.neighbour_vote import Voters, neighbour_vote
from curate.noise.similarity import half, unit_rows


def setting(voters=300, images=5, seed=0):
    rng = np.random.default_rng(seed)
    rows = half(unit_rows(rng.standard_normal((voters, 8)).astype(np.float32)))
    held = Voters(rows, half(rng.random(voters).astype(np.float32)), rng.random((voters, 2)) < 0.7)
    mentions = MentionTable.of([rng.choice(6, size=rng.integers(0, 3), replace=False).tolist() for _ in rows], 6)
    return unit_rows(rng.standard_normal((images, 8)).astype(np.float32)), held, mentions


def test_it_is_the_formula():
    image, voters, mentions = setting()
    weight, named = voters.of_fold(0), mentions.dense(slice(0, 6))
    found = neighbour_vote(image, voters, weight, mentions)
    for row, shares in zip(image, found, strict=True):
        cosine = np.where(weight > 0, voters.image @ row, -np.inf)
        nearest = np.argsort(-cosine)[:100]
        omega = weight[nearest] * np.exp((cosine[nearest] - 1) / 0.1)
        np.testing.assert_allclose(shares, omega @ named[nearest] / omega.sum(), rtol=1e-4, atol=1e-6)


def test_who_must_not_be_asked_has_no_say():
    image, voters, mentions = setting()
    asked = voters.trained[:, 1] & (voters.weight > 0)
    few = Voters(voters.image[asked], voters.weight[asked], voters.trained[asked])
    one = neighbour_vote(image, voters, voters.of_fold(1), mentions)
    two = neighbour_vote(image, few, few.of_fold(1), mentions.take(np.nonzero(asked)[0]))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_nobody_to_ask_is_no_vote():
    image, voters, mentions = setting(voters=20)
    assert (neighbour_vote(image, voters, np.zeros(20, np.float32), mentions) == 0).all()
