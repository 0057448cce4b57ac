"""The small model: what it learns, what it leaves out, and that it can be made again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curate.bench import heads
from curate.bench.heads import HeadOptions, Heads, TrainingSet, fit_reducer, train_heads
from curate.bench.paper.retrieval import recalls
from tests.noise.synthetic import corpus, unit

TINY = HeadOptions(components=12, hidden=32, width=12, dropout=0.1, steps=60, batch=64, learning_rate=1e-2)
ROWS = 300


@pytest.fixture(scope="module")
def right() -> TrainingSet:
    pairs, _ = corpus(rows=ROWS + 60, mismatched=0.0)
    return of(pairs.image, pairs.text)


def of(image: np.ndarray, text: np.ndarray) -> TrainingSet:
    rows, ones = np.arange(len(image)), np.ones(len(image), dtype=np.float32)
    return TrainingSet(image, text, rows, text, rows, 0 * ones, ones, 0 * ones)


def training(pairs: TrainingSet, **changed) -> TrainingSet:
    columns = {name: column[:ROWS] for name, column in vars(pairs).items()}
    return TrainingSet(**{**columns, **changed})


def trained(pairs: TrainingSet, options: HeadOptions = TINY, seed: int = 0) -> Heads:
    reducers = (fit_reducer(rows, options.components) for rows in (pairs.image, pairs.text))
    return train_heads(pairs, *reducers, options, seed)


def found(model: Heads, pairs: TrainingSet) -> float:
    """R@1 both ways of the pairs that were not trained on."""
    recall = recalls(*model.project(pairs.image[ROWS:], pairs.text[ROWS:]), np.arange(len(pairs) - ROWS))
    return (recall.to_text[0] + recall.to_image[0]) / 2


def cosines(model: Heads, pairs: TrainingSet) -> np.ndarray:
    image, text = model.project(pairs.image, pairs.text)
    return image @ text.T


def test_pairs_that_were_not_seen_are_found(right: TrainingSet):
    assert found(trained(training(right)), right) > 40 > 10 * 100 / 60


def test_the_same_arguments_give_the_same_heads_whatever_was_drawn_before(right: TrainingSet):
    first = cosines(trained(training(right)), right)
    torch.rand(7)
    again = cosines(trained(training(right)), right)
    other = cosines(trained(training(right), seed=1), right)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_callers_random_numbers_and_threads_are_left_alone(right: TrainingSet):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trained(training(right), replace(TINY, steps=2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_pairs_of_no_weight_teach_nothing(right: TrainingSet):
    weight = np.ones(ROWS, dtype=np.float32)
    weight[::2] = 0
    spoilt = right.text[:ROWS].copy()
    spoilt[::2] = unit(np.random.default_rng(0).standard_normal(spoilt[::2].shape))
    reducers = [fit_reducer(rows, TINY.components) for rows in (right.image, right.text)]
    one, other = (
        cosines(train_heads(training(right, weight=weight, text=text), *reducers, TINY, 0), right)
        for text in (right.text[:ROWS], spoilt)
    )
    assert one.tobytes() == other.tobytes()


def test_wrong_pairs_of_little_weight_do_little_harm(right: TrainingSet):
    wrong = np.arange(ROWS) < 150
    text = right.text[:ROWS].copy()
    text[wrong] = np.roll(text[wrong], 1, axis=0)
    weight = np.where(wrong, 0.02, 1).astype(np.float32)
    smoothing = np.where(wrong, 1.0, 0.0).astype(np.float32)
    longer = replace(TINY, steps=120)

    def taught(**hints: np.ndarray) -> float:
        return found(trained(training(right, text=text, other_text=text, **hints), longer), right)

    assert taught(weight=weight) > taught() + 10
    assert taught(smoothing=smoothing) > taught()


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_the_other_caption_is_taken_by_chance(right: TrainingSet, chance: float):
    spoilt = np.roll(right.text[:ROWS], 7, axis=0)
    columns = {"text": spoilt} if chance else {"other_text": spoilt}
    pairs = training(right, chance=np.full(ROWS, chance, dtype=np.float32), **columns)
    reducers = [fit_reducer(rows, TINY.components) for rows in (right.image[:ROWS], right.text[:ROWS])]
    mixed, plain = (train_heads(each, *reducers, TINY, 0) for each in (pairs, training(right)))
    assert cosines(mixed, right).tobytes() == cosines(plain, right).tobytes()


def test_equal_captions_are_no_negatives(right: TrainingSet):
    """Where all pairs of a batch have one caption, there is nothing to tell apart and nothing is learned."""
    pairs = training(right, caption=np.zeros(ROWS, dtype=np.int64), other_caption=np.zeros(ROWS, dtype=np.int64))
    untrained = cosines(trained(pairs, replace(TINY, steps=1)), right)
    assert cosines(trained(pairs), right) == pytest.approx(untrained)


def test_a_single_pair_is_not_enough(right: TrainingSet):
    weight = np.zeros(ROWS, dtype=np.float32)
    weight[0] = 1
    with pytest.raises(ValueError, match="heads need 2 pairs"):
        trained(training(right, weight=weight))


def test_the_reducer_keeps_what_varies_most():
    draws = np.random.default_rng(0)
    rows = unit(draws.standard_normal((400, 20)) * np.array([3.0, 2.0] + [0.1] * 18) + 1).astype(np.float32)
    reduced = fit_reducer(rows, 2)(rows).numpy()
    assert reduced.shape == (400, 2)
    assert (reduced**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    centred = rows - rows.mean(axis=0)
    kept = reduced @ reduced.T * np.linalg.norm(centred) ** 2 / np.linalg.norm(reduced) ** 2
    assert np.corrcoef(kept.ravel(), (centred @ centred.T).ravel())[0, 1] > 0.99


def test_few_pairs_get_a_small_model_and_few_steps():
    options = HeadOptions()
    assert (options.components_for(750), options.steps_for(750)) == (62, 146)
    assert (options.components_for(8000), options.steps_for(8000)) == (256, 400)
    assert (options.components_for(2), options.steps_for(2)) == (1, 1)


def test_the_budget_does_not_depend_on_how_many_pairs_are_used(right: TrainingSet, monkeypatch):
    """Batches are counted: half of the pairs are seen twice as often."""
    batches = []
    noted = heads._loss

    def counted(trained, pairs, batch, scale):
        batches.append(len(batch))
        return noted(trained, pairs, batch, scale)

    monkeypatch.setattr(heads, "_loss", counted)
    some = np.ones(ROWS, dtype=np.float32)
    some[100:] = 0
    for weight in (np.ones(ROWS, dtype=np.float32), some):
        batches.clear()
        trained(training(right, weight=weight), replace(TINY, steps=20))
        assert batches == [64] * 20
