"""The small model that downstream figures are about: two heads that map frozen embeddings into a common space."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from curate.bench.draws import LEAST_ROWS, drawn_batches
from curate.models.losses import noise_adaptive_itc
from curate.models.threads import one_torch_thread
from curate.noise.similarity import Floats, unit_rows

Ints: TypeAlias = NDArray[np.int64]

_WARM_UP = 0.1
# CLIP's: logits of unit vectors are multiplied by 100 at most (Radford et al., ICML 2021).
_LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class HeadOptions:
    """The model and its training. Chosen for the best model of clean captions, on one draw of each corpus.

    Attributes:
        components: most principal components of each side's embeddings that the heads are given.
        rows_per_component: and at most one for so many pairs: small corpora are learned by heart otherwise.
        hidden: width of each head's hidden layer.
        width: of the common space.
        dropout: before both layers.
        steps: most steps of training.
        epochs: and at most so many times the whole training part, whatever share of it is used: all methods have the
            same budget.
        batch: pairs a step.
        learning_rate: peak of the one-cycle schedule (Adam).
        temperature: of the logits, at the beginning.
    """

    components: int = 256
    rows_per_component: int = 12
    hidden: int = 512
    width: int = 128
    dropout: float = 0.3
    steps: int = 400
    epochs: int = 50
    batch: int = 256
    learning_rate: float = 3e-3
    temperature: float = 0.07

    def components_for(self, rows: int) -> int:
        """How many principal components heads are given that so many pairs can be trained on."""
        return min(self.components, max(rows // self.rows_per_component, 1))

    def steps_for(self, rows: int) -> int:
        """How many steps heads are trained for if there are so many pairs, used or not."""
        return min(self.steps, max(self.epochs * rows // self.batch, 1))


@dataclass(frozen=True)
class TrainingSet:
    """n pairs of embeddings to train on. Each pair has a caption, and another that stands in for it at times.

    Attributes:
        image: float32 [n, dv].
        text, other_text: of both captions, float32 [n, dt].
        caption, other_caption: which caption it is, equal numbers for equal captions: pairs of one batch that share
            theirs are no negatives of each other; int64 [n].
        chance: with which probability the other caption is taken, drawn anew at every step, [n].
        weight: how often the pair is drawn, relative to the one that is drawn most, >= 0, [n].
        smoothing: omega of NLIP's loss, [n].
    """

    image: Floats
    text: Floats
    caption: Ints
    other_text: Floats
    other_caption: Ints
    chance: Floats
    weight: Floats
    smoothing: Floats

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Reducer:
    """Embeddings -> their leading principal components, scaled to a mean square length of 1.

    Attributes:
        mean: of the unit rows, float32 [d].
        basis: scaled orthogonal columns, float32 [d, k].
    """

    mean: Floats
    basis: Floats

    def __call__(self, rows: Floats) -> Tensor:
        """Float32 [n, d] -> [n, k]."""
        return torch.from_numpy((unit_rows(rows) - self.mean) @ self.basis)


def fit_reducer(rows: Floats, components: int) -> Reducer:
    """Principal components of unit rows; float32 [n, d]. O(n d^2 + d^3)."""
    unit = unit_rows(rows)
    mean = unit.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((unit - mean).T.astype(np.float64), bias=True))
    basis = vectors[:, ::-1][:, :components] / np.sqrt(values[::-1][:components].sum())
    return Reducer(mean, basis.astype(np.float32))


@dataclass(frozen=True)
class Heads:
    """A trained pair of heads."""

    image_reducer: Reducer
    text_reducer: Reducer
    image_head: nn.Module
    text_head: nn.Module

    def project(self, image: Floats, text: Floats) -> tuple[Floats, Floats]:
        """Unit rows in the common space; float32 [n, dv], [m, dt] -> [n, width], [m, width]."""
        with torch.no_grad():
            seen = normalize(self.image_head(self.image_reducer(image)), dim=1)
            said = normalize(self.text_head(self.text_reducer(text)), dim=1)
        return seen.numpy(), said.numpy()


def train_heads(
    pairs: TrainingSet, image_reducer: Reducer, text_reducer: Reducer, options: HeadOptions, seed: int
) -> Heads:
    """Train on one thread. The same arguments give the same heads, and the same seed the same initial weights.

    The loss is `losses.noise_adaptive_itc`. Pairs are drawn by weight, so that no step is spent on pairs that hardly
    count. Nothing is held out and nothing stops early: the budget is all that ends it.

    Raises:
        ValueError: fewer than LEAST_ROWS pairs have a weight.
    """
    if (pairs.weight > 0).sum() < LEAST_ROWS:
        raise ValueError(f"heads need {LEAST_ROWS} pairs of weight above 0 to be trained on")
    with one_torch_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        heads = Heads(
            image_reducer,
            text_reducer,
            _head(image_reducer.basis.shape[1], options),
            _head(text_reducer.basis.shape[1], options),
        )
        _fit(heads, _Tensors.of(pairs, heads), options)
    heads.image_head.eval()
    heads.text_head.eval()
    return heads


def _head(components: int, options: HeadOptions) -> nn.Module:
    return nn.Sequential(
        nn.Dropout(options.dropout),
        nn.Linear(components, options.hidden),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden, options.width),
    )


@dataclass(frozen=True)
class _Tensors:
    """A training set as the heads are given it: both captions of a pair one behind the other, [2, n, ...]."""

    image: Tensor
    text: Tensor
    caption: Tensor
    chance: Tensor
    weight: Tensor
    smoothing: Tensor

    @classmethod
    def of(cls, pairs: TrainingSet, heads: Heads) -> _Tensors:
        columns = (pairs.chance, pairs.weight, pairs.smoothing)
        return cls(
            heads.image_reducer(pairs.image),
            torch.stack([heads.text_reducer(text) for text in (pairs.text, pairs.other_text)]),
            torch.from_numpy(np.stack([pairs.caption, pairs.other_caption])),
            *(torch.from_numpy(column.astype(np.float32)) for column in columns),
        )


def _fit(heads: Heads, pairs: _Tensors, options: HeadOptions) -> None:
    steps = options.steps_for(len(pairs.weight))
    log_scale = nn.Parameter(torch.tensor(-float(np.log(options.temperature))))
    weights = [*heads.image_head.parameters(), *heads.text_head.parameters(), log_scale]
    optimiser = torch.optim.Adam(weights, lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=steps, pct_start=_WARM_UP
    )
    for batch in islice(drawn_batches(pairs.weight, options.batch, torch.default_generator), steps):
        optimiser.zero_grad()
        _loss(heads, pairs, batch, log_scale.exp().clamp(max=_LARGEST_SCALE)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _loss(heads: Heads, pairs: _Tensors, batch: Tensor, scale: Tensor) -> Tensor:
    other = (torch.rand(len(batch)) < pairs.chance[batch]).long()
    seen = normalize(heads.image_head(pairs.image[batch]), dim=1)
    said = normalize(heads.text_head(pairs.text[other, batch]), dim=1)
    caption = pairs.caption[other, batch]
    same = caption[:, None] == caption[None, :]
    return noise_adaptive_itc(scale * seen @ said.T, pairs.smoothing[batch], same)
