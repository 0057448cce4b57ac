from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from curate.noise.virtual_update import Corpus, Pairs, Retrieval, virtual_update
from tests.tiny import IMAGE_SIZE, MODEL_CONFIG

TAU, RATE, WIDTH = 0.5, 0.3, 3


class Head(torch.nn.Module):
    """A bilinear form on frozen embeddings, v (I + W) t."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(WIDTH, WIDTH, dtype=torch.float64))


def head_retrieval():
    return Retrieval(Head(), lambda model, rows: rows + rows @ model.weight, lambda model, rows: rows, TAU)


def descent(model):
    return torch.optim.SGD(model.parameters(), lr=RATE)


def unit(rng, rows):
    made = rng.standard_normal((rows, WIDTH))
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def small(pairs=4, certain=3, memory_image=(0, 1, 2, 1), memory_text=(2, 0, 1, 2), group=None):
    rng = np.random.default_rng(3)
    made = [torch.from_numpy(unit(rng, rows)) for rows in (pairs, pairs, certain, certain)]
    return Corpus(
        Pairs(made[0], made[1]),
        Pairs(made[2], made[3]),
        torch.tensor(memory_image),
        torch.tensor(memory_text),
        torch.arange(pairs) if group is None else torch.tensor(group),
    )


def loss_by_hand(head, images, texts, row, numbers):
    """1/2 (CE_i2t + CE_t2i) of one pair; rows with its own number are no negatives of it."""
    scores = images @ (np.eye(WIDTH) + head) @ texts.T / TAU
    others = [j for j in range(len(images)) if numbers[j] != numbers[row]]
    own = scores[row, row]
    to_text = np.log(np.exp([own, *scores[row, others]]).sum()) - own
    to_image = np.log(np.exp([own, *scores[others, row]]).sum()) - own
    return (to_text + to_image) / 2


def gradient_by_hand(images, texts, rows, numbers, h=1e-6):
    """Of the mean loss of some rows, by central differences over the entries of the head."""
    slope = np.empty((WIDTH, WIDTH))
    for entry in np.ndindex(WIDTH, WIDTH):
        head = np.zeros((WIDTH, WIDTH))
        head[entry] = h
        slope[entry] = np.mean(
            [
                loss_by_hand(head, images, texts, row, numbers) - loss_by_hand(-head, images, texts, row, numbers)
                for row in rows
            ]
        ) / (2 * h)
    return slope


def ratio_by_hand(corpus, learned):
    """r of every pair of one batch."""
    images, texts = corpus.pairs.images.numpy(), corpus.pairs.texts.numpy()
    group, count = corpus.group.tolist(), len(corpus.group)
    ratios = []
    for row in range(count):
        rows = range(count) if learned == "batch" else [row]
        head = -RATE * gradient_by_hand(images, texts, rows, group)
        shares = []
        for held in (corpus.memory_image.numpy(), corpus.memory_text.numpy()):
            entry_images, entry_texts = corpus.bank.images.numpy()[held], corpus.bank.texts.numpy()[held]
            before = loss_by_hand(np.zeros((WIDTH, WIDTH)), entry_images, entry_texts, row, held)
            shares.append(before / loss_by_hand(head, entry_images, entry_texts, row, held))
        ratios.append(np.mean(shares))
    return ratios


@pytest.mark.parametrize("learned", ["batch", "pair"])
@pytest.mark.parametrize("group", [None, [0, 1, 0, 2]])
def test_ratio_is_what_a_step_by_hand_does_to_the_memory_entries(learned, group):
    corpus = small(group=group)
    impact = virtual_update(head_retrieval(), corpus, descent, np.random.default_rng(0), learned=learned)
    np.testing.assert_allclose(impact.ratio, ratio_by_hand(corpus, learned), rtol=1e-6)
    expected = [np.tanh(ratio) if ratio < 1 else 1 for ratio in impact.ratio]
    np.testing.assert_allclose(impact.weight, expected)
    assert (impact.ratio < 1).any()


def test_pairs_with_the_same_entries_are_told_apart_only_when_each_is_learned_alone():
    corpus = small(memory_image=(0, 1, 2, 1), memory_text=(0, 1, 2, 1))
    batch, alone = (
        virtual_update(head_retrieval(), corpus, descent, np.random.default_rng(0), learned=learned).ratio
        for learned in ("batch", "pair")
    )
    assert batch[1] == batch[3]
    assert alone[1] != alone[3]


def test_the_model_is_left_as_it_was_and_its_optimiser_sees_copies_only():
    retrieval, corpus = head_retrieval(), small()
    seen = []

    def noting(model):
        seen.append(model)
        return descent(model)

    for learned in ("batch", "pair"):
        virtual_update(retrieval, corpus, noting, np.random.default_rng(0), learned=learned)
    assert not retrieval.model.weight.any()
    assert retrieval.model.training
    assert retrieval.model not in seen
    assert len(seen) == 1 + 4


def test_every_pair_is_in_a_batch_of_at_most_batch_size_and_never_alone():
    rng = np.random.default_rng(1)
    pairs = Pairs(torch.from_numpy(unit(rng, 9)), torch.from_numpy(unit(rng, 9)))
    bank = Pairs(torch.from_numpy(unit(rng, 5)), torch.from_numpy(unit(rng, 5)))
    corpus = Corpus(pairs, bank, torch.arange(9) % 5, torch.arange(9) % 4, torch.arange(9))
    sizes = []

    def noting(model):
        sizes.append(model)
        return descent(model)

    impact = virtual_update(head_retrieval(), corpus, noting, np.random.default_rng(0), batch_size=4)
    assert len(sizes) == 3
    assert np.isfinite(impact.ratio).all()
    again = virtual_update(head_retrieval(), corpus, descent, np.random.default_rng(0), batch_size=4)
    assert again.ratio.tobytes() == impact.ratio.tobytes()
    other = virtual_update(head_retrieval(), corpus, descent, np.random.default_rng(1), batch_size=4)
    assert (other.ratio != impact.ratio).any()


def test_one_pair_has_nothing_to_be_contrasted_with():
    with pytest.raises(ValueError, match="two pairs in a batch: 1 pairs"):
        virtual_update(
            head_retrieval(), small(1, memory_image=[0], memory_text=[0]), descent, np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="batch_size 1"):
        virtual_update(head_retrieval(), small(), descent, np.random.default_rng(0), batch_size=1)


def test_whole_open_clip_towers_can_be_judged_with():
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(MODEL_CONFIG)))
        pixels = torch.randn(9, 3, IMAGE_SIZE, IMAGE_SIZE)
        tokens = torch.randint(1, 1000, (9, 77))
    before = copy.deepcopy(model.state_dict())
    corpus = Corpus(
        Pairs(pixels[:6], tokens[:6]),
        Pairs(pixels[6:], tokens[6:]),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        torch.tensor([1, 2, 0, 1, 2, 0]),
        torch.arange(6),
    )
    retrieval = Retrieval(
        model, lambda m, rows: normalize(m.encode_image(rows)), lambda m, rows: normalize(m.encode_text(rows)), 0.07
    )

    def adam(student):
        return torch.optim.AdamW(student.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)

    impact = virtual_update(retrieval, corpus, adam, np.random.default_rng(0))
    assert np.isfinite(impact.ratio).all()
    assert (impact.ratio != 1).all()
    assert all(torch.equal(held, before[name]) for name, held in model.state_dict().items())
