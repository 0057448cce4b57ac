"""What training needs and gives: any way to train on annotated pairs is a `Train`, whole towers as well as heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.bench.paper.splits import Images
from curate.noise.similarity import Floats


@dataclass(frozen=True)
class Embedded:
    """A part of a data set under frozen towers.

    Attributes:
        image, text: unit embeddings, float32 [images, dv], [captions, dt].
        image_of: the image that each caption has, or is given; [captions].
    """

    image: Floats
    text: Floats
    image_of: Images


@dataclass(frozen=True)
class Hints:
    """Which captions are trained on, and how far each is trusted.

    Attributes:
        rows: captions to train on, each with the image that it is given.
        smoothing: NLIP's omega of each of them, in [0, 1], float32 [rows].
    """

    rows: NDArray[np.intp]
    smoothing: Floats


Project: TypeAlias = Callable[[Floats, Floats], tuple[Floats, Floats]]
Train: TypeAlias = Callable[[Embedded, Hints, Embedded, int], Project]
"""Training part, hints, development part, seed -> embeddings of images and of captions in the space that was learned.

The development part chooses among epochs, as in the papers; its captions are right.
"""
