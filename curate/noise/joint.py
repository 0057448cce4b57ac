"""Views for towers that were trained together (CLIP): their own space, and a residual adapter of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.noise.features import Features, blocks
from curate.noise.similarity import Floats, unit_rows

ADAPTER_RIDGE_ROWS = 5000.0


@dataclass(frozen=True)
class ZeroShot:
    """The towers' own space: the cosine is `clip_similarity`. Nothing is fitted."""

    def image(self, features: Features) -> Floats:
        """See `View`."""
        return features.raw_image

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return features.caption


@dataclass(frozen=True)
class ResidualAdapter:
    """The towers' space, bent towards the corpus: x' = x + x R of centred unit images, captions as they are.

    Attributes:
        image_mean, text_mean: of unit embeddings over the training rows, float32 [d]; they take out the modality gap.
        residual: R, float32 [d, d]; 0 is the towers' own space.
    """

    image_mean: Floats
    text_mean: Floats
    residual: Floats

    def image(self, features: Features) -> Floats:
        """See `View`."""
        centred = unit_rows(features.raw_image - self.image_mean)
        return unit_rows(centred + centred @ self.residual)

    def text(self, features: Features) -> Floats:
        """See `View`."""
        return unit_rows(features.caption - self.text_mean)


def fit_residual_adapter(image: Floats, caption: Floats, weights: Floats) -> ResidualAdapter:
    """R = argmin sum_i w_i |t_i - v_i - v_i R|^2 + ridge |R|^2 in closed form: shrunk towards the towers' own space.

    The ridge is (5000 / sum w) times the mean eigenvalue of the images' second moment. O(n d^2 + d^3).

    Args:
        image, caption: unit embeddings of the training rows, float32 [n, d].
        weights: of the rows, float32 [n].
    """
    total = float(weights.sum(dtype=np.float64))
    column = weights.astype(np.float64)[:, None]
    image_mean = ((column * image).sum(axis=0) / total).astype(np.float32)
    text_mean = ((column * caption).sum(axis=0) / total).astype(np.float32)
    width = image.shape[1]
    second, cross = np.zeros((width, width)), np.zeros((width, width))
    for block in blocks(len(image)):
        v, t = unit_rows(image[block] - image_mean), unit_rows(caption[block] - text_mean)
        weighted = weights[block][:, None] * v
        second += weighted.T @ v
        cross += weighted.T @ (t - v)
    ridge = ADAPTER_RIDGE_ROWS / total * float(np.trace(second)) / width
    residual = np.linalg.solve(second + ridge * np.eye(width), cross)
    return ResidualAdapter(image_mean, text_mean, residual.astype(np.float32))
