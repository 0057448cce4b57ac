from __future__ import annotations

import numpy as np
import pytest

from curate.noise.osa import of_chunk, osa, shuffled_boundary
from curate.noise.references import map_compared
from tests.noise.synthetic import auroc
from tests.noise.test_references import assert_same_however_cut, chosen, mates, random_references, topical


def test_similarity_counts_from_the_boundary_up():
    batch = random_references(30)
    expected = [max(0.0, float(v @ t) - 0.4) for v, t in zip(batch.joint_image, batch.joint_text, strict=True)]
    score = osa(batch, 0.4)
    np.testing.assert_allclose(score, expected, atol=1e-6)
    assert 0 < (score == 0).sum() < 30


def test_the_best_pair_scores_best():
    """The released weight is zero for it."""
    batch = random_references(200)
    assert osa(batch, 0.0).argmax() == batch.similarity().argmax()


def test_boundary_is_the_mean_over_pairs_that_do_not_belong_together():
    references = random_references(40)
    references.sketch[3] = references.sketch[30]
    references.caption[4] = references.caption[31]
    cosines = [
        float(references.joint_image[i] @ references.joint_text[j])
        for i in range(40)
        for j in mates(references, references, i)
    ]
    assert len(cosines) <= 40 * 39 - 4
    assert shuffled_boundary(references) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_no_boundary_without_mismatches():
    references = random_references(40)
    assert shuffled_boundary(chosen(references, np.zeros(5, dtype=int))) == 0.0


def test_of_chunk_is_the_same_score_however_cut():
    def score(batch, references):
        shared = map_compared(lambda compared: of_chunk(compared, 0.1), batch, references)
        assert shared.tobytes() == osa(batch, 0.1).tobytes()
        return [shared]

    assert_same_however_cut(score)


def test_matching_pairs_score_higher():
    references, noisy = topical()
    assert auroc(noisy, -osa(references, shuffled_boundary(references))) > 0.9
