"""Lengths and words of captions, and what completion added."""

import numpy as np

from curate.report.captions import caption_figures, words_added, words_of
from curate.report.findings import Sample


def test_words_are_counted_without_marks_and_in_one_case():
    assert words_of('The dog, "the" cat: 3 dogs!') == ["the", "dog", "the", "cat", "3", "dogs"]
    found = caption_figures(["A dog.", "a cat and a dog", ""])
    assert found.lengths.tolist() == [2, 5, 0]
    assert (found.captions, found.words, found.vocabulary, found.once) == (3, 7, 4, 2)
    assert found.quartiles == (0, 1, 2, 3.5, 5)


def test_without_captions_there_is_nothing_to_say():
    found = caption_figures([])
    assert found.captions == found.words == 0
    assert np.isnan(found.quartiles).all()


def test_words_that_completion_added_count_once_a_pair():
    before = ("a red ball", "nice", "a cat")
    after = ("a red ball | a ball and a dog and another dog", "a dog", "a cat")
    sample = Sample(np.zeros(3), {}, before, after, ())
    assert words_added(sample, 2) == [("dog", 2), ("another", 1)]
    assert words_added(Sample(np.zeros(3), {}, before, None, ()), 2) == []
