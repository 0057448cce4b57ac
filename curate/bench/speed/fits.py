"""Row `fits`: the noise fit on a bounded sample (cross-fitted models, reference sets), and scoring a million pairs."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise
from curate.noise.similarity import Floats, unit_rows

SCORED = 2048
MILLION = 1_000_000
_MEANING = 24
_IMAGE_DIM, _TEXT_DIM = 512, 384
_MISMATCHED = 0.3


def sample(pairs: int) -> NoiseSample:
    """Seeded embeddings of pictures and captions that share 24 directions; 30 % of the captions belong elsewhere."""
    random = np.random.default_rng(pairs)
    meaning = random.standard_normal((pairs, _MEANING), dtype=np.float32)
    moved = np.flatnonzero(random.random(pairs) < _MISMATCHED)
    said = meaning.copy()
    said[moved] = meaning[random.permutation(moved)]
    return NoiseSample(
        image_sha256=[hashlib.sha256(str(number).encode()).hexdigest() for number in range(pairs)],
        captions=[f"caption {number}" for number in range(pairs)],
        image=_embedded(meaning, _IMAGE_DIM, random),
        text=_embedded(said, _TEXT_DIM, random),
        joint_space=False,
    )


def _embedded(meaning: Floats, dimensions: int, random: np.random.Generator) -> Floats:
    towers = random.standard_normal((_MEANING, dimensions), dtype=np.float32)
    noise = random.standard_normal((len(meaning), dimensions), dtype=np.float32)
    return unit_rows(meaning @ towers + np.float32(2) * noise)


def fits_child(pairs: int) -> ChildCommand:
    """One fit on so many pairs per measurement, and 2,048 other pairs scored with it."""
    return module_child(f"fits {pairs:,}", "curate.bench.speed.fits", {"pairs": pairs})


def _make(given: dict[str, Any]) -> Measure:
    held, others = sample(given["pairs"]), sample(SCORED)

    def measure() -> Answer:
        started = time.perf_counter()
        model = fit_noise(held, NoiseOptions(), seed=0)
        fitted = time.perf_counter()
        model.score(others.image_sha256, others.captions, others.image, others.text)
        per_pair = (time.perf_counter() - fitted) / SCORED
        return {"seconds": fitted - started, "seconds_per_million": MILLION * per_pair}

    return measure


if __name__ == "__main__":
    serve(_make)
