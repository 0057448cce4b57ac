from __future__ import annotations

import numpy as np

from curate.completion.bank import CaptionBank, nearest
from curate.completion.consensus import consensus_rows, nearest_rows
from curate.completion.mbr import Pool, minimum_risk


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def bank(rows=40, seed=0, trust=None) -> CaptionBank:
    rng = np.random.default_rng(seed)
    captions = tuple(f"caption {row % 30}" for row in range(rows))
    image, text = unit(rng.standard_normal((rows, 8))), unit(rng.standard_normal((rows, 5)))
    return CaptionBank(captions, image, text, np.ones(rows, np.float32) if trust is None else trust)


def test_nearest_are_those_of_a_full_sort_best_first():
    held, image = bank(), unit(np.random.default_rng(1).standard_normal((70, 8)))
    found = nearest(held, image, 7)
    np.testing.assert_array_equal(found.rows, np.argsort(-(image @ held.image.T), axis=1)[:, :7])
    np.testing.assert_allclose(found.weight.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(found.cosine, axis=1) <= 0).all()


def test_neighbours_do_not_depend_on_the_rows_beside():
    held, image = bank(), unit(np.random.default_rng(1).standard_normal((70, 8)))
    whole, part = nearest(held, image, 7), nearest(held, image[60:63], 7)
    assert part.weight.tobytes() == whole.weight[60:63].tobytes()
    assert part.rows.tobytes() == whole.rows[60:63].tobytes()


def test_the_same_picture_does_not_vouch_for_itself():
    held = bank()
    assert (nearest(held, held.image, 3).rows[:, 0] == np.arange(40)).all()
    assert not (nearest(held, held.image, 3, others_only=True).rows == np.arange(40)[:, None]).any()


def test_distrusted_pairs_weigh_nothing():
    trust = np.ones(40, np.float32)
    trust[:20] = 0
    found = nearest(bank(trust=trust), bank().image, 10)
    assert found.weight[found.rows < 20].sum() == 0


def test_captions_add_up_equal_ones():
    held = bank()
    captions = nearest(held, held.image, 40).captions(held, 0)
    assert len(captions) == 30
    np.testing.assert_allclose(sum(weight for _, weight in captions), 1, rtol=1e-5)


def test_a_bank_smaller_than_asked_for_gives_all_it_has():
    assert nearest(bank(rows=3), bank().image, 30).rows.shape == (40, 3)


def test_consensus_is_what_most_neighbours_say_and_nearest_is_the_first():
    image = unit(np.array([[1, 0.0], [1, 0.1], [1, 0.11], [1, 0.12]]))
    text = unit(np.array([[0, 0, 1.0], [1, 0, 0], [1, 0.1, 0], [1, -0.1, 0]]))
    held = CaptionBank(("odd", "a", "b", "c"), image, text, np.ones(4, np.float32))
    found = nearest(held, image[:1], 4)
    assert nearest_rows(found).tolist() == [0]
    assert consensus_rows(held, found).tolist() == [1]


def pool(text, support, merit=None, shared=None) -> Pool:
    count = len(support)
    captions = [f"caption {row}" for row in range(count)]
    nothing = np.zeros(count, np.float32) if merit is None else np.array(merit, np.float32)
    alike = np.zeros((count, count), np.float32) if shared is None else np.array(shared, np.float32)
    return Pool(captions, unit(np.array(text)), alike, np.array(support, np.float32), nothing)


def test_minimum_risk_is_the_candidate_nearest_to_the_others_unless_its_merit_says_otherwise():
    text = [[1, 0.0], [1, 0.1], [0, 1.0]]
    assert minimum_risk(pool(text, [1, 1, 1]), 0.0, 0.0) == 1
    assert minimum_risk(pool(text, [1, 1, 1], merit=[0, 0, 1]), 0.0, 0.0) == 2


def test_a_candidate_is_its_own_witness_only_as_far_as_asked():
    loud = pool([[0, 0, 1.0], [1, 0, 0], [1, 0.1, 0], [1, -0.1, 0]], [0.7, 0.1, 0.1, 0.1])
    assert minimum_risk(loud, 0.0, 0.0) != 0
    assert minimum_risk(loud, 0.0, 1.0) == 0


def test_shared_words_count_by_their_share():
    words = np.zeros((3, 3))
    words[2, :2] = 1
    held = pool([[1, 0.0], [1, 0.1], [0, 1.0]], [1, 1, 1], shared=words)
    assert minimum_risk(held, 0.2, 0.0) == 1
    assert minimum_risk(held, 1.0, 0.0) == 2


def test_occurrences_in_the_bank():
    assert bank().occurrences("caption 3") == 2
    assert bank().occurrences("caption 20") == 1
    assert bank().occurrences("never heard of") == 1
