"""Linear heads over frozen embeddings, trained by gradient on the trusted pairs: the view that refinement adds.

They start where the fold's closed-form space ends and learn a residual of it: untrained, they change nothing. Like
every view of a fold they are trained on other folds only, so that no pair is scored by heads that memorized it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.noise.crossfit import RIDGES, Cca
from curate.noise.features import Features, blocks
from curate.noise.grouping import near
from curate.noise.joint import ResidualAdapter
from curate.noise.negative_impact import CERTAIN_WEIGHT
from curate.noise.similarity import NEAR_TEXT_COSINE, Floats, unit_rows

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.intp]
LossName: TypeAlias = Literal["nitc", "npc", "dsdmr", "infonce"]

# Which ridge of the fold's CCA the heads start from: the middle one.
_START_PIECE = len(RIDGES) // 2


@dataclass(frozen=True)
class RefinedHeads:
    """A view: z = L2(x W - b) of images and of captions.

    Attributes:
        joint_space: whether x are the towers' own unit embeddings; else the reduced features of `Features`.
        image_map, text_map: W, float32 [dv or q, d], [dt, d].
        image_bias, text_bias: b, float32 [d].
    """

    joint_space: bool
    image_map: Floats
    text_map: Floats
    image_bias: Floats
    text_bias: Floats

    def image(self, features: Features) -> Floats:
        """See `View`."""
        inputs = features.raw_image if self.joint_space else features.image
        return unit_rows(inputs @ self.image_map - self.image_bias)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        inputs = features.caption if self.joint_space else features.text
        return unit_rows(inputs @ self.text_map - self.text_bias)

    def turned(self, image: Floats, text: Floats) -> RefinedHeads:
        """The heads with residuals behind them, z = L2((x W - b) (I + R)); R float32 [d, d]."""
        return RefinedHeads(
            joint_space=self.joint_space,
            image_map=self.image_map + self.image_map @ image,
            text_map=self.text_map + self.text_map @ text,
            image_bias=self.image_bias + self.image_bias @ image,
            text_bias=self.text_bias + self.text_bias @ text,
        )


def heads_from_cca(cca: Cca) -> RefinedHeads:
    """The space of the middle ridge of a fold's CCA, for towers that never met."""
    image_map, text_map, image_bias, text_bias = (
        np.ascontiguousarray(np.split(array, len(RIDGES), axis=-1)[_START_PIECE])
        for array in (cca.image_map, cca.text_map, cca.image_bias, cca.text_bias)
    )
    return RefinedHeads(False, image_map, text_map, image_bias, text_bias)


def heads_from_joint_space(adapter: ResidualAdapter) -> RefinedHeads:
    """The towers' own space, centred as a fold's adapter has it, which takes out the modality gap."""
    identity = np.eye(len(adapter.image_mean), dtype=np.float32)
    return RefinedHeads(True, identity, identity, adapter.image_mean, adapter.text_mean)


@dataclass(frozen=True)
class HeadOptions:
    """How heads are trained.

    Attributes:
        loss: of `curate.models.losses`: nitc (NLIP's, smoothing by noise_prob), npc (pairs by their weight, memory
            entries beside), dsdmr (dynamic margins by noise_prob) or infonce.
        epochs: passes over the trusted pairs.
        batch: pairs that are contrasted with each other.
        learning_rate: of Adam.
        temperature: what cosines are divided by; dsdmr has none.
        smoothing: lambda of nitc.
        margin_image, margin_text: base margins of dsdmr.
        distribution_gap: weight of dsdmr's term of that name; 0: without it.
    """

    loss: LossName = "nitc"
    epochs: int = 10
    batch: int = 512
    learning_rate: float = 1e-3
    temperature: float = 0.07
    smoothing: float = 0.5
    margin_image: float = 0.3
    margin_text: float = 0.2
    distribution_gap: float = 0.0


@dataclass(frozen=True)
class TrustedPairs:
    """What heads are trained on.

    Attributes:
        features: of [n] pairs.
        noise_prob: what is believed of each, float32 [n].
        weight: NPC's confidence in each, float32 [n].
    """

    features: Features
    noise_prob: Floats
    weight: Floats


@contextmanager
def torch_threads_restored() -> Iterator[None]:
    """Whatever `train_heads` does to torch's number of threads ends with the block."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_heads(start: RefinedHeads, pairs: TrustedPairs, options: HeadOptions, seed: Sequence[int]) -> RefinedHeads:
    """Residuals of `start` by Adam: z' = L2(z + z R), u' = L2(u + u R'), R and R' from zero.

    Pairs of a batch with (nearly) the same picture or caption are no negatives of each other. One thread, own
    generator: equal inputs give equal bytes. Torch is left with one thread, see `torch_threads_restored`.
    O(epochs n (d^2 + batch (d + s + dt))).

    Args:
        start: untrained heads.
        pairs: at least two, in an order of their own: it decides the batches.
        options: see `HeadOptions`.
        seed: of the order of batches.
    """
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    training = _Training(start, pairs, options)
    optimiser = torch.optim.Adam(training.residuals, lr=options.learning_rate)
    for _ in range(options.epochs):
        for batch in torch.randperm(len(pairs.noise_prob), generator=generator).split(options.batch):  # type: ignore[no-untyped-call]
            # A last batch of one pair has nothing to contrast with.
            if len(batch) > 1:
                optimiser.zero_grad()
                training.loss(batch).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    image, text = (residual.detach().numpy() for residual in training.residuals)
    return start.turned(image, text)


class _Training:
    """The pairs in the space that the heads start from, the residuals, and the loss of a batch."""

    def __init__(self, start: RefinedHeads, pairs: TrustedPairs, options: HeadOptions) -> None:
        import torch

        self._pairs, self._options = pairs, options
        self._image, self._text = (torch.from_numpy(side(pairs.features)) for side in (start.image, start.text))
        width = self._image.shape[1]
        self.residuals = [torch.zeros(width, width, requires_grad=True) for _ in range(2)]
        self._noise, self._weight = torch.from_numpy(pairs.noise_prob), torch.from_numpy(pairs.weight)
        self._memory = memory_entries(pairs) if options.loss == "npc" else None

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Of the pairs at some positions, a scalar."""
        losses: Mapping[LossName, Callable[[torch.Tensor], torch.Tensor]] = {
            "nitc": self._nitc,
            "npc": self._npc,
            "dsdmr": self._dsdmr,
            "infonce": self._info_nce,
        }
        return losses[self._options.loss](rows)

    def _info_nce(self, rows: torch.Tensor) -> torch.Tensor:
        from curate.models.losses import info_nce

        return info_nce(self._logits(rows), self._same(rows))

    def _nitc(self, rows: torch.Tensor) -> torch.Tensor:
        from curate.models.losses import noise_adaptive_itc

        return noise_adaptive_itc(self._logits(rows), self._options.smoothing * self._noise[rows], self._same(rows))

    def _npc(self, rows: torch.Tensor) -> torch.Tensor:
        """Where no pair is certainly clean there is no memory bank, and its term is 0."""
        import torch

        from curate.models.losses import NPC_MEMORY_WEIGHT, npc

        assert self._memory is not None, "only npc has a memory bank"
        found = np.unique(self._memory[rows.numpy()])
        entries = torch.from_numpy(found[found >= 0])
        bank = NPC_MEMORY_WEIGHT if len(entries) else 0.0
        entries = entries if len(entries) else rows
        return npc(self._logits(rows), self._weight[rows], self._logits(entries), entries, bank, self._same(rows))

    def _dsdmr(self, rows: torch.Tensor) -> torch.Tensor:
        from curate.models.losses import distribution_gap, dsdmr, dynamic_margins

        noise, similarity = self._noise[rows], self._similarity(rows)
        margins = dynamic_margins(1 - noise, self._options.margin_image, self._options.margin_text)
        ranking = dsdmr(similarity, *margins, kept=1 - noise > 0.5, same=self._same(rows))
        if not self._options.distribution_gap:
            return ranking
        return ranking + self._options.distribution_gap * distribution_gap(similarity.diagonal(), noise)

    def _logits(self, rows: torch.Tensor) -> torch.Tensor:
        return self._similarity(rows) / self._options.temperature

    def _similarity(self, rows: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import normalize

        image, text = self._image[rows], self._text[rows]
        return normalize(image + image @ self.residuals[0]) @ normalize(text + text @ self.residuals[1]).T

    def _same(self, rows: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.from_numpy(_twins(self._pairs.features, rows.numpy(), rows.numpy()))


def memory_entries(pairs: TrustedPairs) -> Rows:
    """NPC's memory entries: for each pair the certainly clean ones (noise_prob < .1) nearest by image and by caption.

    Positions among the pairs, [n, 2]; -1 where there is none but twins of the pair, which is its own twin. O(n c (q +
    dt + s)).
    """
    certain = np.nonzero(1 - pairs.noise_prob > np.float32(CERTAIN_WEIGHT))[0]
    entries = np.full((len(pairs.noise_prob), 2), -1)
    for block in blocks(len(entries)) if len(certain) else ():
        rows = np.arange(block.start, block.stop)
        twins = _twins(pairs.features, rows, certain)
        for side, unit in enumerate((pairs.features.image_unit, pairs.features.text)):
            cosine = np.where(twins, -np.inf, unit[rows] @ unit[certain].T)
            entries[rows, side] = np.where(twins.all(axis=1), -1, certain[cosine.argmax(axis=1)])
    return entries


def _twins(features: Features, rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Whether pairs have (nearly) the same picture or caption as others, bool [rows, others]."""
    one, two = features.take(rows), features.take(others)
    return near(one.sketch, two.sketch) | (one.caption @ two.caption.T > NEAR_TEXT_COSINE)
