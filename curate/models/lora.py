"""LoRA: a low-rank difference beside every weight matrix, trained alone; merged into the weights afterwards.

Hu et al., ICLR 2022 (arXiv 2106.09685), section 4.1: W' = W + (alpha / r) B A, A random, B zero, so that training
starts from W.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

ALPHA = 16.0


class LowRank(nn.Module):
    """The difference of one weight matrix, float [out, in]; a parametrization of it."""

    def __init__(self, rows: int, columns: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        spread = columns**-0.5
        self.down = nn.Parameter(torch.randn(rank, columns, generator=generator) * spread)
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self._scale = ALPHA / rank

    def forward(self, weight: Tensor) -> Tensor:
        """W -> W + (alpha / r) B A."""
        return weight + self._scale * (self.up @ self.down).to(weight.dtype)


def add_lora(model: nn.Module, rank: int, generator: torch.Generator) -> None:
    """Freeze a model and give every linear layer and every attention's input projection a trainable difference.

    Args:
        model: changed in place.
        rank: r; cut to the matrix's own where that is smaller.
        generator: of the initial A.

    Raises:
        ValueError: the model has no such matrix.
    """
    model.requires_grad_(False)
    found = list(_matrices(model))
    if not found:
        raise ValueError("the model has no linear layer that LoRA could change")
    for module, name in found:
        rows, columns = getattr(module, name).shape
        low = LowRank(rows, columns, min(rank, rows, columns), generator).to(getattr(module, name).device)
        parametrize.register_parametrization(module, name, low)
        # Registering makes the frozen weight a parameter of its own, `original`, which must stay frozen.
        module.parametrizations[name].original.requires_grad_(False)  # type: ignore[union-attr, index]


def merge_lora(model: nn.Module) -> None:
    """Put every difference into its weight; the model has its old shape and names again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _matrices(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"
