"""A linear tagger: for every concept, the log-odds that a caption of the image would name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.concepts.mentions import MentionTable
from curate.noise.similarity import Floats

Doubles = NDArray[np.float64]

# The ridge counts as much as so many rows; chosen on clip art and photographs.
RIDGE_ROWS = 0.25
STEPS = 25
_HISTORY = 6
_BLOCK = 256
_SUFFICIENT = np.float32(1e-4)
_SHORTER = np.float32(0.3)
_SMALLEST = np.float32(1e-12)


@dataclass(frozen=True)
class LinearTagger:
    """Logits of concepts: x W + b.

    Attributes:
        weights: W, float32 [q, t].
        bias: b, float32 [t].
    """

    weights: Floats
    bias: Floats

    def __call__(self, image: Floats) -> Floats:
        """Log-odds of every concept, float32 [n, q] -> float32 [n, t]."""
        logits: Floats = image @ self.weights + self.bias
        return logits


def fit_tagger(image: Floats, mentions: MentionTable, weights: Floats) -> LinearTagger:
    """Logistic regressions (binary cross-entropy with an L2 penalty), one for each concept, all on the same images.

    Minimises for each concept c  sum_i w_i BCE(x_i . W_c + b_c, y_ic) / sum w + (ridge / 2 sum w) s |W_c|^2, where
    s is the mean squared length of the centred features, so that their scale does not matter. L-BFGS in the eigenbasis
    of the features' covariance, started from its diagonal Hessian; every concept has its own step.

    Args:
        image: features, float32 [n, q].
        mentions: which concepts each row's caption names; n rows, t concepts.
        weights: of the rows, at least one above 0, float32 [n].

    O(STEPS n q t) time, O(n (q + _BLOCK)) memory.
    """
    share = (weights / weights.sum(dtype=np.float64)).astype(np.float32)
    mean = (share[:, None] * image).sum(axis=0)
    centred = image - mean
    scale = np.float32(max(np.sqrt((share * (centred * centred).sum(axis=1)).sum()), 1e-6))
    centred /= scale
    spread, basis = np.linalg.eigh(((share[:, None] * centred).T @ centred).astype(np.float64))
    basis = basis.astype(np.float32)
    rotated = np.concatenate([centred @ basis, np.ones((len(image), 1), dtype=np.float32)], axis=1)
    spread_with_bias = np.append(np.maximum(spread, 0), 1.0).astype(np.float32)
    penalty = np.full(len(spread_with_bias), RIDGE_ROWS / float(weights.sum(dtype=np.float64)), dtype=np.float32)
    penalty[-1] = 0
    found = np.empty((len(spread_with_bias), mentions.concepts), dtype=np.float32)
    for start in range(0, mentions.concepts, _BLOCK):
        columns = slice(start, min(start + _BLOCK, mentions.concepts))
        found[:, columns] = _fit_block(rotated, mentions.dense(columns), share, spread_with_bias, penalty)
    on_image = (basis @ found[:-1]) / scale
    return LinearTagger(np.ascontiguousarray(on_image), found[-1] - mean @ on_image)


def _fit_block(rows: Floats, named: Floats, share: Floats, spread: Floats, penalty: Floats) -> Floats:
    """Solutions of some concepts, float32 [q + 1, t]; the last row is the bias."""
    prior = np.clip(share @ named, 1e-6, 1 - 1e-6)
    hessian = spread[:, None] * (prior * (1 - prior))[None, :] + penalty[:, None]
    start = np.zeros((rows.shape[1], named.shape[1]), dtype=np.float32)
    start[-1] = np.log(prior / (1 - prior))
    column = share[:, None]

    def loss_and_gradient(at: Floats) -> tuple[Floats, Floats]:
        logits = rows @ at
        likelihood = np.logaddexp(np.float32(0), logits)
        likelihood -= named * logits
        loss = (column * likelihood).sum(axis=0) + np.float32(0.5) * (penalty[:, None] * at * at).sum(axis=0)
        np.negative(logits, out=logits)
        np.exp(np.minimum(logits, np.float32(80), out=logits), out=logits)
        residual = column * (1 / (1 + logits) - named)
        return loss, rows.T @ residual + penalty[:, None] * at

    return minimise(loss_and_gradient, start, 1 / hessian)


def minimise(
    loss_and_gradient: Callable[[Floats], tuple[Floats, Floats]], start: Floats, inverse_hessian: Floats
) -> Floats:
    """L-BFGS (Nocedal & Wright 2006, algorithm 7.5) on many independent problems at once, one in each column.

    Args:
        loss_and_gradient: float32 [d, t] -> losses float32 [t] and their gradients float32 [d, t].
        start: float32 [d, t].
        inverse_hessian: a diagonal guess of it, positive, float32 [d, t].
    """
    at: Floats = start
    loss, gradient = loss_and_gradient(at)
    history: list[tuple[Floats, Floats]] = []
    direction = -inverse_hessian * gradient
    length: Floats = np.ones(start.shape[1], dtype=np.float32)
    for _ in range(STEPS):
        tried = at + length * direction
        new_loss, new_gradient = loss_and_gradient(tried)
        slope = (direction * gradient).sum(axis=0)
        better = new_loss <= loss + _SUFFICIENT * length * slope
        history.append((np.where(better, tried - at, 0), np.where(better, new_gradient - gradient, 0)))
        at, gradient = np.where(better, tried, at), np.where(better, new_gradient, gradient)
        loss = np.where(better, new_loss, loss)
        history = history[-_HISTORY:]
        proposed = -_two_loops(gradient, history, inverse_hessian)
        direction = np.where(better, proposed, direction)
        length = np.where(better, np.float32(1), length * _SHORTER).astype(np.float32)
    return at


def _two_loops(gradient: Floats, history: list[tuple[Floats, Floats]], inverse_hessian: Floats) -> Floats:
    """The inverse Hessian's guess times the gradient; steps without curvature are passed over, column by column."""
    rest, kept = gradient, list[tuple[Floats, Floats, Floats, Floats]]()
    for step, change in reversed(history):
        curvature = (step * change).sum(axis=0)
        rho = np.where(curvature > _SMALLEST, 1 / np.maximum(curvature, _SMALLEST), 0).astype(np.float32)
        alpha = rho * (step * rest).sum(axis=0)
        rest = rest - alpha * change
        kept.append((step, change, rho, alpha))
    product: Floats = inverse_hessian * rest
    for step, change, rho, alpha in reversed(kept):
        product += step * (alpha - rho * (change * product).sum(axis=0))
    return product
