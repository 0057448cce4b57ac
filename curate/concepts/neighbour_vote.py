"""What the captions of similar images name: a vote of trusted pairs, the closer and cleaner the more it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curate.concepts.mentions import MentionTable
from curate.noise.similarity import Bools, Floats, largest

NEIGHBOURS = 100
CLOSENESS_TAU = 0.1


@dataclass(frozen=True)
class Voters:
    """Trusted pairs whose captions are counted.

    Attributes:
        image: unit features of their pictures, values that half precision holds, float32 [r, q].
        weight: 1 - noise_prob, in [0, 1], values that half precision holds, float32 [r].
        trained: whether the model of each fold may see the pair, bool [r, folds].
    """

    image: Floats
    weight: Floats
    trained: Bools

    stored_in_half: ClassVar[bool] = True

    def of_fold(self, fold: int) -> Floats:
        """Weights, 0 where the fold must not see the pair; float32 [r]."""
        weight: Floats = np.where(self.trained[:, fold], self.weight, np.float32(0))
        return weight


def neighbour_vote(image: Floats, voters: Voters, weight: Floats, mentions: MentionTable) -> Floats:
    """Share of the vote of the 100 nearest voters that names each concept; float32 [n, t] in [0, 1].

    share_c = sum_j omega_j [caption j names c] / sum_j omega_j,  omega_j = weight_j exp((cos(v, v_j) - 1) / .1).

    Args:
        image: unit features, float32 [n, q]; of a fixed number of rows if bytes are not to depend on it.
        voters: whom to ask.
        weight: what each counts, 0 for those that must not be asked, float32 [r].
        mentions: what their captions name; r rows, t concepts.

    O(n r q) time, O(n (r + t)) memory.
    """
    concepts = mentions.concepts
    if concepts == 0:
        return np.empty((len(image), 0), dtype=np.float32)
    cosine = image @ voters.image.T
    cosine[:, weight <= 0] = -np.inf
    nearest = np.sort(largest(cosine, NEIGHBOURS), axis=1)
    closeness = (np.take_along_axis(cosine, nearest, axis=1) - np.float32(1)) / np.float32(CLOSENESS_TAU)
    omega = weight[nearest] * np.exp(closeness)
    total = omega.sum(axis=1, keepdims=True)
    omega /= np.where(total > 0, total, np.float32(1))
    named = mentions.take(nearest.reshape(-1))
    row = named.row // nearest.shape[1]
    votes = np.bincount(
        row * np.int64(concepts) + named.concept,
        weights=np.repeat(omega.reshape(-1), named.counts),
        minlength=len(image) * concepts,
    )
    share: Floats = votes.reshape(len(image), concepts).astype(np.float32)
    return share
