"""How each signal splits the pairs: what was fitted to it, where its threshold is, and whether that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.noise.histogram import Histogram, common_range
from curate.noise.mixture import MAX_SHARE_GAP, Betas, Components, Gaussians, Mixture, Posterior, fit_mixture
from curate.noise.signals import HIGHER_IS_NOISIER
from curate.ranking import Doubles
from curate.report.findings import Sample
from curate.schema import SIGNAL_DESCRIPTIONS

_BINS = 1024
_SEED = 0
_METHODS = {
    "null": "Posterior from shuffled pairs (the two components are there to compare)",
    "gmm": "Posterior from two Gaussians",
    "beta": "Posterior from two Betas",
    "none": "No posterior",
}


@dataclass(frozen=True)
class Split:
    """One score of a sample of pairs, and what was fitted to it.

    Attributes:
        name: of the signal.
        about: what it is.
        noisier: whether higher is noisier; scores are then the values with the opposite sign.
        values: of the pairs that have one, float64 [m].
        noise_prob: what the run says of the same pairs, float64 [m].
        components: the fit of two components to the scores; None: nothing could be fitted.
        posterior: score -> probability of a mismatch; None: the scores by themselves say nothing that can be trusted.
        thresholds: what each is called, and the value of the signal there.
        facts: BIC, separation and the like, for a person.
        trusted: "yes", "weak" or "no".
        verdict: whether the split can be trusted here, in a sentence.
    """

    name: str
    about: str
    noisier: bool
    values: Doubles
    noise_prob: Doubles
    components: Components | None
    posterior: Posterior | None
    thresholds: tuple[tuple[str, float], ...]
    facts: str
    trusted: str
    verdict: str


def signal_splits(sample: Sample, decided: bool) -> list[Split]:
    """Every signal by itself: two Gaussians fitted to the sample, without the help of shuffled pairs. O(m).

    Args:
        sample: of pairs.
        decided: whether the run's noise_prob means anything: what it says is then what a signal is measured by.
    """
    return [_of_signal(name, values, sample.noise_prob, decided) for name, values in sample.signals.items()]


def score_split(
    sample: Sample, posterior: Posterior, mixture: Mapping[str, Any], thresholds: Sequence[tuple[str, float]]
) -> Split:
    """The score that noise_prob comes from, found again by going back through the posterior.

    Args:
        sample: of pairs that all share the posterior.
        posterior: score -> noise_prob, of the fit that the run's noise_prob comes from.
        mixture: diagnostics of that fit.
        thresholds: of labels: what each is called, and its noise_prob.
    """
    noise_prob = sample.noise_prob[np.isfinite(sample.noise_prob)]
    scores = posterior.inverse(noise_prob)
    at = posterior.inverse(np.array([probability for _, probability in thresholds]))
    places = tuple((name, float(x)) for (name, _), x in zip(thresholds, at, strict=True))
    apart = mixture["separable"]
    return Split(
        name="score",
        about=f"made of {mixture['score']}" if "score" in mixture else "",
        noisier=False,
        values=scores,
        noise_prob=noise_prob,
        components=_components(mixture, scores),
        posterior=None if apart == "no" else posterior,
        thresholds=() if apart == "no" else places,
        facts=_facts(mixture),
        trusted=apart,
        verdict=VERDICTS[apart],
    )


VERDICTS = {
    "yes": "The split can be trusted: right pairs and gross mismatches form two separate heaps.",
    "weak": "Take the split with care: either hardly anything is grossly wrong, or wrong captions are near misses "
    "that scores cannot tell from right ones. The order of pairs still means something: look at the boundary.",
    "no": "The split means nothing here: pairs score no better than shuffled ones. Nothing was invented: every pair "
    "has a probability of about one half.",
}


def _of_signal(name: str, values: Doubles, noise_prob: Doubles, decided: bool) -> Split:
    held = np.isfinite(values) & np.isfinite(noise_prob)
    values, noise_prob = values[held], noise_prob[held]
    noisier = name in HIGHER_IS_NOISIER
    sign = -1.0 if noisier else 1.0
    scores = Histogram.of(sign * values, *common_range(sign * values), bins=_BINS)
    # Only the estimates are looked at, not their interval: one draw is the least that can be asked for.
    mixture = fit_mixture(scores, None, "gmm", rng=np.random.default_rng(_SEED), draws=1)
    trusted, verdict = _alone(mixture, float(noise_prob.mean()) if decided else None)
    half = sign * float(mixture.posterior.inverse(np.array([0.5]))[0])
    return Split(
        name=name,
        about=SIGNAL_DESCRIPTIONS[name],
        noisier=noisier,
        values=values,
        noise_prob=noise_prob,
        components=mixture.components,
        posterior=None if trusted == "no" else mixture.posterior,
        thresholds=() if trusted == "no" else (("½", half),),
        facts=_facts(mixture.diagnostics()),
        trusted=trusted,
        verdict=verdict,
    )


def _alone(mixture: Mixture, expected: float | None) -> tuple[str, str]:
    """Whether a signal could split the pairs by itself, "yes", "weak" or "no", and why, in a sentence.

    Args:
        mixture: fitted to the signal.
        expected: share of mismatches by noise_prob; None: it means nothing.
    """
    if mixture.method == "none":
        return "no", f"Alone it should not split these pairs: {mixture.reason}."
    if expected is None:
        return "no", (
            "Alone it has two heaps, but pairs score no better than shuffled ones: they are not right and wrong."
        )
    if abs(mixture.noise_share - expected) > MAX_SHARE_GAP:
        return "no", (
            f"Alone it would mislead: it would expect {mixture.noise_share:.1%} of these pairs to be wrong, "
            f"noise_prob expects {expected:.1%}."
        )
    if mixture.separable == "yes":
        return "yes", "Alone it could split these pairs: its values form two separate heaps."
    return "weak", "Alone it splits these pairs with doubt: hardly any lie in the heap that would be wrong."


def _components(mixture: Mapping[str, Any], scores: Doubles) -> Components | None:
    if not mixture["means"] or not len(scores):
        return None
    weights, means, sds = (
        tuple(mixture[of][kind] for kind in ("noise", "clean")) for of in ("weights", "means", "sds")
    )
    if mixture.get("options", {}).get("mixture") == "beta":
        return Betas(weights, means, sds, float("nan"), float(scores.min()), float(scores.max()))
    return Gaussians(weights, means, sds, float("nan"))


def _facts(mixture: Mapping[str, Any]) -> str:
    """Method, d' and BIC in one line."""
    facts = [_METHODS[mixture["method"]]]
    if mixture["null_separation"] is not None:
        facts.append(f"d' from shuffled pairs {mixture['null_separation']:.2f}")
    if mixture["separation"] is not None:
        facts.append(f"d' of the components {mixture['separation']:.2f}")
    if mixture["bic"]:
        numbers = ", ".join(f"{value:,.0f}" for value in mixture["bic"].values())
        facts.append(f"BIC of 1, 2, 3 components {numbers} (lower is better)")
    return "; ".join(facts)
