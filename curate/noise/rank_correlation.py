"""REPAIR: do the image and the caption of a pair order the reference pairs alike?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.noise.references import Batch, Compared, References, map_compared
from curate.noise.similarity import Floats


def rank_correlation(batch: Batch, references: References) -> Floats:
    """rho_i = Spearman(S_image[i, :], S_text[i, :]), S the cosines with the references, twins left out of both lists.

    REPAIR (IEEE TMM 2024, arXiv 2403.08224): rank correlation of the distances to a memory bank of matched pairs is
    the soft label. Published: the bank follows the training. Here: fixed references, frozen embeddings.

    1 - 6 sum d^2 / (n (n^2 - 1)), d the difference of ranks, n the references that are no twins. Equal cosines are not
    given their average rank: the reference that stands earlier ranks lower, in both lists.

    Space: each modality's own; a joint space is not needed. float32 [n], in [-1, 1], 0 with fewer than two references;
    higher is cleaner. O(n m log m) beside the cosines.
    """
    return map_compared(of_chunk, batch, references)


def of_chunk(compared: Compared) -> Floats:
    """`rank_correlation` of compared pairs, float32 [rows]."""
    # Twins, -inf in both lists, come first in both and in the same order: they add nothing to the sum.
    moved = _ranks(compared.image) - _ranks(compared.text)
    squares = np.einsum("ij,ij->i", moved, moved)
    count = (~compared.twin).sum(axis=1)
    correlation = 1 - 6 * squares / np.maximum(count * (count * count - 1), 1)
    return np.where(count > 1, correlation, 0).astype(np.float32)


def _ranks(cosines: Floats) -> NDArray[np.int64]:
    """Rank of every reference, 0 for the smallest cosine; of equal ones the earlier ranks lower. [rows, m]."""
    ranks = np.empty(cosines.shape, dtype=np.int64)
    np.put_along_axis(ranks, _ascending(cosines), np.arange(cosines.shape[1])[None, :], axis=1)
    return ranks


def _ascending(cosines: Floats) -> NDArray[np.int64]:
    """Stable argsort of every row, several times as fast: sorts cosine and position as one integer. [rows, m]."""
    # Adding 0 makes -0 and 0 equal; flipping all bits but the sign of a negative float orders floats as integers.
    bits = (cosines + np.float32(0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (ordered.astype(np.int64) << 32) | np.arange(cosines.shape[1])
    keys.sort(axis=1)
    return keys & 0xFFFFFFFF
