"""Small corpora with known mismatches."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from curate.noise.fit import NoiseSample
from curate.noise.grouping import hash_strings

IMAGE_WIDTH, TEXT_WIDTH = 48, 32


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def halved(rows):
    """As stored: unit rows in half precision."""
    return unit(rows).astype(np.float16).astype(np.float32)


def corpus(rows=600, mismatched=0.4, seed=0, topics=8, noise=0.5, joint_space=False):
    """Pairs that share a latent topic vector, a share of whose captions was exchanged; (sample, is mismatched)."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((rows, topics))
    width = IMAGE_WIDTH if joint_space else TEXT_WIDTH
    to_image = rng.standard_normal((topics, IMAGE_WIDTH))
    to_text = to_image if joint_space else rng.standard_normal((topics, width))
    image = latent @ to_image / topics**0.5 + noise * rng.standard_normal((rows, IMAGE_WIDTH))
    text = latent @ to_text / topics**0.5 + noise * rng.standard_normal((rows, width))
    exchanged = rng.permutation(rows)[: round(mismatched * rows)]
    caption = np.arange(rows)
    caption[exchanged] = np.roll(exchanged, 1)
    names = [f"shard:{row}" for row in range(rows)]
    sample = NoiseSample(names, halved(image), halved(text[caption]), hash_strings(pictures(names)), joint_space)
    return sample, caption != np.arange(rows)


def pictures(row_ids):
    """A picture checksum for every row."""
    return [f"sha-{name}" for name in row_ids]


def score_sample(model, sample):
    return model.score(sample.row_ids, pictures(sample.row_ids), sample.image, sample.text)


def auroc(noisy, score):
    return roc_auc_score(noisy, score)


def calibration_error(probability, noisy, bins=10):
    number = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(probability[number == b].mean() - noisy[number == b].mean()) * (number == b).mean()
        for b in range(bins)
        if (number == b).any()
    ]
    return sum(gaps)
