"""Recall at K where an image has several captions, as the papers count it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.bench.paper.splits import Images
from curate.noise.similarity import Floats

AT = (1, 5, 10)
FOLDS = 5
_ROWS = 256


@dataclass(frozen=True)
class Recalls:
    """Shares in percent of queries with a match among the first 1, 5 and 10 answers.

    Attributes:
        to_text: queries are images; any of an image's captions is a match.
        to_image: queries are captions.
    """

    to_text: tuple[float, float, float]
    to_image: tuple[float, float, float]

    @property
    def total(self) -> float:
        """Sum of all six, the papers' rSum."""
        return sum(self.to_text) + sum(self.to_image)


def recalls(image: Floats, text: Floats, image_of: Images) -> Recalls:
    """Recalls of a whole test part.

    A tie counts against the query: a model that gives everything one score finds nothing. O(n m d) time, O(n + m)
    memory beside the embeddings.

    Args:
        image, text: unit embeddings, float32 [n, d], [m, d].
        image_of: the image of each caption, in [0, n), each at least once; [m].
    """
    return Recalls(
        _shares(_ranks_of_captions(image, text, image_of)), _shares(_ranks_of_images(image, text, image_of))
    )


def fold_recalls(image: Floats, text: Floats, image_of: Images) -> Recalls:
    """Mean over five folds of consecutive images, each searched by itself: COCO 1K of its 5,000 test images."""
    found = []
    for rows in np.array_split(np.arange(len(image)), FOLDS):
        inside = np.nonzero((image_of >= rows[0]) & (image_of <= rows[-1]))[0]
        found.append(recalls(image[rows], text[inside], image_of[inside] - rows[0]))
    return Recalls(_mean([fold.to_text for fold in found]), _mean([fold.to_image for fold in found]))


def _ranks_of_captions(image: Floats, text: Floats, image_of: Images) -> NDArray[np.intp]:
    """For every image, how many foreign captions score at least as well as the best of its own; [n]."""
    ranks = np.empty(len(image), dtype=np.intp)
    for start in range(0, len(image), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(image)))
        scores = image[rows] @ text.T
        own = image_of[None, :] == rows[:, None]
        best = np.where(own, scores, -np.inf).max(axis=1)
        ranks[rows] = ((scores >= best[:, None]) & ~own).sum(axis=1)
    return ranks


def _ranks_of_images(image: Floats, text: Floats, image_of: Images) -> NDArray[np.intp]:
    """For every caption, how many other images score at least as well as its own; [m]."""
    ranks = np.empty(len(text), dtype=np.intp)
    for start in range(0, len(text), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(text)))
        scores = text[rows] @ image.T
        own = scores[np.arange(len(rows)), image_of[rows]]
        ranks[rows] = (scores >= own[:, None]).sum(axis=1) - 1
    return ranks


def _shares(ranks: NDArray[np.intp]) -> tuple[float, float, float]:
    one, five, ten = (100 * float((ranks < at).mean()) for at in AT)
    return one, five, ten


def _mean(folds: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    one, five, ten = (float(value) for value in np.mean(folds, axis=0))
    return one, five, ten
