"""Captions borrowed from neighbours: the nearest one's, or the one that all of them agree with most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.completion.bank import CaptionBank, Neighbours


def nearest_rows(neighbours: Neighbours) -> NDArray[np.intp]:
    """The bank's pair with the most similar picture, for every picture; [n]."""
    return neighbours.rows[:, 0]


def consensus_rows(bank: CaptionBank, neighbours: Neighbours) -> NDArray[np.intp]:
    """The neighbour whose caption has the largest weighted mean cosine with those of all; [n]. O(n k^2 d).

    After Devlin et al. (Exploring nearest neighbor approaches for image captioning, 2015), with cosines of text
    embeddings for their n-gram similarity, and weights that fall with the distance of the pictures.
    """
    chosen = np.empty(len(neighbours.rows), dtype=np.intp)
    for row, (held, weight) in enumerate(zip(neighbours.rows, neighbours.weight, strict=True)):
        text = bank.text[held]
        chosen[row] = held[np.argmax((text @ text.T) @ weight)]
    return chosen
