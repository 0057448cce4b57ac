"""Linear heads on frozen towers, trained on the annotated pairs with our columns as any trainer would use them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from curate.bench.paper.retrieval import recalls
from curate.bench.paper.training import Embedded, Hints, Project, Train
from curate.models.losses import noise_adaptive_itc
from curate.noise.similarity import Floats


@dataclass(frozen=True)
class HeadOptions:
    """How heads are trained.

    Attributes:
        joint_space: towers that were trained together: the heads start as the identity, else at random.
        dimensions: of the common space, where the towers have none.
        temperature: of the contrastive loss; None: .01 as CLIP has it, .05 without a joint space.
        epochs: in which as many pairs are seen as there are; the best on the development part counts, or the start.
        batch: pairs in a step.
        learning_rate: Adam's, falling to zero along a half cosine; None: 1e-4, without a joint space 1e-3.
    """

    joint_space: bool
    dimensions: int = 256
    temperature: float | None = None
    epochs: int = 10
    batch: int = 512
    learning_rate: float | None = None

    @property
    def tau(self) -> float:
        """The temperature."""
        return self.temperature or (0.01 if self.joint_space else 0.05)

    @property
    def step(self) -> float:
        """The learning rate."""
        return self.learning_rate or (1e-4 if self.joint_space else 1e-3)


class Heads(nn.Module):
    """A linear map of each modality into one space, unit rows: x + x R where the towers share a space, else x W."""

    def __init__(self, options: HeadOptions, image_width: int, text_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.residual = options.joint_space
        out = image_width if self.residual else options.dimensions
        self.image = nn.Parameter(self._start(image_width, out, generator))
        self.text = nn.Parameter(self._start(text_width, out, generator))

    def _start(self, width: int, out: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(width, out, generator=generator) / width**0.5
        return torch.zeros_like(drawn) if self.residual else drawn

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows in the common space."""
        return self._mapped(image, self.image), self._mapped(text, self.text)

    def _mapped(self, rows: Tensor, weight: Tensor) -> Tensor:
        return normalize(rows + rows @ weight if self.residual else rows @ weight, dim=1)


def head_trainer(options: HeadOptions) -> Train:
    """Trains heads by NLIP's noise-adaptive contrastive loss; captions given the same image are no negatives.

    However few rows the hints leave, the number of steps is that of all pairs: methods differ in what they are taught,
    not in how long. The bytes depend on inputs, options and seed alone, for one number of threads.
    """

    def train(training: Embedded, hints: Hints, dev: Embedded, seed: int) -> Project:
        generator = torch.Generator().manual_seed(seed)
        heads = Heads(options, training.image.shape[1], training.text.shape[1], generator)
        best, best_total = copy.deepcopy(heads), _dev_total(heads, dev)
        for _ in _epochs(heads, options, training, hints, generator):
            total = _dev_total(heads, dev)
            if total > best_total:
                best, best_total = copy.deepcopy(heads), total
        return lambda image, text: _projected(best, image, text)

    return train


def _epochs(
    heads: Heads, options: HeadOptions, training: Embedded, hints: Hints, generator: torch.Generator
) -> Iterator[None]:
    """Trains, and pauses after as many steps as all pairs make."""
    optimizer = torch.optim.Adam(heads.parameters(), lr=options.step)
    steps = -(-len(training.image_of) // options.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, options.epochs * steps))
    batches = _batches(len(hints.rows), options.batch, generator)
    for _ in range(options.epochs):
        for places in islice(batches, steps):
            loss = batch_loss(heads, options.tau, training, hints, places)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        yield


def _batches(rows: int, most: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Places among the rows, pass after pass without end, dealt anew to batches of nearly equal size in each."""
    while True:
        for places in torch.randperm(rows, generator=generator).tensor_split(-(-rows // most)):
            yield places.numpy()


def batch_loss(heads: Heads, tau: float, training: Embedded, hints: Hints, places: NDArray[np.int64]) -> Tensor:
    """NLIP's loss of some of the hinted rows; captions that are given one image are no negatives of it. A scalar."""
    rows = hints.rows[places]
    given = training.image_of[rows]
    image, text = heads(torch.from_numpy(training.image[given]), torch.from_numpy(training.text[rows]))
    numbers = torch.from_numpy(given)
    same = numbers[:, None] == numbers[None, :]
    return noise_adaptive_itc(image @ text.T / tau, torch.from_numpy(hints.smoothing[places]), same)


def _projected(heads: Heads, image: Floats, text: Floats) -> tuple[Floats, Floats]:
    with torch.no_grad():
        mapped = heads(torch.from_numpy(image), torch.from_numpy(text))
    return mapped[0].numpy(), mapped[1].numpy()


def _dev_total(heads: Heads, dev: Embedded) -> float:
    return recalls(*_projected(heads, dev.image, dev.text), dev.image_of).total
