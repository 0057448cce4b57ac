"""Small corpora with known mismatches."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from curate.noise import fit
from curate.noise.features import Features, fit_reducer
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise

# As large as a few hundred pairs need.
SMALL = NoiseOptions(image_dimensions=32, dimensions=16, landmarks=60, epochs=1)
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
    sample = sample_of(image, text[caption], joint_space, captions=[f"caption {row}" for row in caption])
    return sample, caption != np.arange(rows)


def sample_of(image, text, joint_space=False, captions=None):
    """Pairs of different pictures and, unless given, different captions."""
    pictures = [f"sha-{row}" for row in range(len(image))]
    row_ids = [f"row:{row}" for row in range(len(image))]
    return NoiseSample(pictures, captions or pictures, halved(image), halved(text), joint_space, row_ids=row_ids)


def taken(sample, rows):
    """Some pairs of a sample, in the order given."""
    return replace(
        sample,
        image_sha256=[sample.image_sha256[row] for row in rows],
        captions=[sample.captions[row] for row in rows],
        image=sample.image[rows],
        text=sample.text[rows],
        strata=None if sample.strata is None else [sample.strata[row] for row in rows],
        row_ids=None if sample.row_ids is None else [sample.row_ids[row] for row in rows],
    )


def joined(first, *others):
    """The pairs of several samples, one sample after the other."""
    samples = [first, *others]
    return replace(
        first,
        image_sha256=[picture for sample in samples for picture in sample.image_sha256],
        captions=[caption for sample in samples for caption in sample.captions],
        image=np.concatenate([sample.image for sample in samples]),
        text=np.concatenate([sample.text for sample in samples]),
        strata=None if first.strata is None else [value for sample in samples for value in sample.strata],
        row_ids=[
            f"{name} of {number}" if number else name
            for number, sample in enumerate(samples)
            for name in sample.row_ids
        ],
    )


def features_of(sample, turn=None):
    """Features by a reducer fitted to the sample; `turn` rotates the images first."""
    image = sample.image if turn is None else (sample.image @ turn).astype(np.float32)
    return fit_reducer(image, sample.text, 24, 12)(image, sample.text)


def random_features(rows, width=6, seed=0, like=None):
    """Features of pairs whose modalities share something; of the widths of `like`."""
    rng = np.random.default_rng(seed)
    widths = [width] * 6 if like is None else [getattr(like, field.name).shape[1] for field in fields(Features)]
    image, text, raw, sketch = (rng.standard_normal((rows, widths[place])) for place in (0, 2, 3, 5))
    image += 0.7 * text if widths[0] == widths[2] else 0
    return Features(
        image=image.astype(np.float32),
        image_unit=unit(image).astype(np.float32),
        text=unit(text).astype(np.float32),
        raw_image=unit(raw).astype(np.float32),
        caption=unit(rng.standard_normal((rows, widths[4]))).astype(np.float32),
        sketch=sketch.astype(np.float32),
    )


def quick_fit(sample, seed=0, **options):
    """A fit with small options. Intervals, which most of a small fit's time goes to, come from 2 bootstrap samples."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fit_mixture", "fit_strata"):
            patch.setattr(fit, name, partial(getattr(fit, name), draws=2))
        return fit_noise(sample, replace(SMALL, **options), seed)


def score_sample(model, sample):
    return model.score(sample.image_sha256, sample.captions, sample.image, sample.text, sample.strata)


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
