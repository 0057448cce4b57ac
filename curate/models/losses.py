"""Losses of the methods whose annotations curate writes, for any trainer: InfoNCE, SigLIP, NLIP, NPC and DSDMR.

All are functions of a batch's similarities, so that they fit any model. Rows are images, columns captions, the
diagonal holds the pairs. Per-pair hints are columns of the annotations: `smoothing`, `weight`, `margin_image`,
`margin_text`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

NPC_MEMORY_WEIGHT = 1.0
MARGIN_IMAGE = 0.3
MARGIN_TEXT = 0.2
SEPARATION = 3.0
_SMALLEST_VARIANCE = 1e-12


def itc_losses(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """Per-pair contrastive loss, l_i = 1/2 (-log softmax_j(logits_ij)[i] - log softmax_j(logits_ji)[i]).

    In nats, >= 0; float [n].

    Args:
        logits: similarities over the temperature, float [n, n].
        same: bool [n, n], off the diagonal: pairs that match although they are not each other's (one picture, one
            caption, or one pair twice). They are no negatives. None: there are none.

    Raises:
        ValueError: the logits are not square, or `same` has another shape.
    """
    to_text, to_image = _log_probabilities(logits, same)
    return -(to_text.diagonal() + to_image.diagonal()) / 2


def info_nce(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """Mean of `itc_losses` (CLIP: Radford et al., ICML 2021, figure 3). A scalar."""
    return itc_losses(logits, same).mean()


def siglip(logits: Tensor) -> Tensor:
    """Sigmoid loss, - 1/n sum_ij log sigmoid(z_ij logits_ij), z = 1 on the diagonal, else -1. A scalar.

    Zhai et al., ICCV 2023, section 3.2.

    Args:
        logits: t s_ij + b with the learned scale and bias, float [n, n].

    Raises:
        ValueError: the logits are not square.
    """
    _check_square(logits)
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -logsigmoid(sign * logits).sum() / len(logits)


def noise_adaptive_itc(logits: Tensor, smoothing: Tensor, same: Tensor | None = None) -> Tensor:
    """NLIP's contrastive loss: the less a pair is trusted, the flatter its target. A scalar.

    With q_ij = softmax_j(logits_ij) and omega_i = lambda noise_prob_i, for an image
    l_i = -(1 - omega_i) log q_ii - omega_i / (n_i) sum_{j != i} log q_ij over its n_i negatives, likewise for a
    caption; the mean of both over the batch. Huang et al., AAAI 2023 (arXiv 2212.07086), "noise-adaptive
    regularization"; omega's form as its follow-up NEVLP (arXiv 2409.09582) states it. Smoothing 0 is `info_nce`.

    Args:
        logits: similarities over the temperature, float [n, n].
        smoothing: omega, column `smoothing`, in [0, 1], [n].
        same: see `itc_losses`.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_rows(logits, smoothing=smoothing)
    losses = [_smoothed(log_q, smoothing, same) for log_q in _log_probabilities(logits, same)]
    return (losses[0] + losses[1]).mean() / 2


def npc(
    logits: Tensor,
    weight: Tensor,
    memory_logits: Tensor,
    memory_entries: Tensor,
    memory_weight: float = NPC_MEMORY_WEIGHT,
    same: Tensor | None = None,
) -> Tensor:
    """NPC's loss: each pair by its confidence, and the memory bank's entries of the batch learned beside. A scalar.

    L = 1/n sum_i w_i l_i + memory_weight L_bank, with l_i as in `itc_losses` and L_bank the mean loss of the batch's
    memory entries. Zhang et al., AAAI 2024 (arXiv 2312.05777). As the paper has it, not as its released code: there
    the weights multiply a loss that is already averaged, so that all pairs count alike, and the bank's term carries
    no gradient.

    Args:
        logits: of the batch, similarities over the temperature, float [n, n].
        weight: column `weight`, in [0, 1], [n].
        memory_logits: of the batch's memory entries, certainly clean pairs, float [m, m].
        memory_entries: which pair each entry is, any numbers, [m]: two pairs of the batch may have the same entry, and
            its copies are no negatives of each other.
        memory_weight: of the bank's term.
        same: see `itc_losses`.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_rows(logits, weight=weight)
    _check_rows(memory_logits, memory_entries=memory_entries)
    copies = memory_entries[:, None] == memory_entries[None, :]
    bank = itc_losses(memory_logits, copies).mean()
    return (weight * itc_losses(logits, same)).mean() + memory_weight * bank


def dsdmr(
    similarity: Tensor,
    margin_image: Tensor,
    margin_text: Tensor,
    kept: Tensor | None = None,
    same: Tensor | None = None,
) -> Tensor:
    """Ranking loss with a margin of its own for every pair, against the hardest negative. A scalar.

    L = mean over kept i of [m_i^I + max_j s_ij - s_ii]_+ + [m_i^T + max_j s_ji - s_ii]_+, j != i.

    Shi et al., TOIS 2024 ("Breaking Through the Noisy Correspondence"). Confirmed: a ranking loss on CLIP cosines,
    base margins .3 with an image as anchor and .2 with a caption, margins that follow where the pair lies between the
    two Gaussians, training on the clean part only. The formula is not public; hardest negatives and the margin's
    curve (10^p - 1) / 9, that of NCR (NeurIPS 2021), are ours: see `dynamic_margins`.

    Args:
        similarity: cosines, not divided by a temperature, float [n, n].
        margin_image, margin_text: columns of that name, or `dynamic_margins`, [n].
        kept: bool [n], which pairs of the batch are anchors; None: all. Others still are negatives. 0 if none is kept.
        same: see `itc_losses`.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_rows(similarity, margin_image=margin_image, margin_text=margin_text)
    negatives = similarity.masked_fill(_not_negatives(similarity, same), -torch.inf)
    own = similarity.diagonal()
    by_image = (margin_image + negatives.max(dim=1).values - own).clamp(min=0)
    by_text = (margin_text + negatives.max(dim=0).values - own).clamp(min=0)
    losses = by_image + by_text
    if kept is None:
        return losses.mean()
    _check_rows(similarity, kept=kept)
    return torch.where(kept, losses, torch.zeros_like(losses)).sum() / kept.sum().clamp(min=1)


def dynamic_margins(
    clean_probability: Tensor, image: float = MARGIN_IMAGE, text: float = MARGIN_TEXT
) -> tuple[Tensor, Tensor]:
    """Margins by the posterior of being clean, base (10^p - 1) / 9, for `dsdmr`; each [n] for p in [0, 1], [n]."""
    share = (10**clean_probability - 1) / 9
    return image * share, text * share


def distribution_gap(own_similarity: Tensor, noise_prob: Tensor, separation: float = SEPARATION) -> Tensor:
    """Optional term of `dsdmr`: keeps the two heaps of similarities apart, [separation - d']_+. A scalar.

    d' = (mu_c - mu_n) / sqrt(sigma_c^2 + sigma_n^2), moments of the pairs' own similarities weighted by
    1 - noise_prob and by noise_prob. That the loss drives the two distributions apart is confirmed; this form is ours.
    0 where all of the batch is certainly clean or certainly noise.

    Args:
        own_similarity: cosines of the pairs themselves, float [n].
        noise_prob: in [0, 1], [n].
        separation: d' from which on nothing is asked.
    """
    clean, noise = 1 - noise_prob, noise_prob
    if float(clean.sum()) <= 0 or float(noise.sum()) <= 0:
        return own_similarity.sum() * 0
    (clean_mean, clean_variance), (noise_mean, noise_variance) = (
        _moments(own_similarity, weights) for weights in (clean, noise)
    )
    spread = (clean_variance + noise_variance).clamp(min=_SMALLEST_VARIANCE).sqrt()
    return (separation - (clean_mean - noise_mean) / spread).clamp(min=0)


def _moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = (weights * values).sum() / weights.sum()
    return mean, (weights * (values - mean) ** 2).sum() / weights.sum()


def _log_probabilities(logits: Tensor, same: Tensor | None) -> tuple[Tensor, Tensor]:
    """log q of every caption given an image, and of every image given a caption, rows being the given; [n, n] each."""
    _check_square(logits)
    if same is not None:
        off = _not_negatives(logits, same) & ~_diagonal(logits)
        logits = logits.masked_fill(off, -torch.inf)
    return logits.log_softmax(dim=1), logits.T.log_softmax(dim=1)


def _smoothed(log_q: Tensor, smoothing: Tensor, same: Tensor | None) -> Tensor:
    left_out = _not_negatives(log_q, same)
    negatives = log_q.masked_fill(left_out, 0.0).sum(dim=1) / (~left_out).sum(dim=1).clamp(min=1)
    return -(1 - smoothing) * log_q.diagonal() - smoothing * negatives


def _not_negatives(square: Tensor, same: Tensor | None) -> Tensor:
    """The diagonal, and what matches beside it. Matching is mutual: `same` counts either way round."""
    own = _diagonal(square)
    if same is None:
        return own
    if same.shape != square.shape:
        raise ValueError(f"same has the shape {tuple(same.shape)}, the similarities {tuple(square.shape)}")
    return own | same | same.T


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)


def _check_square(similarities: Tensor) -> None:
    if similarities.ndim != 2 or similarities.shape[0] != similarities.shape[1]:
        raise ValueError(f"similarities must be square, images by captions; these are {tuple(similarities.shape)}")


def _check_rows(similarities: Tensor, **columns: Tensor) -> None:
    _check_square(similarities)
    for name, column in columns.items():
        if column.shape != similarities.shape[:1]:
            raise ValueError(
                f"{name} needs one value for each of {len(similarities)} pairs, not {tuple(column.shape)}"
            )
