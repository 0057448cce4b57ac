"""Which pairs a trainer sees, and when: batches drawn by weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

LEAST_ROWS = 2
"""Pairs of weight above 0 that a training needs: one alone has nothing to be told apart from."""


def drawn_batches(weight: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Epochs of shuffled rows without end, cut into batches across the epochs' ends; full ones if there are rows.

    The row of the largest weight is in every epoch, others with a probability in proportion, so that no step is spent
    on pairs that hardly count.

    Args:
        weight: how often each pair is drawn, relative to the one that is drawn most, >= 0, float [n].
        size: of a batch; all rows of weight above 0 where there are fewer.
        generator: of all draws.
    """
    size, waiting, chance = min(size, int((weight > 0).sum())), torch.empty(0, dtype=torch.long), weight / weight.max()
    while True:
        while len(waiting) < size:
            drawn = torch.nonzero(torch.rand(len(weight), generator=generator) < chance)[:, 0]
            waiting = torch.cat([waiting, drawn[torch.randperm(len(drawn), generator=generator)]])
        yield waiting[:size]
        waiting = waiting[size:]
