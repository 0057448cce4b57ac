"""NPC: would learning a pair make a model better or worse at the clean pairs nearest to it?

Published, the answer takes one optimiser step of a siamese network per batch: `virtual_update` does that. With frozen
embeddings and a bilinear head, and learning the pair alone, it has a closed form, which is what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.noise.references import Batch, Compared, Positions, References, compare
from curate.noise.similarity import Floats, map_rows

# AUROC at 40 % exchanged captions: CLIP on photographs .59 at .01, .86 at .07; cross-fitted on clipart .73 at .07, .82
# at .15, and no better beyond.
CLIP_TEMPERATURE = 0.07
CROSSFIT_TEMPERATURE = 0.15
CERTAIN_WEIGHT = 0.9
STEP = 0.1
_SMALLEST_LOSS = np.float32(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class MemoryBank:
    """The references that are certainly clean, with their losses and gradients under the untouched head.

    Attributes:
        position: which references they are, ascending, int32 [c]; none if no reference is certain enough.
        image, text: their embeddings in the joint space, float32 [c, j].
        text_pull, image_pull: a_c = tbar_c - t_c and b_c = vbar_c - v_c, see `negative_impact`, float32 [c, j].
        loss: 1/2 (CE_i2t + CE_t2i), float32 [c].
        temperature: tau that they were made with.
    """

    position: Positions
    image: Floats
    text: Floats
    text_pull: Floats
    image_pull: Floats
    loss: Floats
    temperature: float


@dataclass(frozen=True)
class NegativeImpact:
    """What `negative_impact` knows of every pair.

    Attributes:
        ratio: r, loss of the memory entries before over after the virtual step; above 1 the pair helps them, below 1
            it harms them. Higher is cleaner. float32 [n], in [1 / (1 + 4 step), 1 / (1 - 4 step)].
        weight: NPC's sample weight, tanh(r) below 1, else 1: with step = .1 it is 1 or lies in [.61, .77), in practice
            .76. Little more than the sign of the impact, never near 0; and where all embeddings of a modality lie in a
            narrow cone, as CLIP's do, most mismatched pairs have r above 1 too. Higher is cleaner. float32 [n].
        memory_image: position among the references of the certainly clean pair with the most similar image, -1 if
            there is none but twins; int32 [n].
        memory_text: likewise with the most similar text.
    """

    ratio: Floats
    weight: Floats
    memory_image: Positions
    memory_text: Positions


def fit_memory_bank(references: References, temperature: float, threshold: float = CERTAIN_WEIGHT) -> MemoryBank:
    """Losses and gradients of the references whose weight exceeds `threshold`. O(m c (d + j)).

    Published: threshold .9 on the posterior of the cleaner component of a Gaussian mixture over the losses.
    """
    position = np.nonzero(references.weight > np.float32(threshold))[0]
    certain = references.take(position)
    gradients = [_gradients(compared, references, temperature) for _, compared in compare(certain, references)]
    width = references.joint_text.shape[1]
    return MemoryBank(
        position=position.astype(np.int32),
        image=certain.joint_image,
        text=certain.joint_text,
        text_pull=_stacked([g.text_pull for g in gradients], width),
        image_pull=_stacked([g.image_pull for g in gradients], width),
        loss=_stacked([g.loss[:, None] for g in gradients], 1)[:, 0],
        temperature=temperature,
    )


def negative_impact(batch: Batch, references: References, memory: MemoryBank, step: float = STEP) -> NegativeImpact:
    """Effect of learning pair i alone on its two memory entries: the certainly clean pairs nearest by image, by text.

    "Negative Pre-aware for Noisy Cross-modal Matching" (NPC, AAAI 2024, arXiv 2312.05777). Frozen embeddings v, t and
    a bilinear head W: s_ij = v_i (I + W) t_j / tau, at W = 0. L_i = 1/2 (CE_i2t + CE_t2i) over the pair itself and all
    references but its twins, q_ij = softmax_j(s_ij), tbar_i = sum_j q_ij t_j, vbar_i = sum_j q_ji v_j with the softmax
    over images, a_i = tbar_i - t_i, b_i = vbar_i - v_i. Then g_i = grad_W L_i = (v_i a_i^T + b_i t_i^T) / (2 tau) and

        <g_i, g_c> = 1 / (4 tau^2) [(v_i . v_c) (a_i . a_c) + (t_i . t_c) (b_i . b_c)
                                  + (v_i . b_c) (a_i . t_c) + (b_i . v_c) (t_i . a_c)],
        r_i = mean over both entries c of L_c / (L_c - eta <g_i, g_c>),   w_i = tanh(r_i) if r_i < 1 else 1.

    A pair whose step lowers the entries' loss has r above 1; one that the head has learnt already has next to no
    gradient, and r near 1. Mismatched pairs have the lower ratios. eta = step tau^2: as |a_c| <= 2 (1 - q_cc) <= 2
    CE_i2t(c), and likewise b_c, the step changes L_c by at most 4 step L_c; with step < 1/4 the ratio is positive and
    bounded. A memory entry that does not exist, for nothing but twins is certain, counts as r = 1.

    Published: one optimiser step of a siamese CLIP on the pair's whole batch, see `virtual_update`. Here: first order,
    on the pair alone. Rank correlation of the two, 40 % exchanged captions, same space and same memory entries, a real
    step of the same head on the pair alone: .97 on photographs, .91 on clipart, .90 on CLIP's Flickr8k. On the whole
    batch: .36, .42, .14, where r hardly tells mismatches at all (AUROC .63, .67, .50; here .96, .86, .81): there it is
    the batch's effect, and of the pair it holds only which entries it has. docs/noise.md has the table.

    Space: the towers' own if they were trained together, else the cross-fitted one; the entries are sought within each
    modality's own space. At tau = .01, as CLIP was trained, hardly a pair has any gradient left; larger ones tell
    mismatches better, see CLIP_TEMPERATURE, CROSSFIT_TEMPERATURE. O(n m j) beside the similarities.

    Args:
        batch, references: pairs to be scored and those they are compared with.
        memory: `fit_memory_bank` of the same references; holds tau.
        step: eta / tau^2, in (0, .25).
    """
    ratio, weight = np.empty(len(batch), dtype=np.float32), np.empty(len(batch), dtype=np.float32)
    by_image, by_text = np.empty(len(batch), dtype=np.int32), np.empty(len(batch), dtype=np.int32)
    for part, compared in compare(batch, references):
        impact = of_chunk(compared, references, memory, step)
        ratio[part], weight[part] = impact.ratio, impact.weight
        by_image[part], by_text[part] = impact.memory_image, impact.memory_text
    return NegativeImpact(ratio, weight, by_image, by_text)


def of_chunk(compared: Compared, references: References, memory: MemoryBank, step: float = STEP) -> NegativeImpact:
    """`negative_impact` of compared pairs, arrays of [rows]."""
    gradients = _gradients(compared, references, memory.temperature)
    by_image, image_ratio = _ratio(compared.pairs, gradients, memory, _most_similar(compared.image, memory), step)
    by_text, text_ratio = _ratio(compared.pairs, gradients, memory, _most_similar(compared.text, memory), step)
    ratio = np.float32(0.5) * (image_ratio + text_ratio)
    return NegativeImpact(ratio, confidence_weight(ratio), memory_image=by_image, memory_text=by_text)


def confidence_weight(ratio: Floats) -> Floats:
    """NPC's sample weight: tanh(r) where learning the pair harms its memory entries (r < 1), else 1. float32 [n]."""
    weight: Floats = np.where(ratio < 1, np.tanh(ratio), np.float32(1))
    return weight


def _ratio(
    pairs: Batch, gradients: _Gradients, memory: MemoryBank, entry: NDArray[np.intp], step: float
) -> tuple[Positions, Floats]:
    """Each row's memory entry as a position among the references, int32, and L_c / (L_c - eta <g_i, g_c>), float32."""
    position = np.full(len(entry), -1, dtype=np.int32)
    ratio = np.ones(len(entry), dtype=np.float32)
    rows = np.nonzero(entry >= 0)[0]
    found = entry[rows]
    position[rows] = memory.position[found]
    relative_gain = _inner_product(pairs, gradients, memory, rows, found) / np.maximum(
        memory.loss[found], _SMALLEST_LOSS
    )
    ratio[rows] = np.float32(1) / (np.float32(1) - np.float32(step) * relative_gain)
    return position, ratio


def _most_similar(cosines: Floats, memory: MemoryBank) -> NDArray[np.intp]:
    """Memory entry with the largest cosine for every row, -1 where there is none but twins; [rows]."""
    if not len(memory.position):
        return np.full(len(cosines), -1, dtype=np.intp)
    certain = cosines[:, memory.position]
    return np.where(np.isfinite(certain.max(axis=1)), certain.argmax(axis=1), -1)


def _inner_product(
    pairs: Batch, gradients: _Gradients, memory: MemoryBank, rows: NDArray[np.intp], entry: NDArray[np.intp]
) -> Floats:
    """tau^2 <g_i, g_c> of some rows and their memory entries, float32 [len(rows)]."""
    v, t, a, b = pairs.joint_image[rows], pairs.joint_text[rows], gradients.text_pull[rows], gradients.image_pull[rows]
    v_c, t_c, a_c, b_c = memory.image[entry], memory.text[entry], memory.text_pull[entry], memory.image_pull[entry]
    within = _row_dot(v, v_c) * _row_dot(a, a_c) + _row_dot(t, t_c) * _row_dot(b, b_c)
    across = _row_dot(v, b_c) * _row_dot(a, t_c) + _row_dot(b, v_c) * _row_dot(t, a_c)
    product: Floats = np.float32(0.25) * (within + across)
    return product


def _row_dot(a: Floats, b: Floats) -> Floats:
    product: Floats = (a * b).sum(axis=1)
    return product


@dataclass(frozen=True)
class _Gradients:
    """Loss of pairs and the two vectors that make up its gradient, see `negative_impact`."""

    text_pull: Floats
    image_pull: Floats
    loss: Floats


def _gradients(compared: Compared, references: References, temperature: float) -> _Gradients:
    pairs = compared.pairs
    to_text = _pull(compared.own, compared.to_texts, pairs.joint_text, references.joint_text, temperature)
    to_image = _pull(compared.own, compared.to_images, pairs.joint_image, references.joint_image, temperature)
    return _Gradients(to_text[0], to_image[0], np.float32(0.5) * (to_text[1] + to_image[1]))


def _pull(
    own: Floats, others: Floats, target: Floats, candidates: Floats, temperature: float
) -> tuple[Floats, Floats]:
    """Softmax-weighted mean of target and candidates, less the target, float32 [rows, j]; and cross entropy, [rows].

    Written with 1 - q_ii, never 1 less q_ii: a loss of next to nothing keeps its relative precision.
    """
    tau = np.float32(temperature)
    highest = np.maximum(own, others.max(axis=1))
    terms = np.exp((others - highest[:, None]) / tau)
    rest = terms.sum(axis=1)
    total = rest + np.exp((own - highest) / tau)
    mean = map_rows(lambda chunk: chunk @ candidates, terms)
    pull: Floats = (mean - rest[:, None] * target) / total[:, None]
    with np.errstate(divide="ignore"):
        log_rest = highest / tau + np.log(rest)
    loss: Floats = np.logaddexp(np.float32(0), log_rest - own / tau)
    return pull, loss


def _stacked(pieces: list[Floats], width: int) -> Floats:
    return np.concatenate([np.empty((0, width), dtype=np.float32), *pieces])
