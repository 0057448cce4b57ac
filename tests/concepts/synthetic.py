"""A corpus of pictures that show one or two things each, and captions that name them."""

import zlib

import numpy as np

from curate.concepts.fit import ConceptOptions, ConceptSample, fit_concepts
from curate.concepts.words import english_tokenizer
from tests.noise.synthetic import halved

THINGS = ("dog", "cat", "boat", "tree", "house", "apple", "horse", "clock", "fire hydrant", "kite")
IMAGE_WIDTH, TEXT_WIDTH = 40, 24
SMALL = ConceptOptions(folds=3, image_dimensions=32, dimensions=12, voters=400)
tokenizer = english_tokenizer()


def directions(width, seed):
    return dict(zip(THINGS, np.random.default_rng(seed).standard_normal((len(THINGS), width)), strict=True))


def encode(texts, joint=False):
    """A text tower that understands the things and nothing else."""
    width = IMAGE_WIDTH if joint else TEXT_WIDTH
    known = directions(width, 1 if joint else 2)
    rows = [sum((known[thing] for thing in THINGS if thing in text), own_noise(text, width)) for text in texts]
    return halved(np.array(rows))


def own_noise(text, width):
    """A little that only this text has."""
    return 0.2 * np.random.default_rng(zlib.crc32(text.encode())).standard_normal(width)


def corpus(rows=300, noisy=0.0, seed=0, joint=False):
    """(sample, what each picture shows); a share of the captions is of another picture, and noise_prob says so."""
    rng = np.random.default_rng(seed)
    shown = [sorted(rng.choice(THINGS, size=rng.integers(1, 3), replace=False).tolist()) for _ in range(rows)]
    wrong = rng.random(rows) < noisy
    said = [shown[(row + 1) % rows] if wrong[row] else shown[row] for row in range(rows)]
    captions = [f"number {row} has a {' and a '.join(things)}" for row, things in enumerate(said)]
    looks = directions(IMAGE_WIDTH, 1)
    image = np.array([sum(looks[thing] for thing in things) for things in shown])
    image = halved(image + 0.5 * rng.standard_normal(image.shape))
    noise_prob = np.where(wrong, 0.9, 0.1).astype(np.float32) if noisy else None
    text = encode(captions, joint)
    sample = ConceptSample([f"sha-{row}" for row in range(rows)], captions, image, text, joint, noise_prob)
    return sample, shown


def fitted(sample, vocabulary=None, options=SMALL, seed=0):
    return fit_concepts(sample, vocabulary, options, seed, tokenizer, lambda texts: encode(texts, sample.joint_space))


def names_of(model, found):
    return [[model.vocabulary.names[place] for place in row] for row in found.place]
