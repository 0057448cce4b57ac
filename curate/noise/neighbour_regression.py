"""Regression by neighbours: the caption that the nearest pictures have, the picture that the nearest captions have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.noise.features import Features
from curate.noise.similarity import Floats, largest, unit_rows

NEIGHBOURS = 30
TEMPERATURE = np.float32(0.1)
_TINY = np.float32(1e-12)


@dataclass(frozen=True)
class NeighbourRegression:
    """y(x) = sum_j a_j y_j over the 30 nearest references, a_j ~ w_j exp(cos(x, x_j) / .1).

    Attributes:
        keys: unit rows, float32 [r, dx].
        values: float32 [r, dy].
        weights: how far a reference is trusted, [0, 1]; 0 keeps it out altogether. float32 [r].
        target_mean: weighted mean of the values, float32 [dy].
    """

    keys: Floats
    values: Floats
    weights: Floats
    target_mean: Floats

    def predict(self, inputs: Floats) -> Floats:
        """Predicted values less their mean, scaled to unit length; unit rows in, float32 [n, dy] out. O(n r dx)."""
        cosines = inputs @ self.keys.T
        cosines += np.where(self.weights > 0, np.float32(0), np.float32(-np.inf))
        nearest = largest(cosines, NEIGHBOURS)
        near = np.take_along_axis(cosines, nearest, axis=1)
        share = np.exp((near - near.max(axis=1, keepdims=True)) / TEMPERATURE) * self.weights[nearest]
        share /= np.maximum(share.sum(axis=1, keepdims=True), _TINY)
        predicted: Floats = np.matmul(share[:, None, :], self.values[nearest])[:, 0]
        return unit_rows(predicted - self.target_mean)

    def centred(self, targets: Floats) -> Floats:
        """Targets less their mean, scaled to unit length; float32 [n, dy]."""
        return unit_rows(targets - self.target_mean)


@dataclass(frozen=True)
class NeighboursToText:
    """Agreement of a caption with those of the most similar pictures."""

    regression: NeighbourRegression

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return self.regression.predict(features.image_unit)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return self.regression.centred(features.text)


@dataclass(frozen=True)
class NeighboursToImage:
    """Agreement of a picture with those of the most similar captions."""

    regression: NeighbourRegression

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return self.regression.centred(features.image)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return self.regression.predict(features.text)


def fit_neighbour_regression(keys: Floats, values: Floats, weights: Floats) -> NeighbourRegression:
    """Nothing is trained; only the mean of the values is taken, so that agreement is measured from there."""
    total = max(float(weights.sum(dtype=np.float64)), 1e-12)
    mean = (weights.astype(np.float64)[:, None] * values).sum(axis=0) / total
    return NeighbourRegression(keys, values, weights, mean.astype(np.float32))
