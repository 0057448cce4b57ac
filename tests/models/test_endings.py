from __future__ import annotations

import numpy as np
import torch

from curate.models.endings import Endings, fit_endings
from curate.models.words import END, SPECIAL, START, Words, fit_words

CAPTIONS = (
    *(f"a dog by a {thing}." for thing in ("tree", "house", "boat") * 20),
    *(f"a red, {thing}" for thing in ("tree", "house", "boat") * 20),
    *["letter a"] * 5,
)
WORDS = fit_words(CAPTIONS, least=1, most=100)


def fitted(captions=CAPTIONS) -> Endings:
    ids = [WORDS.encode(caption, None) for caption in captions]
    return fit_endings(ids, np.ones(len(ids), np.float32), WORDS)


def ids(text: str, words: Words = WORDS) -> list[int]:
    return words.encode(text, None)


def may_end(text: str, endings: Endings) -> bool:
    row = [START, *ids(text)]
    return bool(endings.after(torch.tensor(row[-2:-1]), torch.tensor(row[-1:])))


def test_a_caption_ends_where_training_captions_do():
    endings = fitted()
    assert may_end("a tree", endings)
    assert may_end("a house.", endings)
    assert not may_end("a dog by", endings)
    assert not may_end("a red,", endings)


def test_the_word_before_decides_where_it_is_known():
    endings = fitted()
    assert may_end("letter a", endings)
    assert not may_end("by a", endings)
    assert may_end("red tree", endings)


def test_what_is_seldom_seen_is_not_forbidden():
    words = fit_words([*CAPTIONS, "zebra crossing"], least=1, most=100)
    rows = [words.encode(caption, None) for caption in (*CAPTIONS, "zebra crossing")]
    endings = fit_endings(rows, np.ones(len(rows), np.float32), words)
    assert endings.last[ids("zebra", words)[0]]


def test_pairs_of_no_weight_teach_nothing():
    rows = [ids(caption) for caption in (*CAPTIONS, *["a dog by"] * 50)]
    weights = np.array([1.0] * len(CAPTIONS) + [0.0] * 50, np.float32)
    assert not may_end("a dog by", fit_endings(rows, weights, WORDS))


def test_end_and_closing_marks_are_forbidden_together_and_other_marks_are_not():
    endings, width = fitted(), len(WORDS)
    stop, comma = ids("tree.")[-1], ids("red,")[-1]
    scores = torch.zeros(2, width)
    before, word = torch.tensor([ids("by a"), ids("a tree")]).T
    endings.forbid(scores, before, word, -9.0)
    assert scores[0, [END, stop]].tolist() == [-9, -9]
    assert scores[0].sum() == -18
    assert comma not in endings.marks
    assert (scores[1] == 0).all()


def test_cut_goes_back_to_the_last_possible_end():
    endings = fitted()
    assert endings.cut(ids("a dog by a tree by a")) == ids("a dog by a tree")
    assert endings.cut(ids("by a by a")) == ids("by a by a")


def test_tensors_round_trip():
    endings = fitted()
    again = Endings.from_tensors(endings.to_tensors())
    pairs = torch.cartesian_prod(torch.arange(len(WORDS)), torch.arange(SPECIAL, len(WORDS)))
    assert torch.equal(again.after(*pairs.T), endings.after(*pairs.T))
