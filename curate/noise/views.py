"""A view: a model that puts images and captions into one space, where the cosine says how well they agree.

All views of a fold are trained on the other folds only (cross-fitting). They err in different ways, which is what
their fusion lives from: a linear map sees what all pairs share, kernels and neighbours see what few pairs share.
"""

from __future__ import annotations

from typing import Protocol

from curate.noise.features import Features
from curate.noise.similarity import Floats


class View(Protocol):
    """Image and caption side of one model. Each side sees only its own modality, so any image meets any caption."""

    def image(self, features: Features) -> Floats:
        """Unit rows of the images, float32 [n, m]."""
        ...

    def text(self, features: Features) -> Floats:
        """Unit rows of the captions, float32 [n, m]."""
        ...
