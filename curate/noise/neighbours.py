"""LEMoN: do similar images have similar captions, and similar captions similar images?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.noise.references import Batch, Compared, References, map_compared
from curate.noise.similarity import Bools, Floats

NEIGHBOURS = 30
LEMON_BETA = 5.0
LEMON_TAU_1 = 0.1
LEMON_TAU_2 = 5.0
WEIGHTED_BETA = 0.2
CLOSENESS_TAU = 0.1
_SMALLEST_WEIGHT = np.float32(1e-6)


def neighbour_disagreement(batch: Batch, references: References) -> Floats:
    """LEMoN's score with its fixed parameters, for which no labels are needed; d = 1 - cosine.

    With n the 30 references whose images are most similar to v_i, and m the 30 whose texts are most similar to t_i:

        s_n = 1/30 sum_n exp(-tau_1 D_n) exp(-tau_2 d(v_n, t_n)) d(t_i, t_n),   D_n = -cos(v_i, v_n),
        s_m = 1/30 sum_m exp(-tau_1 D_m) exp(-tau_2 d(v_m, t_m)) d(v_i, v_m),   D_m = -cos(t_i, t_m),
        score = d(v_i, t_i) + beta s_n + gamma s_m,   beta = gamma = 5, tau_1 = .1, tau_2 = 5.

    Zhang et al., "LEMoN: Label Error Detection using Multimodal Neighbors" (ICML 2025, arXiv 2407.18941). D is a
    distance in the paper and minus the cosine in the released code for cosine distances, 1 less: mirrored here. The
    pair itself and its twins are left out; where fewer than 30 references remain, the mean is over those, and 0 over
    none. Which of several references that tie for the 30th place counts is up to np.argpartition.

    Space: similarities within a modality in its own space, d(v_i, t_i) and `agreement` in the towers' joint one, else
    in the cross-fitted one. float32 [n], in [0, 24.2], higher is noisier; O(n (m + 30)) beside the cosines.
    """
    return map_compared(lambda compared: of_chunk(compared, references), batch, references)


def of_chunk(compared: Compared, references: References) -> Floats:
    """`neighbour_disagreement` of compared pairs, float32 [rows]."""
    by_image = _lemon_mean(_neighbourhood(compared.image, compared.text, references))
    by_text = _lemon_mean(_neighbourhood(compared.text, compared.image, references))
    return _own_distance(compared) + np.float32(LEMON_BETA) * (by_image + by_text)


def weighted_neighbour_disagreement(batch: Batch, references: References) -> Floats:
    """LEMoN's idea with averages in which close and clean neighbours count more (ours).

    With the neighbours n and m of `neighbour_disagreement` and omega_n = weight_n exp(cos(v_i, v_n) / tau), tau = .1:

        s_n = sum_n omega_n d(t_i, t_n) / sum_n omega_n,   s_m likewise, omega_m = weight_m exp(cos(t_i, t_m) / tau),
        score = d(v_i, t_i) + .2 (s_n + s_m).

    `weight` takes the place of LEMoN's discount exp(-tau_2 d(v_n, t_n)). That one is not normalised: a pair whose
    neighbours agree badly looks clean by it, and how much neighbours count hangs on how well the towers are aligned.
    .2 is about what 5 exp(-5 d) comes to at the distances of CLIP's clean pairs. Weights below 1e-6 count as 1e-6:
    neighbours none of which is clean are averaged as if all were alike. 0 over no neighbours.

    Space: as `neighbour_disagreement`. float32 [n], in [0, 2.8], higher is noisier; O(n (m + 30)) beside the cosines.
    """
    return map_compared(lambda compared: weighted_of_chunk(compared, references), batch, references)


def weighted_of_chunk(compared: Compared, references: References) -> Floats:
    """`weighted_neighbour_disagreement` of compared pairs, float32 [rows]."""
    by_image = _clean_mean(_neighbourhood(compared.image, compared.text, references))
    by_text = _clean_mean(_neighbourhood(compared.text, compared.image, references))
    return _own_distance(compared) + np.float32(WEIGHTED_BETA) * (by_image + by_text)


@dataclass(frozen=True)
class _Neighbourhood:
    """The references most similar in one modality, float32 [rows, k].

    Attributes:
        cosine: similarity in that modality, 0 where there is no such neighbour.
        distance: 1 - cosine in the other modality, 0 where there is no such neighbour.
        agreement, weight: of the reference.
        found: False where twins left fewer than k, bool [rows, k].
    """

    cosine: Floats
    distance: Floats
    agreement: Floats
    weight: Floats
    found: Bools


def _neighbourhood(near: Floats, other: Floats, references: References) -> _Neighbourhood:
    """Neighbours by one modality's cosines, compared by the other's; in the order of the references."""
    width = near.shape[1]
    beyond = width - min(NEIGHBOURS, width)
    position = np.sort(np.argpartition(near, beyond, axis=1)[:, beyond:], axis=1)
    cosine = np.take_along_axis(near, position, axis=1)
    found = np.isfinite(cosine)
    return _Neighbourhood(
        cosine=np.where(found, cosine, np.float32(0)),
        distance=np.where(found, np.float32(1) - np.take_along_axis(other, position, axis=1), np.float32(0)),
        agreement=references.agreement[position],
        weight=references.weight[position],
        found=found,
    )


def _lemon_mean(near: _Neighbourhood) -> Floats:
    closeness = np.exp(np.float32(LEMON_TAU_1) * near.cosine)
    trust = np.exp(np.float32(LEMON_TAU_2) * (near.agreement - np.float32(1)))
    total = (closeness * trust * near.distance).sum(axis=1)
    mean: Floats = total / np.maximum(near.found.sum(axis=1), 1).astype(np.float32)
    return mean


def _clean_mean(near: _Neighbourhood) -> Floats:
    # A cosine is at most 1, give or take rounding: the exponent is never large.
    closeness = np.exp((near.cosine - np.float32(1)) / np.float32(CLOSENESS_TAU))
    omega = np.where(near.found, np.maximum(near.weight, _SMALLEST_WEIGHT) * closeness, np.float32(0))
    total = omega.sum(axis=1)
    mean: Floats = (omega * near.distance).sum(axis=1) / np.where(total > 0, total, np.float32(1))
    return mean


def _own_distance(compared: Compared) -> Floats:
    distance: Floats = np.float32(1) - compared.own
    return distance
