"""Row `noise_fit`: two Gaussians on scores counted in mergeable histograms, beside scikit-learn on the raw scores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.noise.histogram import AnyFloats, Doubles, Histogram, common_range
from curate.noise.mixture import Components, component_posterior, fit_gaussians

NOISE_SHARE = 0.3
NOISE = (0.10, 0.05)
CLEAN = (0.30, 0.08)
GRID: Doubles = np.linspace(-0.1, 0.6, 701, dtype=np.float64)
_SCORES_AT_ONCE = 1_000_000
_SKLEARN_TOLERANCE = 1e-7
_SKLEARN_STEPS = 500


def scores(count: int) -> Iterator[AnyFloats]:
    """Seeded scores in pieces of a million, float32: 30 % of noise around .10, the others around .30."""
    random = np.random.default_rng(0)
    for start in range(0, count, _SCORES_AT_ONCE):
        held = min(_SCORES_AT_ONCE, count - start)
        noisy = random.random(held, dtype=np.float32) < NOISE_SHARE
        mean, spread = (np.where(noisy, np.float32(a), np.float32(b)) for a, b in zip(NOISE, CLEAN, strict=True))
        yield random.standard_normal(held, dtype=np.float32) * spread + mean


def fit_from_histograms(count: int) -> tuple[Components, Histogram, float]:
    """Our fit: the mixture, the counts, and the seconds that counting and fitting took; making scores is not in it."""
    merged: Histogram | None = None
    seconds = 0.0
    for piece in scores(count):
        started = time.perf_counter()
        lowest, highest = common_range(piece) if merged is None else (merged.lowest, merged.highest)
        counted = Histogram.of(piece, lowest, highest)
        merged = counted if merged is None else merged.merge(counted)
        seconds += time.perf_counter() - started
    assert merged is not None, "there is at least one score"
    started = time.perf_counter()
    components = fit_gaussians(merged)
    return components, merged, seconds + time.perf_counter() - started


def noise_fit_child(method: str, count: int) -> ChildCommand:
    """One fit per measurement; `method`: ours or scikit_learn."""
    return module_child(f"{method} {count:,}", "curate.bench.speed.noise_fit", {"method": method, "count": count})


def _ours(count: int) -> Answer:
    components, counted, seconds = fit_from_histograms(count)
    exact = 1 / (1 + np.exp(-components.log_odds(GRID)))
    used = component_posterior(components, counted)(GRID)
    return {"seconds": seconds, "mixture_posterior": exact.tolist(), "posterior": used.tolist()}


def _scikit_learn(count: int) -> Answer:
    from sklearn.mixture import GaussianMixture

    held = np.concatenate(list(scores(count)))[:, None]
    started = time.perf_counter()
    # With its default tolerance of 1e-3 it stops far from the likeliest mixture.
    fitted = GaussianMixture(2, tol=_SKLEARN_TOLERANCE, max_iter=_SKLEARN_STEPS, random_state=0).fit(held)
    seconds = time.perf_counter() - started
    noise = int(np.argmin(fitted.means_[:, 0]))
    return {"seconds": seconds, "posterior": fitted.predict_proba(GRID[:, None])[:, noise].tolist()}


def _make(given: dict[str, Any]) -> Measure:
    fit = {"ours": _ours, "scikit_learn": _scikit_learn}[given["method"]]
    return lambda: fit(given["count"])


if __name__ == "__main__":
    serve(_make)
