"""Three opinions about every concept as one score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from curate.noise.similarity import Floats

Scorer: TypeAlias = Literal["default", "cross_modal", "neighbours", "tagger"]

# Chosen on clip art and photographs with towers that never met: there a name's embedding says least.
CROSS_MODAL_WEIGHT = 0.5
# A space that images and texts were trained for knows more than this corpus.
JOINT_WEIGHT = 1.0
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a scorer over images and concepts."""

    mean: float
    spread: float

    @classmethod
    def of(cls, scores: Floats) -> Scale:
        """Of scores, float32 [n, t]; summed in float64."""
        if not scores.size:
            return cls(0.0, 1.0)
        values = scores.astype(np.float64)
        return cls(float(values.mean()), max(float(values.std()), _SMALLEST_SPREAD))


@dataclass(frozen=True)
class Fusion:
    """weight * z(cross-modal) + z(vote) + z(tagger), z(x) = (x - mean) / standard deviation.

    A concept that no trusted caption names has a vote of 0; one that the tagger does not know is average to it.
    """

    cross_weight: float
    cross_modal: Scale
    vote: Scale
    tagger: Scale

    def cross(self, scores: Floats) -> Floats:
        """The fused score where cross-modal similarity is all there is; float32, any shape."""
        factor = self.cross_weight / self.cross_modal.spread
        shift = -factor * self.cross_modal.mean - self.vote.mean / self.vote.spread
        fused: Floats = scores * np.float32(factor) + np.float32(shift)
        return fused

    def __call__(self, cross_modal: Floats, vote: Floats, tagger: Floats) -> Floats:
        """Fused scores, float32 [n, v]; vote and tagger are of the first concepts: [n, t], [n, u]."""
        fused = self.cross(cross_modal)
        fused[:, : vote.shape[1]] += vote * np.float32(1 / self.vote.spread)
        fused[:, : tagger.shape[1]] += (tagger - np.float32(self.tagger.mean)) * np.float32(1 / self.tagger.spread)
        return fused
