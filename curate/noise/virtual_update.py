"""NPC's negative impact as published: learn a batch with a copy of the model, and look at what became of its memory.

Slow, for any torch model: a subset is scored with it, to see what the closed form of `negative_impact` is worth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.models.losses import itc_losses

Encode: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
MakeOptimizer: TypeAlias = Callable[[nn.Module], torch.optim.Optimizer]
Learned: TypeAlias = Literal["batch", "pair"]

_SMALLEST_LOSS = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Retrieval:
    """A model that retrieves, and how it is used.

    Attributes:
        model: what learns; it is never changed.
        image, text: the model and a batch of inputs -> unit vectors of one space, float [n, d].
        temperature: tau; logits are cosines over it.
    """

    model: nn.Module
    image: Encode
    text: Encode
    temperature: float

    def losses(self, model: nn.Module, pairs: Pairs, same: Tensor | None) -> Tensor:
        """`itc_losses` of pairs under this model or a copy of it, each pair's negatives being the others; [n]."""
        logits = self.image(model, pairs.images) @ self.text(model, pairs.texts).T / self.temperature
        return itc_losses(logits, same)


@dataclass(frozen=True)
class Pairs:
    """Images and captions as the model takes them, any shape with one row a pair."""

    images: Tensor
    texts: Tensor

    def take(self, rows: Tensor) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.images[rows], self.texts[rows])


@dataclass(frozen=True)
class Corpus:
    """Pairs to be judged, and the certainly clean pairs that the memory bank has for each.

    Attributes:
        pairs: all pairs, n.
        bank: the certainly clean pairs, c.
        memory_image: which of the bank has the most similar image, int64 [n].
        memory_text: which of the bank has the most similar caption, int64 [n].
        group: pairs with equal numbers match each other (one picture, say): they are no negatives. int64 [n].
    """

    pairs: Pairs
    bank: Pairs
    memory_image: Tensor
    memory_text: Tensor
    group: Tensor


@dataclass(frozen=True)
class VirtualImpact:
    """What `virtual_update` knows of every pair.

    Attributes:
        ratio: r = 1/2 (l_I / l_I' + l_T / l_T'); below 1 learning made the memory entries worse. float64 [n]: a small
            step moves it by less than float32 can tell from 1.
        weight: tanh(r) below 1, else 1; float64 [n].
    """

    ratio: NDArray[np.float64]
    weight: NDArray[np.float64]


def virtual_update(
    retrieval: Retrieval,
    corpus: Corpus,
    optimizer: MakeOptimizer,
    rng: np.random.Generator,
    batch_size: int = 256,
    learned: Learned = "batch",
) -> VirtualImpact:
    """NPC's r and w of every pair, by one virtual step of a siamese copy of the model.

    "Negative Pre-aware for Noisy Cross-modal Matching" (NPC, AAAI 2024, arXiv 2312.05777). For every batch a copy A'
    of the model; l_I, l_T: losses of the batch's memory entries by image and by text, each among the other entries;
    one optimiser step of A' on the batch's mean loss; l_I', l_T': the same losses afterwards.

    Learned from the whole batch, as published, r says what the *batch* does to a pair's entries: of the pair itself
    it depends only on which entries these are. learned="pair" takes one step for each pair, on its own loss among the
    batch's negatives: one copy and one backward pass a pair.

    Not as the released code has it: one backward pass and not two; a copy of a memory entry in the batch is no
    negative of it. Its optimiser keeps its moments from batch to batch; here `optimizer` decides.

    Args:
        retrieval: the model and how it encodes.
        corpus: pairs and their memory entries.
        optimizer: called on every copy; a first step of Adam is the sign of the gradient times its learning rate.
        rng: deals the pairs to batches.
        batch_size: most pairs in one batch, at least 2; the batches are of nearly equal size.
        learned: what the virtual step learns from.

    Raises:
        ValueError: fewer than two pairs, or batch_size below 2.
    """
    count = len(corpus.group)
    if count < 2 or batch_size < 2:
        raise ValueError(f"a contrastive loss needs two pairs in a batch: {count} pairs, batch_size {batch_size}")
    ratio = np.empty(count)
    for rows in np.array_split(rng.permutation(count), -(-count // batch_size)):
        ratio[rows] = _of_batch(retrieval, corpus, torch.from_numpy(rows), optimizer, learned)
    return VirtualImpact(ratio, np.where(ratio < 1, np.tanh(ratio), 1.0))


def _of_batch(
    retrieval: Retrieval, corpus: Corpus, rows: Tensor, optimizer: MakeOptimizer, learned: Learned
) -> NDArray[np.float64]:
    """r of a batch's pairs, [len(rows)]."""
    entries = [held[rows] for held in (corpus.memory_image, corpus.memory_text)]
    before = _memory_losses(retrieval, retrieval.model, corpus.bank, entries)
    batch, same = corpus.pairs.take(rows), _alike(corpus.group[rows])
    ratio = torch.empty(len(rows), dtype=torch.float64)
    for places, student in _students(retrieval, batch, same, optimizer, learned):
        after = _memory_losses(retrieval, student, corpus.bank, entries)
        ratio[places] = (before / after.clamp(min=_SMALLEST_LOSS)).mean(dim=0)[places].to(ratio)
    result: NDArray[np.float64] = ratio.numpy()
    return result


def _students(
    retrieval: Retrieval, batch: Pairs, same: Tensor, optimizer: MakeOptimizer, learned: Learned
) -> Iterator[tuple[Tensor, nn.Module]]:
    """Copies of the model after one step, each with the places in the batch that it is to judge."""
    everybody = torch.arange(len(same))
    for places in [everybody] if learned == "batch" else everybody[:, None]:
        student = copy.deepcopy(retrieval.model)
        step = optimizer(student)
        step.zero_grad()
        retrieval.losses(student, batch, same)[places].mean().backward()  # type: ignore[no-untyped-call]
        step.step()
        yield places, student


def _memory_losses(retrieval: Retrieval, model: nn.Module, bank: Pairs, entries: list[Tensor]) -> Tensor:
    """Losses of the entries by image and of those by text, in evaluation mode, without a gradient; [2, n]."""
    training = model.training
    model.eval()
    with torch.no_grad():
        losses = [retrieval.losses(model, bank.take(held), _alike(held)) for held in entries]
    model.train(training)
    return torch.stack(losses)


def _alike(numbers: Tensor) -> Tensor:
    """Which of a batch are the same, bool [n, n]."""
    return numbers[:, None] == numbers[None, :]
