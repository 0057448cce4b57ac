"""Batches drawn by weight: how often a pair is in one, and that they can be drawn again."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from curate.bench.draws import drawn_batches


def drawn(weight: torch.Tensor, size: int, batches: int, seed: int = 0) -> torch.Tensor:
    return torch.cat(list(islice(drawn_batches(weight, size, torch.Generator().manual_seed(seed)), batches)))


def test_a_pair_is_drawn_as_often_as_it_weighs():
    weight = torch.tensor([1e-6, 0.25e-6] * 200)
    times = torch.bincount(drawn(weight, 50, 200), minlength=400).float()
    assert float(times[1::2].mean() / times[::2].mean()) == pytest.approx(0.25, abs=0.02)
    assert float(times[::2].std()) < 1


def test_batches_follow_from_the_generator_alone():
    first = drawn(torch.ones(30), 8, 9)
    torch.rand(5)
    assert torch.equal(first, drawn(torch.ones(30), 8, 9))
    assert not torch.equal(first, drawn(torch.ones(30), 8, 9, seed=1))


def test_batches_are_full_where_there_are_rows():
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert [len(batch) for batch in islice(drawn_batches(weight, 64, torch.Generator()), 3)] == [3, 3, 3]
    assert set(drawn(weight, 2, 30).tolist()) == {0, 2, 3}
