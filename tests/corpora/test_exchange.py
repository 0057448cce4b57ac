from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpora.exchange import NEAREST_COSINES, choose_mismatches
from curate.corpora.pairs import Pair
from curate.errors import CurateError, InputError

KINDS = ["random", "category", "nearest", "partial"]
THINGS = ["bus", "train", "dog", "cat", "bench", "table", "kite", "frisbee"]
PAIRS = [
    Pair(f"0.tar:{i}", f"a {colour} {thing} near a {place}", category=f"c{i % 3}")
    for i, (colour, thing, place) in enumerate(
        (colour, thing, place)
        for colour in ("red", "green", "blue", "white")
        for thing in THINGS
        for place in ("lake", "street", "house")
    )
]


def embeddings(number: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(number, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def choose(pairs=PAIRS, kind="random", rate=0.4, seed=0):
    return choose_mismatches(pairs, kind, rate, seed, embeddings(len(pairs)) if kind == "nearest" else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.1, 0.4, 0.7])
def test_the_rate_is_reached(kind, rate):
    assert choose(kind=kind, rate=rate).mismatched.sum() == pytest.approx(rate * len(PAIRS), abs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_rate_0_changes_nothing(kind):
    made = choose(kind=kind, rate=0)
    assert made.captions == tuple(pair.caption for pair in PAIRS)
    assert not made.mismatched.any()
    assert (made.partners == -1).all()
    assert (made.sources == np.arange(len(PAIRS))).all()
    assert made.word_changes == (None,) * len(PAIRS)


@pytest.mark.parametrize("kind", ["random", "category", "nearest"])
def test_captions_are_those_of_the_sources(kind):
    made = choose(kind=kind)
    assert sorted(made.sources) == list(range(len(PAIRS)))
    assert made.captions == tuple(PAIRS[source].caption for source in made.sources)
    assert (made.mismatched == (made.sources != np.arange(len(PAIRS)))).all()
    assert (made.mismatched == (made.partners >= 0)).all()
    assert (made.sources[made.mismatched] == made.partners[made.mismatched]).all()


def test_partial_keeps_every_pair_its_own_caption_but_for_a_word():
    made = choose(kind="partial")
    assert (made.sources == np.arange(len(PAIRS))).all()
    for i, (pair, caption, change) in enumerate(zip(PAIRS, made.captions, made.word_changes, strict=True)):
        assert made.mismatched[i] == (caption != pair.caption) == (change is not None) == (made.partners[i] >= 0)
        if change is not None:
            assert caption == pair.caption.replace(change.changed_from, change.changed_to)
            assert f" {change.changed_to} " in f" {PAIRS[made.partners[i]].caption} "


def test_category_stays_inside_and_leaves_pairs_without_one_alone():
    pairs = [Pair(pair.row_id, pair.caption, None if i % 4 == 0 else pair.category) for i, pair in enumerate(PAIRS)]
    made = choose(pairs, "category", 0.6)
    assert made.mismatched.any()
    for i, source in enumerate(made.sources):
        assert pairs[i].category == pairs[source].category
        assert source == i or pairs[i].category is not None


def test_nearest_takes_the_nearest_free_caption_in_the_interval():
    made = choose(kind="nearest", rate=0.3)
    cosines = embeddings(len(PAIRS)) @ embeddings(len(PAIRS)).T
    inside = np.where((cosines >= NEAREST_COSINES[0]) & (cosines <= NEAREST_COSINES[1]), cosines, -1)
    # What is free at the end was free all along: whoever of two partners chose the other had no nearer one.
    nearest_free = inside[:, ~made.mismatched].max(axis=1)
    for i in np.flatnonzero(made.mismatched):
        source = made.sources[i]
        assert inside[i, source] > 0
        assert inside[i, source] >= min(nearest_free[i], nearest_free[source])


def test_nearest_does_not_swap_captions_that_mean_the_same():
    pairs = [Pair(str(i), caption) for i, caption in enumerate(["A cat", "a cat ", "a dog", "A DOG"])]
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0.8, 0.6]], dtype=np.float32)
    made = choose_mismatches(pairs, "nearest", 0.9, 0, vectors)
    assert made.mismatched.all()
    assert {i // 2 for i in made.sources[:2]} == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_result_other_seed_another(kind):
    assert choose(kind=kind, seed=1).captions == choose(kind=kind, seed=1).captions
    assert choose(kind=kind, seed=1).captions != choose(kind=kind, seed=2).captions


def test_the_result_cannot_be_written_to():
    made = choose()
    with pytest.raises(ValueError, match="read-only"):
        made.mismatched[0] = True
    with pytest.raises(ValueError, match="read-only"):
        made.partners[0] = 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_handful_of_pairs_will_do(kind, number):
    assert len(choose(PAIRS[:number], kind, 0.5).captions) == number


@pytest.mark.parametrize("kind", ["random", "nearest", "partial"])
def test_no_pairs_give_no_mismatches(kind):
    assert choose([], kind, 0.5).captions == ()


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(InputError, match="rate is"):
        choose(rate=rate)


def test_what_a_kind_needs_is_asked_for():
    with pytest.raises(InputError, match="random, category, nearest, partial"):
        choose(kind="other")
    with pytest.raises(InputError, match="embeddings"):
        choose_mismatches(PAIRS, "nearest", 0.4)
    with pytest.raises(InputError, match="category"):
        choose([Pair("0.tar:0", "a"), Pair("0.tar:1", "b")], "category")


@pytest.mark.parametrize("wrong", [np.ones((3, 2)), np.full((96, 2), 3.0), np.full((96, 2), np.nan), np.ones(96)])
def test_wrong_embeddings_are_refused(wrong):
    with pytest.raises(CurateError, match="embeddings have"):
        choose_mismatches(PAIRS, "nearest", 0.4, 0, wrong)


CAPTION = st.sampled_from(["a", "A ", "b", "two dogs run", "three cats run", " a red bus", "A green bus\n"])


@settings(max_examples=150)
@given(
    captions=st.lists(CAPTION | st.text(max_size=4), min_size=1, max_size=30),
    kind=st.sampled_from(KINDS),
    rate=st.floats(0, 0.99),
    seed=st.integers(0, 5),
)
def test_mismatched_means_that_the_caption_says_something_else(captions, kind, rate, seed):
    pairs = [Pair(f"0.tar:{i}", caption, f"{i % 3}") for i, caption in enumerate(captions)]
    made = choose(pairs, kind, rate, seed)
    for i, pair in enumerate(pairs):
        assert made.mismatched[i] == (made.captions[i].strip().casefold() != pair.caption.strip().casefold())
        assert made.mismatched[i] or made.captions[i] == pair.caption
    if kind != "partial":
        assert Counter(made.captions) == Counter(captions)
    assert made.mismatched.sum() <= max(2, round(rate * len(pairs))) + 1
