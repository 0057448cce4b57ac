"""GSC's intra-modal indicator: does the image lie among reference images as the caption among reference captions?"""

from __future__ import annotations

import numpy as np

from curate.noise.references import Batch, Compared, References, map_compared
from curate.noise.similarity import Floats


def topology(batch: Batch, references: References) -> Floats:
    """topo_i = cos(w * sigmoid(S_image[i, :]), w * sigmoid(S_text[i, :])), S the cosines with references of weight w.

    GSC: Zhao et al., "Mitigating Noisy Correspondence by Geometrical Structure Consistency Learning" (CVPR 2024, arXiv
    2405.16996), the intra-modal indicator before its mixture. Published: S is the learned similarity inside the
    training batch, and every column is multiplied by the current belief that its pair is clean. Here: plain cosines
    with fixed references, for frozen embeddings, and the references' `weight` as that belief. It matters: an image
    lies among mismatched references as no caption can. Twins are left out.

    Space: each modality's own; a joint space is not needed. float32 [n], in [.64, 1] (a sigmoid of a cosine lies in
    [.27, .73]), 0 if no reference is both clean and no twin; higher is cleaner. Only ranks and differences mean
    something. O(n m) beside the cosines.
    """
    return map_compared(lambda compared: of_chunk(compared, references), batch, references)


def of_chunk(compared: Compared, references: References) -> Floats:
    """`topology` of compared pairs, float32 [rows]."""
    image, text = (references.weight * _sigmoid(cosines) for cosines in (compared.image, compared.text))
    norms = np.sqrt((image * image).sum(axis=1) * (text * text).sum(axis=1))
    cosine: Floats = (image * text).sum(axis=1) / np.where(norms > 0, norms, np.float32(1))
    return cosine


def _sigmoid(cosines: Floats) -> Floats:
    """0 for -inf: a twin takes no part in the sums."""
    squashed: Floats = np.float32(1) / (np.float32(1) + np.exp(-cosines))
    return squashed
