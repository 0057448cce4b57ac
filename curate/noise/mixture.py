"""From scores to the posterior probability of a gross mismatch.

Two ways, both monotone in the score: a two-component Gaussian mixture with guards, and the density ratio of shuffled
and observed pairs (local false discovery rate). The second is the default because it is better calibrated, bimodal or
not. Measured with 20 to 60 % of the captions exchanged: ECE .006 to .030 on 8,843 clipart pairs (Gaussians: .10 to .26
although d' is above 1.5: clean scores are skewed, and the wrong ones fall to the noise component), .012 to .049 on
1,000 photographs (Gaussians: .03 to .06). Both leave the ranking as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Doubles = NDArray[np.float64]
MixtureKind = Literal["default", "gmm", "null"]

MOST_EM_SCORES = 5000
EM_STARTS = ((0.25, 0.75), (0.05, 0.55), (0.45, 0.95))
MIN_WEIGHT = 0.01
MIN_SEPARATION = 1.5
STOREY_QUANTILES = (0.15, 0.2, 0.3, 0.4, 0.5)
MAX_SHARE_GAP = 0.1
# "No better than shuffled pairs" is rejected if more than this share, by so many standard errors, beats the best
# shuffled.
UPPER_TAIL = 0.1
TAIL_ERRORS = 3.0
# Beyond this log odds the data says nothing; the small slope keeps the order of the scores inside the flat tails.
MAX_LOGIT = 8.0
TAIL_SLOPE = 0.05
_SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Posterior:
    """p(noise | score), strictly decreasing in the score: log odds interpolated between knots, less a small slope.

    Attributes:
        scores: knots, increasing, float64 [k].
        logits: log odds of noise at the knots, not increasing, within +-MAX_LOGIT, float64 [k].
    """

    scores: Doubles
    logits: Doubles

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability that the pair is a gross mismatch; float32 [n] in [0, 1], higher is noisier."""
        exact = scores.astype(np.float64)
        centre = np.interp(0.0, self.logits[::-1], self.scores[::-1])
        logits = np.interp(exact, self.scores, self.logits) - TAIL_SLOPE * (exact - centre)
        probability: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip(logits, -60, 60)))).astype(np.float32)
        return probability


@dataclass(frozen=True)
class Gaussians:
    """Two Gaussians in the order noise, clean (by mean: the clean one is higher)."""

    weights: tuple[float, float]
    means: tuple[float, float]
    sds: tuple[float, float]
    bic_one: float
    bic_two: float

    @property
    def separation(self) -> float:
        """d' = (mu_clean - mu_noise) / sqrt(var_clean + var_noise)."""
        return (self.means[1] - self.means[0]) / float(np.hypot(*self.sds))

    def log_odds(self, scores: Doubles) -> Doubles:
        """log p(noise | score) - log p(clean | score), not monotone in the far tails when the spreads differ."""
        noise, clean = (self._log_density(k, scores) for k in (0, 1))
        odds: Doubles = noise - clean
        return odds

    def _log_density(self, component: int, scores: Doubles) -> Doubles:
        z = (scores - self.means[component]) / self.sds[component]
        density: Doubles = np.log(self.weights[component]) - np.log(self.sds[component]) - 0.5 * z * z
        return density


@dataclass(frozen=True)
class Mixture:
    """A fitted posterior and how it came about.

    Attributes:
        posterior: score -> probability of noise.
        method: "null", "gmm" or "none".
        reason: why this one, for a person.
        gaussians: the two-component fit, kept for the diagnostics whatever was chosen.
        noise_share: estimated share of mismatches: the mean posterior (method "none": its upper bound).
        null_share: `storey_share`, at the upper end of what the shuffled pairs allow.
        null_separation: d' between shuffled pairs and what observed pairs are beyond them, see `separation_from_null`.
        separable: "yes": that d' is at least 1.5; "weak": it is less; "no": no better than shuffled pairs.
        pairs: number of scores it was fitted to.
    """

    posterior: Posterior
    method: str
    reason: str
    gaussians: Gaussians
    noise_share: float
    null_share: float
    null_separation: float
    separable: str
    pairs: int

    def diagnostics(self) -> dict[str, object]:
        """JSON-able figures."""
        g = self.gaussians
        return {
            "method": self.method,
            "reason": self.reason,
            "separable": self.separable,
            "noise_share": self.noise_share,
            "null_share": self.null_share,
            "null_separation": self.null_separation,
            "pairs": self.pairs,
            "weights": {"noise": g.weights[0], "clean": g.weights[1]},
            "means": {"noise": g.means[0], "clean": g.means[1]},
            "sds": {"noise": g.sds[0], "clean": g.sds[1]},
            "bic_one": g.bic_one,
            "bic_two": g.bic_two,
            "separation": g.separation,
        }


def fit_gaussians(scores: Doubles) -> Gaussians:
    """Two-component Gaussian mixture by EM, the likeliest of three starts, none random.

    From 10,000 scores on, it fits every second, third, ... of the sorted ones: enough for one dimension.
    """
    from sklearn.mixture import GaussianMixture

    column = np.sort(scores)[:: max(1, len(scores) // MOST_EM_SCORES), None]
    two = max(
        (_expectation_maximisation(column, start) for start in EM_STARTS), key=lambda fit: float(fit.lower_bound_)
    )
    one = GaussianMixture(1, init_params="random", random_state=0, reg_covar=_SMALLEST_VARIANCE).fit(column)
    order = np.argsort(two.means_[:, 0], kind="stable")
    return Gaussians(
        weights=_two(two.weights_[order]),
        means=_two(two.means_[order, 0]),
        sds=_two(np.sqrt(two.covariances_[order, 0, 0])),
        bic_one=float(one.bic(column)),
        bic_two=float(two.bic(column)),
    )


def _expectation_maximisation(column: Doubles, quantiles: tuple[float, float]) -> GaussianMixture:
    from sklearn.mixture import GaussianMixture

    variance = max(float(column.var()), _SMALLEST_VARIANCE)
    mixture = GaussianMixture(
        2,
        init_params="random",  # without effect, as all that it would draw is given
        random_state=0,
        weights_init=[0.5, 0.5],
        means_init=np.quantile(column, quantiles)[:, None],
        precisions_init=np.full((2, 1, 1), 4 / variance),
        max_iter=1000,
        tol=1e-6,
        reg_covar=_SMALLEST_VARIANCE,
    )
    return mixture.fit(column)


def _two(values: Sequence[float] | Doubles) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def gaussian_posterior(gaussians: Gaussians, scores: Doubles) -> Posterior:
    """Bayes posterior of the mixture, made monotone: past its turning points in the tails it stays where it was."""
    knots = np.linspace(scores.min(), scores.max(), 1001)
    odds = np.clip(gaussians.log_odds(knots), -MAX_LOGIT, MAX_LOGIT)
    middle = int(np.searchsorted(knots, 0.5 * (gaussians.means[0] + gaussians.means[1])))
    right = np.minimum.accumulate(odds[middle:])
    left = np.maximum.accumulate(odds[: middle + 1][::-1])[::-1][:middle]
    return Posterior(knots, np.concatenate([left, right]))


def storey_share(scores: Doubles, null: Doubles) -> float:
    """Share of noise: min over a of F_obs(q_a) / a plus one standard error, q_a the a-quantile of the null; in [0, 1].

    Below q_a lies a share a of all mismatches, and hardly a matching pair (Storey, JRSS-B 2002). The smallest of
    several uncertain estimates is too small on average (1,000 pairs: .53 for .60); the standard error makes up for
    that.
    """
    return min(1.0, *(_share_below(scores, null, a) for a in STOREY_QUANTILES))


def _share_below(scores: Doubles, null: Doubles, quantile: float) -> float:
    # One more than counted: that no pair lies so low among 1,000 does not prove that there is no mismatch at all.
    below = (int((scores <= np.quantile(null, quantile)).sum()) + 1) / (len(scores) + 1)
    of_scores = below * (1 - below) / len(scores)
    of_quantile = (below / quantile) ** 2 * quantile * (1 - quantile) / len(null)
    return float((below + np.sqrt(of_scores + of_quantile)) / quantile)


def better_than_shuffled(scores: Doubles, null: Doubles) -> bool:
    """Whether more observed than shuffled pairs score above the null's 90 % quantile, by three standard errors."""
    above = float((scores > np.quantile(null, 1 - UPPER_TAIL)).mean())
    error = np.sqrt(UPPER_TAIL * (1 - UPPER_TAIL) * (1 / len(scores) + 1 / len(null)))
    return bool(above > UPPER_TAIL + TAIL_ERRORS * error)


def null_posterior(scores: Doubles, null: Doubles, noise_share: float) -> Posterior:
    """Local false discovery rate p = pi f_null / f_obs (Efron 2001), the ratio by isotonic regression. O(n log n).

    Isotonic regression of "is a shuffled pair" on the score gives q = m f_null / (m f_null + n f_obs), so
    f_null / f_obs = (q / (1 - q)) (n / m).
    """
    from sklearn.isotonic import isotonic_regression

    pooled = np.concatenate([scores, null])
    order = np.argsort(pooled, kind="stable")
    shuffled = (order >= len(scores)).astype(np.float64)
    q = isotonic_regression(shuffled, increasing=False)
    _, block = np.unique(-q, return_inverse=True)
    counts = np.bincount(block)
    centres = np.bincount(block, weights=pooled[order]) / counts
    share = np.bincount(block, weights=shuffled) / counts
    ratio = noise_share * share / np.maximum(1 - share, 1e-9) * len(scores) / len(null)
    odds = np.clip(ratio, 1e-9, 1 - 1e-9)
    logits = np.clip(np.log(odds) - np.log1p(-odds), -MAX_LOGIT, MAX_LOGIT)
    return Posterior(centres, logits)


def undecided_posterior(scores: Doubles) -> Posterior:
    """About one half for every pair (so all are "uncertain"), in the order of their scores."""
    return Posterior(np.array([float(np.median(scores))]), np.zeros(1))


def fit_mixture(scores: NDArray[np.float32], null: NDArray[np.float32], kind: MixtureKind) -> Mixture:
    """The posterior asked for, or the fallback where a Gaussian mixture would mislead.

    Args:
        scores: of observed pairs, every one by a model that never saw it, float32 [n], higher is cleaner.
        null: of shuffled pairs, in the same units, float32 [m].
        kind: "gmm": two Gaussians if they pass the guards, else the null; "null" and "default": the null.
    """
    observed, shuffled = scores.astype(np.float64), null.astype(np.float64)
    gaussians = fit_gaussians(observed)
    share = storey_share(observed, shuffled)
    separation = separation_from_null(observed, shuffled, share)
    separable = "yes" if separation >= MIN_SEPARATION else "weak"
    failed = failed_guards(gaussians, share) if kind == "gmm" else []
    if not better_than_shuffled(observed, shuffled):
        posterior, method, separable = undecided_posterior(observed), "none", "no"
        reason = "observed pairs score no better than shuffled ones: nothing can be said"
    elif kind == "gmm" and not failed:
        posterior, method = gaussian_posterior(gaussians, observed), "gmm"
        reason = "asked for, and the two components pass the guards"
    else:
        posterior, method = null_posterior(observed, shuffled, share), "null"
        reason = "; ".join(failed) or "better calibrated than two Gaussians"
    return Mixture(
        posterior=posterior,
        method=method,
        reason=reason,
        gaussians=gaussians,
        noise_share=share if method == "none" else float(posterior(scores).mean(dtype=np.float64)),
        null_share=share,
        null_separation=separation,
        separable=separable,
        pairs=len(observed),
    )


def separation_from_null(scores: Doubles, null: Doubles, noise_share: float) -> float:
    """d' = (mu_clean - mu_null) / sqrt(var_clean + var_null), the clean moments being what is left of all.

    E_clean[s^k] = (E_obs[s^k] - pi E_null[s^k]) / (1 - pi).
    """
    clean_share = max(1 - noise_share, MIN_WEIGHT)
    mean = (scores.mean() - noise_share * null.mean()) / clean_share
    square = ((scores**2).mean() - noise_share * (null**2).mean()) / clean_share
    variance = max(float(square - mean**2), 0.0) + float(null.var())
    return float(mean - null.mean()) / float(np.sqrt(max(variance, _SMALLEST_VARIANCE)))


def failed_guards(gaussians: Gaussians, null_share: float) -> list[str]:
    """What speaks against reading the two Gaussians as noise and clean; empty if nothing does.

    Args:
        gaussians: the fit.
        null_share: share of noise by `storey_share`, which assumes nothing of how clean pairs score.
    """
    failed = []
    if min(gaussians.weights) < MIN_WEIGHT:
        failed.append(f"a component weighs {min(gaussians.weights):.4f}, less than {MIN_WEIGHT}")
    if gaussians.bic_two >= gaussians.bic_one:
        failed.append("BIC prefers one component")
    if gaussians.separation < MIN_SEPARATION:
        failed.append(f"d' is {gaussians.separation:.2f}, less than {MIN_SEPARATION}")
    if abs(gaussians.weights[0] - null_share) > MAX_SHARE_GAP:
        failed.append(f"the noise component weighs {gaussians.weights[0]:.2f}, shuffled pairs say {null_share:.2f}")
    return failed
