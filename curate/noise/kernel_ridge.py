"""Kernel ridge regression from one modality to the other, with Nystroem landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.noise.features import Features
from curate.noise.similarity import Floats, unit_rows

GAMMA = np.float32(0.5)
RIDGES = (0.3, 1.0, 3.0, 10.0)
_SMALLEST_EIGENVALUE = 1e-6


@dataclass(frozen=True)
class KernelRidge:
    """y - mean = k(x, landmarks) W - b, k(x, l) = exp(-gamma |x - l|^2) of unit rows, gamma = .5.

    Attributes:
        landmarks: unit rows, float32 [l, dx].
        weights: W, mean over the ridges, float32 [l, dy].
        bias: b, float32 [dy].
        target_mean: weighted mean of the targets, float32 [dy].
    """

    landmarks: Floats
    weights: Floats
    bias: Floats
    target_mean: Floats

    def predict(self, inputs: Floats) -> Floats:
        """Predicted targets less their mean, scaled to unit length; unit rows in, float32 [n, dy] out. O(n l d)."""
        return unit_rows(_kernel(inputs, self.landmarks) @ self.weights - self.bias)

    def centred(self, targets: Floats) -> Floats:
        """Targets less their mean, scaled to unit length; float32 [n, dy]."""
        return unit_rows(targets - self.target_mean)


@dataclass(frozen=True)
class RidgeToText:
    """Agreement of a caption with the one that kernel ridge regression expects for the image."""

    ridge: KernelRidge

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return self.ridge.predict(features.image_unit)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return self.ridge.centred(features.text)


@dataclass(frozen=True)
class RidgeToImage:
    """Agreement of an image with the one that kernel ridge regression expects for the caption."""

    ridge: KernelRidge

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return self.ridge.centred(features.image)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return self.ridge.predict(features.text)


def fit_kernel_ridge(inputs: Floats, targets: Floats, weights: Floats, landmarks: int) -> KernelRidge:
    """Weighted ridge regression on Nystroem features (Williams & Seeger, NIPS 2000), mean over four ridges.

    O(n l^2 + l^3) time, O(n l) memory.

    Args:
        inputs: unit rows, float32 [n, dx]; the first `landmarks` of them are the landmarks.
        targets: float32 [n, dy].
        weights: of the rows, float32 [n].
    """
    chosen = inputs[:landmarks]
    root = _inverse_root(_kernel(chosen, chosen))
    phi = _kernel(inputs, chosen) @ root
    column = weights[:, None]
    total = float(weights.sum(dtype=np.float64))
    phi_mean, target_mean = (column * phi).sum(axis=0) / total, (column * targets).sum(axis=0) / total
    centred = phi - phi_mean
    weighted = column * centred
    values, vectors = np.linalg.eigh((weighted.T @ centred).astype(np.float64))
    rotated = vectors.T @ (weighted.T @ (targets - target_mean)).astype(np.float64)
    shrunk = np.mean([rotated / (np.maximum(values, 0) + ridge)[:, None] for ridge in RIDGES], axis=0)
    solution = root.astype(np.float64) @ (vectors @ shrunk)
    return KernelRidge(
        landmarks=chosen,
        weights=solution.astype(np.float32),
        bias=(phi_mean.astype(np.float64) @ (vectors @ shrunk)).astype(np.float32),
        target_mean=target_mean.astype(np.float32),
    )


def _kernel(rows: Floats, landmarks: Floats) -> Floats:
    """|x - l|^2 = 2 - 2 x.l for unit rows."""
    similarity: Floats = np.exp(2 * GAMMA * (rows @ landmarks.T - np.float32(1)))
    return similarity


def _inverse_root(kernel: Floats) -> Floats:
    values, vectors = np.linalg.eigh(kernel.astype(np.float64))
    kept = values > _SMALLEST_EIGENVALUE * values[-1]
    root: Floats = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return root
