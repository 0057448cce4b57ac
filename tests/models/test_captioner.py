from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from curate.errors import InputError, NothingToLearnError
from curate.models.captioner import (
    META_FILE,
    NETWORK_FILE,
    Captioner,
    CaptionerOptions,
    CaptionRows,
    Sampling,
    fit_captioner,
    sampling_weights,
)
from curate.models.captioner_networks import Architecture
from curate.models.words import tokens_of

SAID = ("a red ball", "two green trees", "the old grey house")
NAMES = ("ball", "tree", "house")


def rows(count: int, seed: int = 0) -> tuple[CaptionRows, list[str]]:
    """Pictures of three kinds, with what they show."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    image = (np.eye(3, 6)[kind] + 0.1 * rng.standard_normal((count, 6))).astype(np.float32)
    concepts = [[(NAMES[k], 0.9)] for k in kind]
    return CaptionRows(image, concepts, [[(SAID[k], 1.0)] for k in kind]), [SAID[k] for k in kind]


def options(architecture: Architecture = "gru", steps: int = 30) -> CaptionerOptions:
    return CaptionerOptions(
        architecture=architecture, width=32, layers=2, heads=2, members=2, epochs=1, least_steps=steps,
        least_count=1, longest=6, dropout=0.1, learning_rate=2e-3, frequency_power=0.0,
    )  # fmt: skip


def fitted(architecture: Architecture = "gru", steps: int = 30, seed: int = 0) -> Captioner:
    given, captions = rows(48)
    return fit_captioner(given, captions, np.ones(48, np.float32), options(architecture, steps), seed)


@pytest.fixture(scope="module")
def gru() -> Captioner:
    return fitted()


KEYS = np.arange(100, 112, dtype=np.uint64)


@pytest.mark.parametrize("architecture", ["gru", "transformer"])
def test_learns_to_say_what_pictures_show(architecture: Architecture):
    given, captions = rows(12, seed=1)
    captioner = fitted(architecture, steps=60)
    assert captioner.greedy(given) == captions
    assert captioner.beam(given, width=2) == captions


def test_a_caption_does_not_depend_on_the_rows_beside_it(gru: Captioner):
    given, _ = rows(70, seed=2)
    keys = np.arange(70, dtype=np.uint64)
    how = Sampling(captions=3, temperature=2.0)
    together = gru.sample(given, keys, how, 5)
    mixed = [65, 3, 40]
    assert gru.sample(given.take(mixed), keys[mixed], how, 5) == [together[row] for row in mixed]
    assert gru.beam(given.take(mixed)) == [gru.beam(given)[row] for row in mixed]


def test_scores_of_a_row_are_the_same_bits_at_any_place(gru: Captioner):
    given, _ = rows(64, seed=2)
    backwards = given.take(range(63, -1, -1))
    first, second = (next(iter(gru._batches(held))) for held in (given, backwards))
    with torch.inference_mode():
        ahead, back = (
            gru.network.step(torch.full((64,), 1), gru.network.start(held), 0)[0] for held in (first, second)
        )
    assert torch.equal(ahead, back.flip(0))


def test_samples_differ_by_identity_and_by_seed(gru: Captioner):
    given, _ = rows(1)
    how = Sampling(captions=8, temperature=5.0)
    drawn = [gru.sample(given, np.array([key], np.uint64), how, seed) for key, seed in ((1, 1), (2, 1), (1, 2))]
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


def test_same_seed_same_bytes_and_another_seed_others():
    assert fitted(steps=5).to_bytes() == fitted(steps=5).to_bytes()
    assert fitted(steps=5).to_bytes() != fitted(steps=5, seed=1).to_bytes()


@pytest.mark.parametrize("architecture", ["gru", "transformer"])
def test_bytes_round_trip(architecture: Architecture):
    captioner, (given, _) = fitted(architecture, steps=5), rows(12)
    again = Captioner.from_bytes(captioner.to_bytes())
    assert again.to_bytes() == captioner.to_bytes()
    assert again.greedy(given) == captioner.greedy(given)


def test_weights_that_do_not_fit_are_named(gru: Captioner):
    files = gru.to_bytes()
    files[META_FILE] = files[META_FILE].replace(b'"width": 32, "words"', b'"width": 16, "words"')
    with pytest.raises(InputError, match=f"{NETWORK_FILE} does not fit"):
        Captioner.from_bytes(files)


def test_only_words_of_the_corpus_are_written(gru: Captioner):
    given, _ = rows(12)
    known = {token for caption in SAID for token in tokens_of(caption)}
    written = gru.sample(given, KEYS, Sampling(captions=20, top_k=100, temperature=50.0), 0)
    assert {token for captions in written for caption in captions for token in tokens_of(caption)} <= known


def test_no_pair_of_words_twice_no_word_twice_in_a_row_and_never_nothing(gru: Captioner):
    given, _ = rows(12)
    daring = gru.sample(given, KEYS, Sampling(captions=20, top_k=100, temperature=50.0), 0)
    for text in [*gru.beam(given), *(text for texts in daring for text in texts)]:
        pairs = [*pairwise(tokens_of(text.lower()))]
        assert text
        assert len(set(pairs)) == len(pairs)
        assert all(a != b for a, b in pairs)


def test_captions_end_where_training_captions_do_however_they_are_decoded(gru: Captioner):
    given, _ = rows(12)
    short = replace(gru, options=replace(gru.options, longest=4))
    last = {said.split()[-1] for said in SAID}
    for captioner in (gru, short):
        daring = captioner.sample(given, KEYS, Sampling(captions=20, top_k=100, temperature=50.0), 0)
        written = [*captioner.greedy(given), *captioner.beam(given), *(text for texts in daring for text in texts)]
        ends = [text.split()[-1] for text in written if set(text.split()) & last]
        assert len(ends) > 100
        assert set(ends) <= last


def test_a_caption_that_was_cut_teaches_no_end():
    given, _ = rows(48)
    captions = ["one two three four five six seven eight"] * 48
    captioner = fit_captioner(given, captions, np.ones(48, np.float32), options(steps=60), 0)
    assert captioner.greedy(given.take([0])) == ["one two three four five six"]


def test_wrong_pairs_of_no_weight_teach_nothing():
    given, captions = rows(48)
    wrong = [caption if row % 2 else "zebra zebra" for row, caption in enumerate(captions)]
    weights = np.array([float(row % 2) for row in range(48)], np.float32)
    captioner = fit_captioner(given, wrong, weights, options(steps=60), 0)
    assert "zebra" not in " ".join(captioner.greedy(given))


def test_the_transformer_steps_with_its_cache_as_it_reads_at_once():
    captioner, (given, _) = fitted("transformer", steps=5), rows(4)
    held, words = captioner.given(given, 4), torch.tensor([[1, 5, 6, 4]] * 4)
    with torch.inference_mode():
        at_once, state, steps = captioner.network(words, held), captioner.network.start(held), []
        for place in range(4):
            scores, state = captioner.network.step(words[:, place], state, place)
            steps.append(scores)
    torch.testing.assert_close(torch.stack(steps, dim=1), at_once, rtol=1e-4, atol=1e-4)


def test_frequent_captions_are_drawn_less_often():
    np.testing.assert_allclose(sampling_weights(["a", "a", "a", "a", "b"], 0.5), [0.5] * 4 + [1.0])


def test_the_architecture_follows_the_number_of_pairs():
    given, captions = rows(48)
    chosen = [
        fit_captioner(
            given, captions, np.ones(48, np.float32),
            replace(options(steps=1), architecture=None, transformer_pairs=pairs), 0,
        ).network.shape.architecture
        for pairs in (48, 49)
    ]  # fmt: skip
    assert chosen == ["transformer", "gru"]


def test_rows_without_concepts_or_neighbours_get_captions_too(gru: Captioner):
    given, _ = rows(2)
    bare = CaptionRows(given.image, [[], [("unheard of", 1.0)]], [[], []])
    assert all(gru.greedy(bare))


def test_no_common_word_is_said():
    given, _ = rows(3)
    with pytest.raises(NothingToLearnError, match="no word occurs in 2 of the 3 trusted captions"):
        fit_captioner(given, ["x", "y", "z"], np.ones(3, np.float32), CaptionerOptions(), 0)
