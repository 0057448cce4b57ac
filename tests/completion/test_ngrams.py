from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.bench.caption_metrics import cider_d
from curate.completion.ngrams import fit_ngrams

TRUE = ["a red ball on the grass", "two cats", "a dog and a cat on the grass", "the old house"]


def test_it_is_the_metric_that_captions_are_judged_by():
    likeness = fit_ngrams(TRUE)(TRUE)
    for shift in range(4):
        written = TRUE[shift:] + TRUE[:shift]
        expected = cider_d(written, TRUE) / 10
        np.testing.assert_allclose([likeness[(row + shift) % 4, row] for row in range(4)], expected, rtol=1e-5)


def test_common_words_count_little_and_case_and_marks_nothing():
    likeness = fit_ngrams(["a dog", "a cat", "a boat", "two dogs"])
    alike = likeness(["a dog", "a boat", "A dog."])
    assert alike[0, 1] < 0.1
    assert alike[0, 2] == pytest.approx(0.5)


def test_scripts_without_spaces_share_signs():
    likeness = fit_ngrams(["猫の絵", "犬の絵", "赤い花"])
    assert likeness(["猫の絵", "犬の絵"])[0, 1] > 0


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_any_captions_are_alike_between_nothing_and_all(captions):
    alike = fit_ngrams(captions)(captions)
    assert alike.shape == (len(captions),) * 2
    assert ((alike >= 0) & (alike <= 1.0001)).all()
