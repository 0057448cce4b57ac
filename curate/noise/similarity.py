"""How alike are the image and the caption of a pair: cosine, corrected for hubs by a fixed bank of reference pairs.

Everything here scores one pair at a time against artifacts. Matrix products are always made in chunks of CHUNK rows,
the last one padded with zeros: a row's result then does not depend on how the rows were cut into batches. Measured
with
OpenBLAS: for a fixed shape a row's product is bit for bit the same at any position; for other shapes it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.noise.grouping import near

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

CHUNK = 256
NEAR_TEXT_COSINE = 0.98
NULL_DRAWS = 3
MIN_NULL_PAIRS = 10
_SMALLEST_SPREAD = 1e-6
_TINY = np.float32(1e-12)


def unit_rows(rows: Floats) -> Floats:
    """Rows divided by their Euclidean norm; a zero row stays zero. float32 [n, d] -> float32 [n, d]."""
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit: Floats = rows / np.maximum(norms, _TINY)
    return unit


def centred_unit_rows(rows: Floats, mean: Floats) -> Floats:
    """L2-normalise, centre, L2-normalise: L2(L2(x) - mean). float32 [n, d] -> float32 [n, d].

    Args:
        rows: embeddings, float32 or float16 [n, d].
        mean: mean of the L2-normalised embeddings of the rows a model is trained on, float32 [d].
    """
    return unit_rows(unit_rows(rows.astype(np.float32, copy=False)) - mean)


def clip_similarity(image: Floats, text: Floats) -> Floats:
    """Cosine of image and caption embeddings, cs_i = v_i . t_i (Hessel et al., EMNLP 2021).

    Only means something if the two towers were trained together. In [-1, 1], higher is cleaner; O(n d).
    """
    cosine: Floats = (unit_rows(image) * unit_rows(text)).sum(axis=1)
    return cosine


def padded_chunks(rows: int) -> Iterator[slice]:
    """Slices of CHUNK rows that cover `rows`."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


def padded(rows: Floats) -> Floats:
    """`rows` followed by zero rows up to CHUNK."""
    if len(rows) == CHUNK:
        return rows
    full = np.zeros((CHUNK, rows.shape[1]), dtype=np.float32)
    full[: len(rows)] = rows
    return full


def map_rows(function: Callable[[Floats], Floats], rows: Floats) -> Floats:
    """`function` over padded chunks of rows: same bytes for a row wherever it stands and whoever stands beside it."""
    pieces = [function(padded(rows[part]))[: part.stop - part.start] for part in padded_chunks(len(rows))]
    return np.concatenate(pieces) if pieces else function(padded(rows))[:0]


@dataclass(frozen=True)
class Pairs:
    """Pairs in the space of one model, with what is needed to recognise twins.

    Attributes:
        image, text: their projections, float32 [n, m], unit rows; image . text is the similarity.
        sketch: fingerprint of the picture (`grouping.Sketch`), float32 [n, s].
        caption: caption embedding as the text tower gave it, unit rows, float32 [n, dt].
    """

    image: Floats
    text: Floats
    sketch: Floats
    caption: Floats

    def __len__(self) -> int:
        return len(self.image)

    def take(self, image_rows: NDArray[np.intp], text_rows: NDArray[np.intp]) -> Pairs:
        """The pairs made of the pictures of `image_rows` and the captions of `text_rows`."""
        return Pairs(self.image[image_rows], self.text[text_rows], self.sketch[image_rows], self.caption[text_rows])

    def rounded(self) -> Pairs:
        """The same with values that half precision holds exactly, which is how banks are stored."""
        return Pairs(*(_half(array) for array in (self.image, self.text, self.sketch, self.caption)))

    def similarity(self) -> Floats:
        """Cosine of every pair's own image and text, float32 [n]."""
        cosine: Floats = (self.image * self.text).sum(axis=1)
        return cosine


def _half(array: Floats) -> Floats:
    return array.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class AgainstBank:
    """One padded chunk of pairs compared with every pair of a bank; float32 [CHUNK, b].

    Attributes:
        to_texts: similarity of the chunk's images with the bank's texts, -inf where the bank pair is a twin.
        to_images: similarity of the chunk's texts with the bank's images, -inf where the bank pair is a twin.
    """

    to_texts: Floats
    to_images: Floats


def against_bank(pairs: Pairs, bank: Pairs) -> Iterator[tuple[slice, AgainstBank]]:
    """Similarities of pairs and bank, chunk by chunk; a bank pair that is a twin of the row is left out of both.

    A twin has (nearly) the same picture or (nearly) the same caption (cosine > .98); a row that stands in the bank is
    its own twin. Rows of a chunk beyond the slice are padding. O(n b m) time, O(CHUNK b) memory.
    """
    for part in padded_chunks(len(pairs)):
        same_caption = padded(pairs.caption[part]) @ bank.caption.T > NEAR_TEXT_COSINE
        twin = near(padded(pairs.sketch[part]), bank.sketch) | same_caption
        to_texts = padded(pairs.image[part]) @ bank.text.T
        to_images = padded(pairs.text[part]) @ bank.image.T
        to_texts[twin] = -np.inf
        to_images[twin] = -np.inf
        yield part, AgainstBank(to_texts, to_images)


def top_mean(similarities: Floats, neighbours: int) -> Floats:
    """Mean of the largest `neighbours` finite values of every row; 0 where a row has none. float32 [n, b] -> [n]."""
    width = similarities.shape[1]
    kept = min(neighbours, width)
    top = np.sort(np.partition(similarities, width - kept, axis=1)[:, width - kept :], axis=1)
    finite = np.isfinite(top)
    total: Floats = np.where(finite, top, np.float32(0)).sum(axis=1)
    mean: Floats = total / np.maximum(finite.sum(axis=1), 1).astype(np.float32)
    return mean


def csls(pairs: Pairs, bank: Pairs, neighbours: int) -> Floats:
    """Similarity corrected for hubs: csls_i = 2 s(v_i, t_i) - r_text(v_i) - r_image(t_i).

    r_text(v) is the mean similarity of v with its 10 nearest texts of the bank, r_image(t) likewise (Conneau et al.,
    "Word translation without parallel data", ICLR 2018, section 2.3; here against a fixed bank, twins left out).
    float32 [n], in [-4, 4], higher is cleaner; O(n b m).
    """
    hubness = np.empty(len(pairs), dtype=np.float32)
    for part, compared in against_bank(pairs, bank):
        both = top_mean(compared.to_texts, neighbours) + top_mean(compared.to_images, neighbours)
        hubness[part] = both[: part.stop - part.start]
    corrected: Floats = 2 * pairs.similarity() - hubness
    return corrected


def shuffled_pairs(bank: Pairs, draws: int, rng: np.random.Generator) -> Pairs:
    """Pairs of the bank with captions permuted `draws` times: how gross mismatches look. At most draws * len(bank).

    Mates whose captions say nearly the same (cosine > .98) are left out: they are no mismatch.
    """
    images = np.tile(np.arange(len(bank)), draws)
    texts = np.concatenate([rng.permutation(len(bank)) for _ in range(draws)])
    cosine = (bank.caption[images] * bank.caption[texts]).sum(axis=1)
    mismatched = (cosine <= NEAR_TEXT_COSINE) & (images != texts)
    return bank.take(images[mismatched], texts[mismatched])


@dataclass(frozen=True)
class HubCorrection:
    """CSLS against a bank, in units of the scores of shuffled pairs: 0 is a typical gross mismatch.

    Attributes:
        bank: pairs that stand for the corpus.
        null_mean, null_sd: mean and standard deviation of the CSLS scores of the bank's shuffled pairs.
        neighbours: see `csls`.
    """

    bank: Pairs
    null_mean: float
    null_sd: float
    neighbours: int

    def __call__(self, pairs: Pairs) -> Floats:
        """(csls - null mean) / null sd; float32 [n], higher is cleaner."""
        score: Floats = (csls(pairs, self.bank, self.neighbours) - np.float32(self.null_mean)) / np.float32(
            self.null_sd
        )
        return score


def fit_hub_correction(
    pairs: Pairs, size: int, neighbours: int, rng: np.random.Generator
) -> tuple[HubCorrection, Floats]:
    """The first `size` pairs as a bank, and the standardised scores of its shuffled pairs (float32, at most 3 size).

    Raises:
        InputError: nearly all captions of the bank are the same.
    """
    first = np.arange(min(size, len(pairs)))
    bank = pairs.take(first, first).rounded()
    null = csls(shuffled_pairs(bank, NULL_DRAWS, rng), bank, neighbours)
    if len(null) < MIN_NULL_PAIRS:
        raise InputError(
            f"noise can't tell mismatches: of {len(bank)} pairs nearly all captions say the same, so shuffling them "
            f"leaves {len(null)} mismatched pairs (needed: {MIN_NULL_PAIRS})."
        )
    mean, sd = float(null.mean(dtype=np.float64)), max(float(null.std(dtype=np.float64)), _SMALLEST_SPREAD)
    standardised: Floats = (null - np.float32(mean)) / np.float32(sd)
    return HubCorrection(bank, mean, sd, neighbours), standardised
