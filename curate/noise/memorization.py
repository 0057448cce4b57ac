"""NLIP's signal: the contrastive loss of a pair under heads warmed up for a few epochs on the noisy corpus.

Networks fit clean pairs before they memorize wrong ones (memorization effect), so after a short warm-up a large loss
hints at a mismatch. How short is corpus-dependent: 3 epochs suit 9,000 clipart pairs; on 2,000 photographs 8 are
already far too many. This is why the mixture does not rest on this signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.noise.similarity import Floats, Pairs, against_bank, centred_unit_rows, map_rows, unit_rows

if TYPE_CHECKING:
    import torch

HEAD_DIMENSIONS = 256
TEMPERATURE = 0.07
BATCH = 512
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Heads:
    """Linear heads over frozen embeddings, z = L2(L2(L2(x) - mean) W), and the pairs they are contrasted with.

    Attributes:
        image_mean, text_mean: of the L2-normalised sample, float32 [dv], [dt].
        image_map, text_map: W, float32 [dv, 256], [dt, 256].
        negatives: at most 1,024 pairs of the sample in the heads' space.
    """

    image_mean: Floats
    text_mean: Floats
    image_map: Floats
    text_map: Floats
    negatives: Pairs

    def pairs(self, image: Floats, text: Floats, sketch: Floats) -> Pairs:
        """Embeddings in the heads' space."""
        return Pairs(
            map_rows(lambda chunk: unit_rows(centred_unit_rows(chunk, self.image_mean) @ self.image_map), image),
            map_rows(lambda chunk: unit_rows(centred_unit_rows(chunk, self.text_mean) @ self.text_map), text),
            sketch,
            unit_rows(text),
        )


def itc_loss(pairs: Pairs, negatives: Pairs) -> Floats:
    """NLIP's per-pair loss (Huang et al., AAAI 2023, arXiv 2212.07086), against fixed negatives.

    l_i = 1/2 (-log softmax_j(s_ij / tau)[i] - log softmax_j(s_ji / tau)[i]), tau = .07, j over the pair itself and all
    negatives but its twins (same picture or caption). float32 [n], >= 0, higher is noisier; O(n negatives 256).

    Pairs of the sample were trained on, as published. For pairs outside it the heads have memorized nothing: their
    loss is a held-out loss, on the whole larger, and only comparable with that of other pairs outside the sample.
    """
    own = pairs.similarity() / np.float32(TEMPERATURE)
    loss = np.empty(len(pairs), dtype=np.float32)
    for part, compared in against_bank(pairs, negatives):
        count = part.stop - part.start
        for_image = _log_sum_exp(own[part], compared.to_texts[:count] / np.float32(TEMPERATURE))
        for_text = _log_sum_exp(own[part], compared.to_images[:count] / np.float32(TEMPERATURE))
        loss[part] = np.float32(0.5) * (for_image + for_text) - own[part]
    return np.maximum(loss, np.float32(0))


def _log_sum_exp(own: Floats, others: Floats) -> Floats:
    highest = np.maximum(own, others.max(axis=1, initial=-np.inf))
    total: Floats = np.exp(own - highest) + np.exp(others - highest[:, None]).sum(axis=1)
    logged: Floats = highest + np.log(total)
    return logged


def warm_up(
    image: Floats, text: Floats, image_mean: Floats, text_mean: Floats, epochs: int, seed: int
) -> tuple[Floats, Floats]:
    """Train both heads with plain InfoNCE on the noisy sample, every pair trusted alike (NLIP's warm-up).

    Adam, learning rate 1e-3, batches of 512, temperature .07 fixed, single thread, own generator.
    O(epochs n (dv + dt + 512) 256).

    Args:
        image, text: embeddings, float32 [n, dv], [n, dt].
        image_mean, text_mean: of the L2-normalised rows, float32 [dv], [dt].
        epochs: passes over the sample; see the module's warning.
        seed: of initial weights and batch order.

    Returns:
        float32 [dv, 256], [dt, 256].
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(seed % 2**63)
        heads = [_initial_head(features.shape[1], generator) for features in (image, text)]
        optimiser = torch.optim.Adam(heads, lr=LEARNING_RATE)
        for _ in range(epochs):
            for batch in torch.randperm(len(image), generator=generator).split(BATCH):  # type: ignore[no-untyped-call]
                rows = batch.numpy()
                images = torch.from_numpy(centred_unit_rows(image[rows], image_mean))
                texts = torch.from_numpy(centred_unit_rows(text[rows], text_mean))
                z = torch.nn.functional.normalize(images @ heads[0], dim=1)
                u = torch.nn.functional.normalize(texts @ heads[1], dim=1)
                scores, own = z @ u.T / TEMPERATURE, torch.arange(len(batch))
                loss = torch.nn.functional.cross_entropy(scores, own) + torch.nn.functional.cross_entropy(
                    scores.T, own
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return heads[0].detach().numpy().copy(), heads[1].detach().numpy().copy()
    finally:
        torch.set_num_threads(threads)


def _initial_head(width: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    head: torch.Tensor = torch.randn(width, HEAD_DIMENSIONS, generator=generator) / width**0.5
    return head.requires_grad_()
