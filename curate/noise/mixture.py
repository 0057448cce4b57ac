"""From scores to the posterior probability of a gross mismatch.

Every fit reads histograms (`curate.noise.histogram`), so a billion scores cost what a million do. Three ways, all
monotone in the score: the density ratio of shuffled and observed pairs (local false discovery rate), two Gaussians and
two Betas, the latter with guards. The ratio is the default because it is better calibrated, bimodal or not. Measured
with 20 to 60 % of the captions exchanged: ECE .006 to .030 on 8,843 clipart pairs (Gaussians: .10 to .26 although d'
is above 1.5: clean scores are skewed, and the wrong ones fall to the noise component), .012 to .049 on 1,000
photographs (Gaussians: .03 to .06). All leave the ranking as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import lgamma
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.noise.grouping import hash_strings
from curate.noise.histogram import AnyFloats, Doubles, Histogram

MixtureKind = Literal["default", "null", "gmm", "beta"]
Separable = Literal["yes", "weak", "no"]

# Quantiles of the scores that the components' means start from; the likeliest result is taken.
EM_STARTS: Mapping[int, tuple[tuple[float, ...], ...]] = {
    1: ((0.5,),),
    2: ((0.25, 0.75), (0.05, 0.55), (0.45, 0.95)),
    3: ((0.15, 0.5, 0.85), (0.05, 0.35, 0.75)),
}
MOST_EM_STEPS = 500
# EM ends when a step gains less than this in mean log likelihood.
EM_TOLERANCE = 1e-7
PUBLISHED_BETA_STEPS = 10
BETA_CLIP = 1e-3
MIN_PAIRS = 50
MOST_IN_ONE_BIN = 0.9
MIN_WEIGHT = 0.01
MIN_SEPARATION = 1.5
MIN_FOUND_SHARE = 0.03
STOREY_QUANTILES = (0.15, 0.2, 0.3, 0.4, 0.5)
MAX_SHARE_GAP = 0.1
# "No better than shuffled pairs" is rejected if more than this share, by so many standard errors, beats the best
# shuffled.
UPPER_TAIL = 0.1
TAIL_ERRORS = 3.0
# Beyond this log odds the data says nothing; the small slope (per standard deviation) keeps the order of the scores
# inside the flat tails.
MAX_LOGIT = 8.0
TAIL_SLOPE = 0.05
BOOTSTRAP_DRAWS = 200
INTERVAL = (0.025, 0.975)
STRATUM_PAIRS = 500
_COMPONENT_KINDS = ("gmm", "beta")
_KNOTS = 1001
_SMALLEST_VARIANCE = 1e-6
_SMALLEST_CONCENTRATION = 1e-2
_TINY = 1e-300


@dataclass(frozen=True)
class Posterior:
    """p(noise | score), strictly decreasing in the score: log odds between knots by straight lines.

    Beyond the knots the outermost lines go on.

    Attributes:
        scores: knots, increasing, float64 [k], k > 1.
        logits: log odds of noise at the knots, strictly decreasing, float64 [k].
    """

    scores: Doubles
    logits: Doubles

    def __call__(self, scores: AnyFloats) -> NDArray[np.float32]:
        """Probability that the pair is a gross mismatch; float32 [n] in [0, 1], higher is noisier. NaN stays NaN."""
        exact = scores.astype(np.float64)
        below = np.minimum(exact - self.scores[0], 0.0) * self._slope(0)
        above = np.maximum(exact - self.scores[-1], 0.0) * self._slope(-2)
        logits = np.interp(exact, self.scores, self.logits) + below + above
        probability: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip(logits, -60, 60)))).astype(np.float32)
        return probability

    def inverse(self, probability: AnyFloats) -> Doubles:
        """The scores that have these probabilities, float64 [n]; 0 and 1 lie where floating point ends. NaN stays."""
        exact = np.clip(probability.astype(np.float64), _TINY, 1 - np.finfo(np.float32).epsneg)
        logits = np.log(exact) - np.log1p(-exact)
        inside = np.interp(logits, self.logits[::-1], self.scores[::-1])
        below = np.maximum(logits - self.logits[0], 0.0) / self._slope(0)
        above = np.minimum(logits - self.logits[-1], 0.0) / self._slope(-2)
        scores: Doubles = inside + below + above
        return scores

    def _slope(self, knot: int) -> float:
        return float((self.logits[knot + 1] - self.logits[knot]) / (self.scores[knot + 1] - self.scores[knot]))

    def mean(self, scores: Histogram) -> float:
        """Mean probability of the scores counted."""
        occupied = scores.occupied
        counts, probability = scores.counts[occupied], self(scores.centres[occupied]).astype(np.float64)
        return float((counts * probability).sum() / counts.sum())


def sloped_posterior(knots: Doubles, logits: Doubles, spread: float) -> Posterior:
    """The posterior of log odds that do not increase: clipped to +-MAX_LOGIT and made strictly decreasing.

    TAIL_SLOPE per `spread` is taken off on the way up, between the knots and beyond; odds of one to one stay.
    """
    clipped = np.clip(logits, -MAX_LOGIT, MAX_LOGIT)
    centre = np.interp(0.0, clipped[::-1], knots[::-1])
    scores = np.concatenate([[knots[0] - spread], knots, [knots[-1] + spread]])
    flat = np.concatenate([clipped[:1], clipped, clipped[-1:]])
    return Posterior(scores, flat - TAIL_SLOPE * (scores - centre) / spread)


def undecided_posterior(scores: Histogram) -> Posterior:
    """About one half for every pair (so all are "uncertain"), in the order of their scores."""
    middle = scores.quantile(0.5) if scores.total else 0.5 * (scores.lowest + scores.highest)
    return sloped_posterior(np.array([middle]), np.zeros(1), _spread(scores))


def _spread(scores: Histogram) -> float:
    return max(float(np.sqrt(scores.variance)), scores.width) if scores.total else scores.highest - scores.lowest


@dataclass(frozen=True)
class Components(ABC):
    """A mixture's components in the order of their means: of two, noise comes first, as clean scores are higher.

    Attributes:
        weights, means, sds: one per component, in units of the scores.
        log_likelihood: of all scores, each taken for the middle of its bin.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    log_likelihood: float

    @property
    def separation(self) -> float:
        """d' = (mu_clean - mu_noise) / sqrt(var_clean + var_noise)."""
        return (self.means[-1] - self.means[0]) / float(np.hypot(self.sds[0], self.sds[-1]))

    def bic(self, pairs: float) -> float:
        """Bayesian information criterion, lower is better: (3 k - 1) log n - 2 log L, n the number of scores."""
        return float((3 * len(self.weights) - 1) * np.log(pairs) - 2 * self.log_likelihood)

    def log_odds(self, scores: Doubles) -> Doubles:
        """log p(noise | score) - log p(clean | score), not monotone in the far tails when the spreads differ."""
        density = self.log_densities(scores) + np.log(np.maximum(self.weights, _TINY))[:, None]
        odds: Doubles = density[0] - density[-1]
        return odds

    @abstractmethod
    def log_densities(self, scores: Doubles) -> Doubles:
        """Of each component without its weight, up to one constant for all; float64 [k, n]."""

    @abstractmethod
    def refitted(self, scores: Histogram) -> Components:
        """EM on other scores, from here."""

    def moments(self, points: _Points) -> _Moments:
        """Scaled as the points are."""
        means = (np.array(self.means) - points.origin) / points.unit
        return _Moments(np.array(self.weights), means, (np.array(self.sds) / points.unit) ** 2)


@dataclass(frozen=True)
class Gaussians(Components):
    """Normal distributions."""

    def log_densities(self, scores: Doubles) -> Doubles:
        """See `Components`."""
        return _log_gaussians(scores, np.array(self.means), np.array(self.sds) ** 2)

    def refitted(self, scores: Histogram) -> Gaussians:
        """See `Components`."""
        points = _standardised(scores)
        return Gaussians(*_em(points, _log_gaussians, self.moments(points), MOST_EM_STEPS))


@dataclass(frozen=True)
class Betas(Components):
    """Beta distributions of scores scaled to [0, 1] and clipped to [.001, .999].

    Attributes:
        lowest, highest: scores that are scaled to 0 and 1.
    """

    lowest: float
    highest: float

    def log_densities(self, scores: Doubles) -> Doubles:
        """See `Components`; constant beyond the range."""
        points = _to_unit(scores, self.lowest, self.highest)
        unit = self.highest - self.lowest
        return _log_betas(points, (np.array(self.means) - self.lowest) / unit, (np.array(self.sds) / unit) ** 2)

    def refitted(self, scores: Histogram) -> Betas:
        """See `Components`; the scaling stays."""
        points = _scaled_to_unit(scores, self.lowest, self.highest)
        fit = _em(points, _log_betas, self.moments(points), MOST_EM_STEPS)
        return Betas(*fit, self.lowest, self.highest)


class _Moments(NamedTuple):
    """A mixture's weights, means and variances, float64 [k] each."""

    weights: Doubles
    means: Doubles
    variances: Doubles


@dataclass(frozen=True)
class _Points:
    """A histogram's occupied bins as EM sees them: score = origin + unit * value; the shares sum to one."""

    values: Doubles
    share: Doubles
    total: float
    origin: float
    unit: float
    smallest_variance: float


def _standardised(scores: Histogram) -> _Points:
    # Cosines vary by some .04: any floor of the variances that suits losses would swamp them unscaled.
    occupied, mean, sd = scores.occupied, scores.mean, _spread(scores)
    return _Points(
        values=(scores.centres[occupied] - mean) / sd,
        share=scores.counts[occupied] / scores.total,
        total=scores.total,
        origin=mean,
        unit=sd,
        smallest_variance=max(_SMALLEST_VARIANCE, (scores.width / sd) ** 2 / 12),
    )


def _scaled_to_unit(scores: Histogram, lowest: float, highest: float) -> _Points:
    occupied = scores.occupied
    return _Points(
        values=_to_unit(scores.centres[occupied], lowest, highest),
        share=scores.counts[occupied] / scores.total,
        total=scores.total,
        origin=lowest,
        unit=highest - lowest,
        smallest_variance=_SMALLEST_VARIANCE,
    )


def _to_unit(scores: Doubles, lowest: float, highest: float) -> Doubles:
    return np.clip((scores - lowest) / (highest - lowest), BETA_CLIP, 1 - BETA_CLIP)


_LogDensities: TypeAlias = Callable[[Doubles, Doubles, Doubles], Doubles]


def _log_gaussians(values: Doubles, means: Doubles, variances: Doubles) -> Doubles:
    """log N(x; mean_k, variance_k), float64 [k, n]."""
    deviation = values - means[:, None]
    density: Doubles = -0.5 * (deviation * deviation / variances[:, None] + np.log(2 * np.pi * variances)[:, None])
    return density


def _log_betas(values: Doubles, means: Doubles, variances: Doubles) -> Doubles:
    """log Beta(x; a_k, b_k) with a = m c, b = (1 - m) c, c = m (1 - m) / v - 1; float64 [k, n]."""
    means = np.clip(means, BETA_CLIP, 1 - BETA_CLIP)
    concentration = np.maximum(means * (1 - means) / variances - 1, _SMALLEST_CONCENTRATION)
    a, b = means * concentration, (1 - means) * concentration
    constant = np.array([lgamma(x + y) - lgamma(x) - lgamma(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    density: Doubles = (a - 1)[:, None] * np.log(values) + (b - 1)[:, None] * np.log1p(-values) + constant[:, None]
    return density


def _em(
    points: _Points, log_densities: _LogDensities, start: _Moments, steps: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float]:
    """Expectation, then moment matching (for Gaussians: maximisation), until a step changes next to nothing.

    Weights, means and sds in units of the scores, by mean; log likelihood. O(steps bins).
    """
    moments, likelihood = start, -np.inf
    for _ in range(steps):
        before = likelihood
        responsibility, likelihood = _responsibilities(points, log_densities, moments)
        if abs(likelihood - before) < EM_TOLERANCE:
            break
        moments = _matched(points, responsibility)
    else:
        _, likelihood = _responsibilities(points, log_densities, moments)
    order = np.argsort(moments.means, kind="stable")
    return (
        tuple(moments.weights[order].tolist()),
        tuple((points.origin + points.unit * moments.means[order]).tolist()),
        tuple((points.unit * np.sqrt(moments.variances[order])).tolist()),
        points.total * float(likelihood - np.log(points.unit)),
    )


def _responsibilities(points: _Points, log_densities: _LogDensities, moments: _Moments) -> tuple[Doubles, float]:
    """Each component's part of each bin's share, float64 [k, bins], and the mean log likelihood."""
    density = log_densities(points.values, moments.means, moments.variances)
    density += np.log(np.maximum(moments.weights, _TINY))[:, None]
    highest = density.max(axis=0)
    density = np.exp(density - highest)
    total = density.sum(axis=0)
    return density * (points.share / total), float((points.share * (highest + np.log(total))).sum())


def _matched(points: _Points, responsibility: Doubles) -> _Moments:
    weights = responsibility.sum(axis=1)
    held = np.maximum(weights, _TINY)
    means = (responsibility * points.values).sum(axis=1) / held
    deviation = points.values - means[:, None]
    variances = (responsibility * deviation * deviation).sum(axis=1) / held
    return _Moments(weights, means, np.maximum(variances, points.smallest_variance))


def _starts(scores: Histogram, points: _Points, components: int) -> list[_Moments]:
    variance = (points.share * points.values**2).sum() - (points.share * points.values).sum() ** 2
    variances = np.full(components, max(float(variance) / components**2, points.smallest_variance))
    weights = np.full(components, 1 / components)
    quantiles = (np.array([scores.quantile(share) for share in shares]) for shares in EM_STARTS[components])
    return [_Moments(weights, (means - points.origin) / points.unit, variances) for means in quantiles]


def fit_gaussians(scores: Histogram, components: int = 2) -> Gaussians:
    """Mixture of 1, 2 or 3 Gaussians by EM on standardised values, the likeliest of a few starts, none random.

    O(bins) per step, at most 500 steps per start. The histogram must not be empty.
    """
    points = _standardised(scores)
    starts = _starts(scores, points, components)
    fits = [Gaussians(*_em(points, _log_gaussians, start, MOST_EM_STEPS)) for start in starts]
    return max(fits, key=lambda fit: fit.log_likelihood)


def fit_betas(scores: Histogram, components: int = 2) -> Betas:
    """Mixture of 1 or 2 Betas by EM with moment matching, the likeliest of a few starts. As for Gaussians.

    With the published 10 steps (`published_betas`) components have not found their heaps yet when most scores are
    clean or most are noise.
    """
    lowest, highest = _ends(scores)
    points = _scaled_to_unit(scores, lowest, highest)
    starts = _starts(scores, points, components)
    fits = [Betas(*_em(points, _log_betas, start, MOST_EM_STEPS), lowest, highest) for start in starts]
    return max(fits, key=lambda fit: fit.log_likelihood)


def published_betas(scores: Histogram) -> Betas:
    """Two Betas as in BiCro (CVPR 2023) and L2RM (CVPR 2024): 10 steps of EM from Beta(1, 2) and Beta(2, 1).

    They fit losses, the mirror image of scores, and so is the start (Arazo et al., ICML 2019).
    """
    lowest, highest = _ends(scores)
    points = _scaled_to_unit(scores, lowest, highest)
    start = _Moments(np.array([0.5, 0.5]), np.array([1 / 3, 2 / 3]), np.array([1 / 18, 1 / 18]))
    return Betas(*_em(points, _log_betas, start, PUBLISHED_BETA_STEPS), lowest, highest)


def _ends(scores: Histogram) -> tuple[float, float]:
    """Lowest and highest score, at least one bin apart."""
    first, last = scores.centres[scores.occupied[[0, -1]]].tolist()
    return first, max(last, first + scores.width)


def component_posterior(components: Components, scores: Histogram) -> Posterior:
    """Bayes posterior of the mixture, made monotone: past its turning points in the tails it stays where it was."""
    knots = np.linspace(*_ends(scores), _KNOTS, dtype=np.float64)
    odds = np.clip(components.log_odds(knots), -MAX_LOGIT, MAX_LOGIT)
    middle = int(np.searchsorted(knots, 0.5 * (components.means[0] + components.means[-1])))
    right = np.minimum.accumulate(odds[middle:])
    left = np.maximum.accumulate(odds[: middle + 1][::-1])[::-1][:middle]
    return sloped_posterior(knots, np.concatenate([left, right]), _spread(scores))


def storey_share(scores: Histogram, null: Histogram) -> float:
    """Share of noise: min over a of F_obs(q_a) / a plus one standard error, q_a the a-quantile of the null; in [0, 1].

    Below q_a lies a share a of all mismatches, and hardly a matching pair (Storey, JRSS-B 2002). The smallest of
    several uncertain estimates is too small on average (1,000 pairs: .53 for .60); the standard error makes up for
    that.
    """
    return min(1.0, *(_share_below(scores, null, a) for a in STOREY_QUANTILES))


def _share_below(scores: Histogram, null: Histogram, quantile: float) -> float:
    # One more than counted: that no pair lies so low among 1,000 does not prove that there is no mismatch at all.
    below = (scores.cdf(null.quantile(quantile)) * scores.total + 1) / (scores.total + 1)
    of_scores = below * (1 - below) / scores.total
    of_quantile = (below / quantile) ** 2 * quantile * (1 - quantile) / null.total
    return float((below + np.sqrt(of_scores + of_quantile)) / quantile)


def storey_hard_share(scores: Histogram, null: Histogram, hard: Histogram, null_share: float) -> float:
    """Share of near misses: (F_obs(h_a) - pi F_null(h_a)) / a less one standard error; in [0, 1 - pi].

    `storey_share` of the hard null, h_a its a-quantile, on what the random mismatches leave of the scores; a is chosen
    as there, but the lower end is taken: clean pairs score nearly like near misses, and must not be taken for them.
    Too small on average (three Gaussian heaps, 6,000 pairs: .15 for .20 and .36 for .40; none for none).

    Args:
        scores, null: observed pairs, shuffled pairs.
        hard: pairs whose caption was exchanged for a near one.
        null_share: pi, share of random mismatches.
    """
    estimates = [_hard_share_below(scores, null, hard, null_share, a) for a in STOREY_QUANTILES]
    share, error = min(estimates, key=sum)
    return min(max(0.0, share - error), 1 - null_share)


def _hard_share_below(
    scores: Histogram, null: Histogram, hard: Histogram, null_share: float, quantile: float
) -> tuple[float, float]:
    """Estimate and standard error."""
    edge = hard.quantile(quantile)
    below, random = scores.cdf(edge), null.cdf(edge)
    share = (below - null_share * random) / quantile
    of_scores = below * (1 - below) / scores.total
    of_null = null_share**2 * random * (1 - random) / null.total
    of_quantile = share**2 * quantile * (1 - quantile) / hard.total
    return share, float(np.sqrt(of_scores + of_null + of_quantile)) / quantile


def better_than_shuffled(scores: Histogram, null: Histogram, design_effect: float = 1.0) -> bool:
    """Whether more observed than shuffled pairs score above the null's 90 % quantile, by three standard errors.

    Args:
        scores, null: of observed and shuffled pairs.
        design_effect: by how much the variance of a share of observed pairs is larger than that of independent ones:
            pairs of one picture score alike.
    """
    above = 1 - scores.cdf(null.quantile(1 - UPPER_TAIL))
    error = np.sqrt(UPPER_TAIL * (1 - UPPER_TAIL) * (design_effect / scores.total + 1 / null.total))
    return bool(above > UPPER_TAIL + TAIL_ERRORS * error)


def separation_from_null(scores: Histogram, null: Histogram, noise_share: float) -> float:
    """d' = (mu_clean - mu_null) / sqrt(var_clean + var_null), the clean moments being what is left of all.

    E_clean[s^k] = (E_obs[s^k] - pi E_null[s^k]) / (1 - pi), of scores counted from the null's mean.
    """
    clean_share = max(1 - noise_share, MIN_WEIGHT)
    distance = scores.mean - null.mean
    mean = distance / clean_share
    square = (scores.variance + distance**2 - noise_share * null.variance) / clean_share
    variance = max(square - mean**2, 0.0) + null.variance
    return mean / float(np.sqrt(max(variance, (scores.width**2) / 12)))


def null_posterior(
    scores: Histogram,
    null: Histogram,
    null_share: float,
    hard: Histogram | None = None,
    hard_share: float = 0.0,
) -> Posterior:
    """Local false discovery rate p = (pi f_null + pi_h f_hard) / f_obs (Efron 2001), by isotonic regression. O(bins).

    With e the mismatches to be expected in a bin and o the observed pairs, the regression of e / (e + o) on the score,
    weighted by e + o, gives q, and p = q / (1 - q).

    Args:
        scores, null: observed pairs, shuffled pairs.
        null_share: pi, see `storey_share`.
        hard: pairs whose caption was exchanged for a near one.
        hard_share: pi_h, see `storey_hard_share`.
    """
    from sklearn.isotonic import isotonic_regression

    expected = null.counts * (null_share * scores.total / null.total)
    if hard is not None:
        expected = expected + hard.counts * (hard_share * scores.total / hard.total)
    pooled = expected + scores.counts
    occupied = np.flatnonzero(pooled)
    expected, pooled = expected[occupied], pooled[occupied]
    q = isotonic_regression(expected / pooled, sample_weight=pooled, increasing=False)
    _, block = np.unique(-q, return_inverse=True)
    mass, noise = np.bincount(block, weights=pooled), np.bincount(block, weights=expected)
    centres = np.bincount(block, weights=pooled * scores.centres[occupied]) / mass
    odds = np.clip(noise / np.maximum(mass - noise, 1e-9 * mass), 1e-9, 1 - 1e-9)
    return sloped_posterior(centres, np.log(odds) - np.log1p(-odds), _spread(scores))


@dataclass(frozen=True)
class Stratum:
    """Whose mixture it is, and where it comes from.

    Attributes:
        name: of the stratum.
        pairs: that it has.
        fit: "own": fitted to its own scores; "pooled": the fit of all pairs.
        reason: why, for a person.
    """

    name: str
    pairs: int
    fit: Literal["own", "pooled"]
    reason: str

    def diagnostics(self) -> dict[str, object]:
        """JSON-able."""
        return {"stratum": self.name, "pairs": self.pairs, "fit": self.fit, "reason": self.reason}


@dataclass(frozen=True)
class Mixture:
    """A fitted posterior and how it came about. What could not be estimated is None.

    Attributes:
        posterior: score -> probability of noise.
        method: "null", "gmm", "beta" or "none".
        reason: why this one, for a person.
        separable: see `verdict`.
        noise_share: estimated share of mismatches: the mean posterior (method "none": its upper bound).
        noise_share_interval: 95 % bootstrap interval of it (method "none": 0 to 1). It tells how much another sample
            would have changed the estimate, not whether the model is right.
        null_share: `storey_share`, at the upper end of what the shuffled pairs allow.
        hard_share: `storey_hard_share`, at the lower end of what the near misses allow; None where there are none.
        null_separation: d' between shuffled pairs and what observed pairs are beyond them, see `separation_from_null`.
        components: the two-component fit, kept for the diagnostics whatever was chosen: Betas if asked for, else
            Gaussians.
        bic: of one, two and three Gaussians ("1", "2", "3"), lower is better.
        pairs: number of scores it was fitted to.
        stratum: set where pairs are fitted in strata.
    """

    posterior: Posterior
    method: str
    reason: str
    separable: Separable
    noise_share: float
    noise_share_interval: tuple[float, float]
    null_share: float | None
    hard_share: float | None
    null_separation: float | None
    components: Components | None
    bic: dict[str, float] | None
    pairs: int
    stratum: Stratum | None = None

    def diagnostics(self) -> dict[str, object]:
        """JSON-able figures."""
        two = self.components
        figures: dict[str, object] = {
            "method": self.method,
            "reason": self.reason,
            "separable": self.separable,
            "noise_share": self.noise_share,
            "noise_share_interval": list(self.noise_share_interval),
            "null_share": self.null_share,
            "hard_share": self.hard_share,
            "null_separation": self.null_separation,
            "pairs": self.pairs,
            "weights": two and _named(two.weights),
            "means": two and _named(two.means),
            "sds": two and _named(two.sds),
            "separation": two and two.separation,
            "bic": self.bic,
        }
        return figures if self.stratum is None else {**figures, "stratum": self.stratum.diagnostics()}


def _named(values: tuple[float, ...]) -> dict[str, float]:
    return {"noise": values[0], "clean": values[-1]}


def verdict(better_than_noise: bool, separation: float) -> Separable:
    """Whether noise and clean can be told apart.

    "no": the scores are no better than noise; "weak": d' is below 1.5; "yes": it is not. `fit_mixture` makes a "yes"
    weak where it finds less than MIN_FOUND_SHARE of noise: then there is no second heap to tell from the first.
    Captions exchanged for nearly right ones leave none either: where little was found, little may be wrong, or much
    may be a little wrong.

    Args:
        better_than_noise: `better_than_shuffled`; without shuffled pairs, whether there are two heaps at all.
        separation: d' of clean pairs and noise.
    """
    if not better_than_noise:
        return "no"
    return "yes" if separation >= MIN_SEPARATION else "weak"


@dataclass(frozen=True)
class _Observed:
    """The histograms of one fit, all with the same bins."""

    scores: Histogram
    null: Histogram | None
    hard: Histogram | None
    design_effect: float = 1.0

    def check(self, kind: MixtureKind) -> None:
        if self.null is None and (kind not in _COMPONENT_KINDS or self.hard is not None):
            raise CurateError(f"a mixture of kind {kind!r} needs the scores of shuffled pairs, and there are none")
        for other in (self.null, self.hard):
            if other is not None:
                self.scores.check_same_bins(other)

    def nothing_to_fit(self) -> str | None:
        """What makes any fit an invention; None if nothing does."""
        for name, held in (("pairs", self.scores), ("shuffled pairs", self.null)):
            if held is not None and held.total < MIN_PAIRS:
                return f"{held.total:.0f} {name} are too few (needed: {MIN_PAIRS}): nothing can be said"
        most = float(self.scores.counts.max()) / self.scores.total
        if most > MOST_IN_ONE_BIN:
            return f"{most:.1%} of the scores are the same: nothing can be said"
        return None

    def shares(self) -> tuple[float | None, float | None]:
        """Of random mismatches and of near misses, None without their null."""
        if self.null is None:
            return None, None
        random = storey_share(self.scores, self.null)
        return random, None if self.hard is None else storey_hard_share(self.scores, self.null, self.hard, random)

    def resampled(self, rng: np.random.Generator) -> _Observed:
        scores = self.scores.resampled(rng)
        null, hard = (None if held is None else held.resampled(rng) for held in (self.null, self.hard))
        return _Observed(scores, null, hard, self.design_effect)


def fit_mixture(
    scores: Histogram,
    null: Histogram | None,
    kind: MixtureKind,
    *,
    hard: Histogram | None = None,
    guarded: bool = True,
    rng: np.random.Generator,
    draws: int = BOOTSTRAP_DRAWS,
    design_effect: float = 1.0,
) -> Mixture:
    """The posterior asked for, or what takes its place where it would mislead. O(draws bins) time, O(bins) memory.

    Args:
        scores: of observed pairs, every one by a model that never saw it, higher is cleaner.
        null: of shuffled pairs, in the same bins; None: there are none, which only "gmm" and "beta" can do without.
        kind: "null" and "default": the density ratio to the null. "gmm", "beta": two components if they pass the
            guards, else the null; where there is none, an undecided posterior.
        hard: of pairs whose caption was exchanged for a near one; "null" then counts near misses as noise too. Fewer
            than 50 are left out.
        guarded: False takes two components as published methods do, whatever speaks against them.
        rng: for the bootstrap.
        draws: bootstrap samples, at least 1.
        design_effect: of pairs that share a picture, see `better_than_shuffled`.

    Raises:
        CurateError: the bins differ, or a null is missing.
    """
    observed = _Observed(scores, null, hard, design_effect)
    observed.check(kind)
    if hard is not None and hard.total < MIN_PAIRS:
        observed = replace(observed, hard=None)
    nothing = observed.nothing_to_fit()
    if nothing is not None:
        return _undecided(observed, nothing)
    estimates, two, failed = _estimates(observed, kind, guarded)
    if kind in _COMPONENT_KINDS and not (guarded and (failed or estimates.separable == "no")):
        method, reason = kind, "asked for, " + ("and the guards hold" if guarded else "and taken as published")
        posterior, refit = component_posterior(two, scores), _refit(two, guarded)
    elif null is None or estimates.separable == "no":
        return replace(estimates, separable="no")
    else:
        method, reason = "null", "; ".join(failed) or "better calibrated than two components"
        posterior, refit = _fit_null(observed), _fit_null
    share = posterior.mean(scores)
    return replace(
        estimates,
        posterior=posterior,
        method=method,
        reason=reason,
        separable=estimates.separable if share >= MIN_FOUND_SHARE else "weak",
        noise_share=share,
        noise_share_interval=_share_interval(observed, refit, share, rng, draws),
    )


def _undecided(observed: _Observed, reason: str) -> Mixture:
    return Mixture(
        posterior=undecided_posterior(observed.scores),
        method="none",
        reason=reason,
        separable="no",
        noise_share=1.0,
        noise_share_interval=(0.0, 1.0),
        null_share=None,
        hard_share=None,
        null_separation=None,
        components=None,
        bic=None,
        pairs=round(observed.scores.total),
    )


def _estimates(observed: _Observed, kind: MixtureKind, guarded: bool) -> tuple[Mixture, Components, list[str]]:
    """An undecided mixture with all that can be estimated; its components; what speaks against them if asked for."""
    scores, null = observed.scores, observed.null
    gaussians = [fit_gaussians(scores, components) for components in (1, 2, 3)]
    one, two = _betas(scores, guarded) if kind == "beta" else gaussians[:2]
    null_share, near_share = observed.shares()
    failed = failed_guards(one, two, scores.total, null_share) if kind in _COMPONENT_KINDS else []
    if null is None or null_share is None:
        better, separation = two.bic(scores.total) < one.bic(scores.total), two.separation
        reason = f"{'; '.join(failed)}: nothing can be said without shuffled pairs"
    else:
        better = better_than_shuffled(scores, null, observed.design_effect)
        separation = separation_from_null(scores, null, null_share)
        reason = "observed pairs score no better than shuffled ones: nothing can be said"
    mixture = replace(
        _undecided(observed, reason),
        separable=verdict(better, separation),
        noise_share=1.0 if null_share is None else null_share,
        null_share=null_share,
        hard_share=near_share,
        null_separation=None if null is None else separation,
        components=two,
        bic={str(len(fit.weights)): fit.bic(scores.total) for fit in gaussians},
    )
    return mixture, two, failed


def _betas(scores: Histogram, guarded: bool) -> list[Betas]:
    return [fit_betas(scores, 1), fit_betas(scores) if guarded else published_betas(scores)]


def failed_guards(one: Components, two: Components, pairs: float, null_share: float | None) -> list[str]:
    """What speaks against reading two components as noise and clean; empty if nothing does.

    Args:
        one, two: the fits of one and of two components.
        pairs: number of scores.
        null_share: share of noise by `storey_share`, which assumes nothing of how clean pairs score; None: unknown.
    """
    failed = []
    if min(two.weights) < MIN_WEIGHT:
        failed.append(f"a component weighs {min(two.weights):.4f}, less than {MIN_WEIGHT}")
    if two.bic(pairs) >= one.bic(pairs):
        failed.append("BIC prefers one component")
    if two.separation < MIN_SEPARATION:
        failed.append(f"d' is {two.separation:.2f}, less than {MIN_SEPARATION}")
    if null_share is not None and abs(two.weights[0] - null_share) > MAX_SHARE_GAP:
        failed.append(f"the noise component weighs {two.weights[0]:.2f}, shuffled pairs say {null_share:.2f}")
    return failed


_Fit: TypeAlias = Callable[[_Observed], Posterior]


def _fit_null(observed: _Observed) -> Posterior:
    if observed.null is None:
        raise CurateError("there are no shuffled pairs to compare the scores with")
    null_share, near_share = observed.shares()
    return null_posterior(observed.scores, observed.null, null_share or 0.0, observed.hard, near_share or 0.0)


def _refit(two: Components, guarded: bool) -> _Fit:
    """The same fit to resampled scores: from where this one ended, or from the published start if that counts."""

    def fit(observed: _Observed) -> Posterior:
        scores = observed.scores
        again = published_betas(scores) if isinstance(two, Betas) and not guarded else two.refitted(scores)
        return component_posterior(again, scores)

    return fit


def _share_interval(
    observed: _Observed, fit: _Fit, share: float, rng: np.random.Generator, draws: int
) -> tuple[float, float]:
    """Percentile interval of the bootstrap, moved so that its median is the estimate.

    A sample of a sample has noise twice, and noise makes the smallest of Storey's estimates smaller. Unmoved, the
    interval held the true share of two Gaussian heaps in 83 to 87 % of 30 draws; moved, in 90 to 97 %.
    """
    samples = (observed.resampled(rng) for _ in range(draws))
    shares = [fit(sample).mean(sample.scores) for sample in samples]
    low, median, high = np.quantile(shares, [INTERVAL[0], 0.5, INTERVAL[1]]).tolist()
    return max(0.0, share + low - median), min(1.0, share + high - median)


Nulls: TypeAlias = Histogram | Mapping[str, Histogram] | None


def fit_strata(
    pooled: Mixture,
    strata: Mapping[str, Histogram],
    null: Nulls,
    kind: MixtureKind,
    *,
    hard: Nulls = None,
    guarded: bool = True,
    rng: np.random.Generator,
    minimum: int = STRATUM_PAIRS,
    draws: int = BOOTSTRAP_DRAWS,
    design_effect: float = 1.0,
) -> dict[str, Mixture]:
    """A mixture per stratum, or the pooled one where a stratum's own says nothing; `Mixture.stratum` says which.

    A stratum's result does not depend on the strata beside it. O(strata draws bins).

    Args:
        pooled: fit of all pairs.
        strata: observed scores of each.
        null, hard: as for `fit_mixture`, either one for all strata or one per stratum.
        kind, guarded, draws, design_effect: as for `fit_mixture`.
        rng: one number is drawn; each stratum's bootstrap is seeded by it and the stratum's name.
        minimum: a stratum with fewer pairs has no fit of its own.

    Raises:
        CurateError: bins differ, or there is no null at all where one is needed.
    """
    seed = int(rng.integers(2**63))
    mixtures = {}
    for name, scores in strata.items():
        own_rng = np.random.default_rng([seed, int(hash_strings([name])[0])])
        own: Mixture | None = None
        if scores.total < minimum:
            reason = f"{scores.total:.0f} pairs, fewer than {minimum}"
        elif _lacks(null, name) or _lacks(hard, name):
            reason = "it has no null of its own"
        else:
            own = fit_mixture(
                scores,
                _of(null, name),
                kind,
                hard=_of(hard, name),
                guarded=guarded,
                rng=own_rng,
                draws=draws,
                design_effect=design_effect,
            )
            reason = own.reason
        mixtures[name] = _stratum(name, scores, pooled, own, reason)
    return mixtures


def _lacks(nulls: Nulls, name: str) -> bool:
    return isinstance(nulls, Mapping) and name not in nulls


def _of(nulls: Nulls, name: str) -> Histogram | None:
    return nulls[name] if isinstance(nulls, Mapping) else nulls


def _stratum(name: str, scores: Histogram, pooled: Mixture, own: Mixture | None, reason: str) -> Mixture:
    usable = own is not None and own.separable != "no"
    stratum = Stratum(name, round(scores.total), "own" if usable else "pooled", reason)
    return replace(own if own is not None and usable else pooled, stratum=stratum)
