"""Row `concepts`: concepts of pictures with the fitted model, beside the one matrix product that nobody can avoid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.fits import sample
from curate.concepts.fit import ConceptOptions, ConceptSample, fit_concepts
from curate.concepts.model import ConceptModel
from curate.concepts.words import english_tokenizer
from curate.noise.similarity import Floats, unit_rows

METHODS = ("ours", "matmul")
FITTED_ON = 4000
ASKED = 2048
_NOUNS = (
    "dog", "cat", "horse", "bird", "boat", "car", "train", "house", "tree", "flower", "river", "mountain",
    "beach", "bridge", "street", "chair", "table", "lamp", "book", "clock", "guitar", "piano", "camera", "phone",
    "bottle", "cup", "plate", "apple", "orange", "banana", "bread", "cheese", "fish", "boy", "girl", "woman",
    "man", "crowd", "ball", "kite", "bicycle", "bus", "truck", "plane", "tower", "church", "castle", "garden",
    "field", "forest", "lake", "snow", "cloud", "moon", "star", "sun", "window", "door", "wall", "roof", "fence",
    "road", "sign", "letter", "map", "flag", "hat", "shoe", "shirt", "dress", "glove", "ring", "key", "coin",
    "box", "basket", "bag"
)  # fmt: skip


def concepts_child(method: str) -> ChildCommand:
    """Top 10 concepts of 2,048 pictures per measurement; `method`: ours, or matmul, one product with all names."""
    return module_child(f"concepts {method}", "curate.bench.speed.concepts", {"method": method})


def fitted() -> tuple[ConceptModel, int]:
    """A model of captions with two nouns each, and the width of its text embeddings."""
    held = sample(FITTED_ON)
    random = np.random.default_rng(0)
    drawn = random.choice(len(_NOUNS), (FITTED_ON, 2))
    width = held.text.shape[1]
    names = {name: random.standard_normal(width, dtype=np.float32) for name in _NOUNS}
    anything = np.ones(width, dtype=np.float32)

    def meaning(text: str) -> Floats:
        said: Floats = anything + sum((names[word] for word in text.split() if word in names), anything)
        return said

    def encode(texts: Sequence[str]) -> Floats:
        return unit_rows(np.stack([meaning(text) for text in texts]))

    given = ConceptSample(
        image_sha256=held.image_sha256,
        captions=[
            f"a {_NOUNS[one]} beside a {_NOUNS[other]} in picture {row}" for row, (one, other) in enumerate(drawn)
        ],
        image=held.image,
        text=held.text,
        joint_space=False,
        noise_prob=np.zeros(FITTED_ON, dtype=np.float32),
    )
    return fit_concepts(given, None, ConceptOptions(), 0, english_tokenizer(), encode), width


def _make(given: dict[str, Any]) -> Measure:
    threadpool_limits(1)  # Both on one core, as every worker of a run is.
    asked = sample(ASKED)
    if given["method"] == "matmul":
        names = sample(len(_NOUNS)).image
        return lambda: _timed(lambda: asked.image.astype(np.float32) @ names.T)
    model, _ = fitted()
    return lambda: {
        **_timed(lambda: model.top(asked.image_sha256, asked.image, "default", 10)),
        "names": len(model.vocabulary),
    }


def _timed(work: Any) -> Answer:
    started = time.perf_counter()
    work()
    return {"images": ASKED, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    serve(_make)
