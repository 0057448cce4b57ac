"""A synthetic caption for pairs, and how well it and the original agree with the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.completion.agreement import Agreement
from curate.completion.decoders import Decoder, Pictures
from curate.completion.policy import Proposal
from curate.noise.similarity import Floats, have_direction


def propose(
    decoder: Decoder,
    agreement: Agreement,
    pictures: Pictures,
    captions: Sequence[str | None],
    text: Floats,
    noise_prob: Floats,
) -> Proposal:
    """Write a caption for every pair and compare it with the original, both by models that never saw the pair.

    Args:
        decoder: what writes.
        agreement: what compares.
        pictures: n of them.
        captions: the originals; None or blank where there is none.
        text: their embeddings, float32 [n, d]; anything finite where there is none.
        noise_prob: of the originals, float32 [n]; not read where there is none.
    """
    written, rows = decoder(pictures), np.arange(len(pictures))
    there = np.array([bool(caption and caption.strip()) for caption in captions], dtype=np.bool_) & have_direction(
        text
    )
    scores = np.full(len(pictures), -np.inf, dtype=np.float32)
    scores[there] = agreement(pictures.fold, pictures.features, rows[there], text[there])
    return Proposal(
        original=[caption or "" for caption in captions],
        synthetic=written.captions,
        original_score=scores,
        synthetic_score=agreement(pictures.fold, pictures.features, rows, written.text),
        noise_prob=np.where(there, noise_prob, np.float32(1)).astype(np.float32),
    )


def some(pictures: Pictures, rows: Sequence[int]) -> Pictures:
    """Some of the pictures."""
    return replace(
        pictures,
        identity=pictures.identity[rows],
        fold=pictures.fold[rows],
        features=pictures.features.take(np.array(rows, dtype=np.intp)),
        image=pictures.image[rows],
        concepts=[pictures.concepts[row] for row in rows],
        pixels=None if pictures.pixels is None else pictures.pixels[rows],
    )
