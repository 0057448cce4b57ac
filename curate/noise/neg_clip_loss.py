"""negCLIPLoss: the similarity of a pair, less what its image and its caption score with anything."""

from __future__ import annotations

import numpy as np

from curate.noise.references import Batch, Compared, Positions, References, map_compared
from curate.noise.similarity import Floats, map_rows

CLIP_TEMPERATURE = 0.01
CROSSFIT_TEMPERATURE = 0.07
_SMALLEST_SUM = np.float32(np.finfo(np.float32).tiny)


def neg_clip_loss(
    batch: Batch, references: References, batches: Positions, temperature: float = CLIP_TEMPERATURE
) -> Floats:
    """ncl_i = mean over K batches B of (s_ii - R_i), which is -tau times the symmetric CLIP loss of the pair in B.

    R_i = tau/2 (log sum_{j in B} exp(s_ij / tau) + log sum_{j in B} exp(s_ji / tau)), the pair itself always among B,
    its twins never. Wang et al., "CLIPLoss and Norm-Based Data Selection Methods for Multimodal Contrastive Learning"
    (NeurIPS 2024, arXiv 2405.19547; s-CLIPLoss there). Published: batches of 32,768 drawn from the pool, K >= 5. Here:
    batches of the references, drawn once, so that a score depends on the pair alone.

    Space: the towers' own if they were trained together (tau = .01), else the cross-fitted one (tau = .07). float32
    [n], at most 0, higher is cleaner. Below -.87 at tau = .01 the loss may be overstated: sums that are smaller than
    the largest term by more than e^87 underflow. O(n m K) beside the similarities: the K batches share them.

    Args:
        batch, references: pairs to be scored and those they are compared with.
        batches: see `draw_batches`.
        temperature: tau.
    """
    return map_compared(lambda compared: of_chunk(compared, batches, temperature), batch, references)


def draw_batches(references: int, batches: int, size: int, rng: np.random.Generator) -> Positions:
    """Positions of the references in each batch, without repetition within one; int32 [K, B].

    Args:
        references: how many there are.
        batches: K. Batches differ only if they leave out some references.
        size: B, at most all references.
        rng: the generator of this draw.
    """
    drawn = [np.sort(rng.permutation(references)[:size]) for _ in range(batches)]
    return np.stack(drawn).astype(np.int32)


def of_chunk(compared: Compared, batches: Positions, temperature: float) -> Floats:
    """`neg_clip_loss` of compared pairs, float32 [rows]."""
    member = np.zeros((compared.to_texts.shape[1], len(batches)), dtype=np.float32)
    member[batches, np.arange(len(batches))[:, None]] = 1
    both = _mean_log_sum(compared.own, compared.to_texts, member, temperature) + _mean_log_sum(
        compared.own, compared.to_images, member, temperature
    )
    return np.minimum(compared.own - np.float32(temperature / 2) * both, np.float32(0))


def _mean_log_sum(own: Floats, others: Floats, member: Floats, temperature: float) -> Floats:
    """Mean over batches of log(exp(own / tau) + sum over members of exp(others / tau)), float32 [rows]."""
    tau = np.float32(temperature)
    highest = np.maximum(own, others.max(axis=1))
    sums = map_rows(lambda terms: terms @ member, np.exp((others - highest[:, None]) / tau))
    sums += np.exp((own - highest) / tau)[:, None]
    mean: Floats = highest / tau + np.log(np.maximum(sums, _SMALLEST_SUM)).mean(axis=1)
    return mean
