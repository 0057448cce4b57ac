"""NLIP's signal: the contrastive loss of a pair under heads warmed up for a few epochs on the noisy corpus.

Networks fit clean pairs before they memorize wrong ones (memorization effect), so after a short warm-up a large loss
hints at a mismatch. How short is corpus-dependent: 3 epochs suit 9,000 clipart pairs; on 2,000 photographs 8 are
already far too many. This is why the mixture does not rest on this signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.models.threads import one_torch_thread
from curate.noise.agreement import Projected
from curate.noise.features import Features
from curate.noise.grouping import near
from curate.noise.similarity import NEAR_TEXT_COSINE, Floats, unit_rows

if TYPE_CHECKING:
    import torch

HEAD_DIMENSIONS = 256
TEMPERATURE = 0.07
BATCH = 512
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Heads:
    """Linear heads over frozen features, z = L2(x W): a view, but one that was trained on the pairs it scores.

    Attributes:
        image_map, text_map: W, float32 [q, 256], [dt, 256].
    """

    image_map: Floats
    text_map: Floats

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return unit_rows(features.image @ self.image_map)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return unit_rows(features.text @ self.text_map)


def itc_loss(pairs: Projected, features: Features, negatives: Projected, negative_features: Features) -> Floats:
    """NLIP's per-pair loss (Huang et al., AAAI 2023, arXiv 2212.07086), against fixed negatives.

    l_i = 1/2 (-log softmax_j(s_ij / tau)[i] - log softmax_j(s_ji / tau)[i]), tau = .07, j over the pair itself and all
    negatives but its twins (same picture or caption). float32 [n], >= 0, higher is noisier; O(n negatives 256).

    Pairs of the sample were trained on, as published. For pairs outside it the heads have memorized nothing: their
    loss is a held-out loss, on the whole larger, and only comparable with that of other pairs outside the sample.

    Args:
        pairs, features: a chunk of pairs in the heads' space and their features.
        negatives, negative_features: likewise of the fixed negatives.
    """
    own = pairs.similarity() / np.float32(TEMPERATURE)
    twin = near(features.sketch, negative_features.sketch)
    twin |= features.caption @ negative_features.caption.T > NEAR_TEXT_COSINE
    to_texts, to_images = pairs.image @ negatives.text.T, pairs.text @ negatives.image.T
    logged = [_log_sum_exp(own, np.where(twin, -np.inf, s / np.float32(TEMPERATURE))) for s in (to_texts, to_images)]
    return np.maximum(np.float32(0.5) * (logged[0] + logged[1]) - own, np.float32(0))


def _log_sum_exp(own: Floats, others: Floats) -> Floats:
    highest = np.maximum(own, others.max(axis=1, initial=-np.inf))
    total: Floats = np.exp(own - highest) + np.exp(others - highest[:, None]).sum(axis=1)
    logged: Floats = highest + np.log(total)
    return logged


def warm_up(image: Floats, text: Floats, epochs: int, seed: int) -> Heads:
    """Train both heads with plain InfoNCE on the noisy sample, every pair trusted alike (NLIP's warm-up).

    Adam, learning rate 1e-3, batches of 512, temperature .07 fixed, single thread, own generator.
    O(epochs n (q + dt + 512) 256).

    Args:
        image, text: features, float32 [n, q], [n, dt].
        epochs: passes over the sample; see the module's warning.
        seed: of initial weights and batch order.
    """
    import torch

    with one_torch_thread():
        generator = torch.Generator().manual_seed(seed % 2**63)
        heads = [_initial_head(features.shape[1], generator) for features in (image, text)]
        optimiser = torch.optim.Adam(heads, lr=LEARNING_RATE)
        for _ in range(epochs):
            for batch in torch.randperm(len(image), generator=generator).split(BATCH):  # type: ignore[no-untyped-call]
                rows = batch.numpy()
                z = torch.nn.functional.normalize(torch.from_numpy(image[rows]) @ heads[0], dim=1)
                u = torch.nn.functional.normalize(torch.from_numpy(text[rows]) @ heads[1], dim=1)
                scores, own = z @ u.T / TEMPERATURE, torch.arange(len(batch))
                loss = torch.nn.functional.cross_entropy(scores, own) + torch.nn.functional.cross_entropy(
                    scores.T, own
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return Heads(*(head.detach().numpy().copy() for head in heads))


def _initial_head(width: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    head: torch.Tensor = torch.randn(width, HEAD_DIMENSIONS, generator=generator) / width**0.5
    return head.requires_grad_()
