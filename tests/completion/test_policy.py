from __future__ import annotations

import numpy as np
import pytest

from curate.completion.policy import Policy, Proposal, acceptance_threshold, accepted, complete
from curate.errors import InputError


def proposal(original, synthetic, original_score, synthetic_score, noise_prob) -> Proposal:
    scores = (np.array(held, np.float32) for held in (original_score, synthetic_score, noise_prob))
    return Proposal(original, synthetic, *scores)


ROWS = proposal(
    ["wrong", "fair", "right", ""], ["s1", "s2", "s3", "s4"],
    [-1.0, 2.9, 4.0, -np.inf], [3.0, 3.0, 3.5, 1.0], [0.9, 0.6, 0.5, 1.0],
)  # fmt: skip


def test_a_caption_is_accepted_if_it_beats_the_original_and_what_trusted_pairs_reach():
    assert accepted(ROWS, 2.0, Policy(margin=0.5)).tolist() == [True, False, False, False]
    assert accepted(ROWS, 0.5, Policy(margin=0.0)).tolist() == [True, True, False, True]
    assert accepted(ROWS, 3.2, Policy(margin=0.0)).tolist() == [False] * 4


def test_replace():
    done = complete(ROWS, 0.5, Policy(mode="replace", margin=0.0))
    assert done.caption == ["s1", "s2", "right", "s4"]
    assert done.source == ["synthetic", "synthetic", "original", "synthetic"]
    np.testing.assert_allclose(done.p_use_synthetic, [0.9, 0.6, 0.0, 1.0])


def test_append_keeps_the_original_where_there_is_one():
    done = complete(ROWS, 0.5, Policy(mode="append", margin=0.0))
    assert done.caption == ["wrong | s1", "fair | s2", "right", "s4"]
    assert done.source == ["merged", "merged", "original", "synthetic"]


def test_both_appends_to_the_uncertain_and_replaces_the_noisy():
    assert complete(ROWS, 0.5, Policy(mode="both", margin=0.0)).source == [
        "synthetic", "merged", "original", "synthetic",
    ]  # fmt: skip


def test_append_of_nothing_new_is_the_original():
    rows = proposal(["a red ball"], ["red ball"], [0.0], [3.0], [0.9])
    done = complete(rows, 0.5, Policy(mode="append"))
    assert (done.caption, done.source, done.p_use_synthetic.tolist()) == (["a red ball"], ["original"], [0.0])


def test_threshold_is_the_quantile_of_trusted_pairs():
    assert acceptance_threshold(np.arange(5, dtype=np.float32), 0.25) == 1.0


@pytest.mark.parametrize("wrong", [{"mode": "x"}, {"accept_quantile": 1.5}, {"margin": -1}, {"replace_above": 2}])
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=f"caption.{next(iter(wrong))}"):
        Policy(**wrong)
