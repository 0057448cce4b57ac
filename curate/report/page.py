"""The findings of a run as one HTML page that needs no network, no server and no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from curate.bench.truth import Judged, figures
from curate.report.captions import caption_figures, words_added
from curate.report.cards import cards_of
from curate.report.charts import (
    bins_of,
    curve,
    densities,
    reliability,
    stacked_histogram,
    two_histograms,
    word_map,
)
from curate.report.concepts import MAP_SIZE, concept_map
from curate.report.findings import PROBABILITY_BINS, SAMPLED_PAIRS, Findings
from curate.report.funnel import funnel_of
from curate.report.splits import VERDICTS, Split

Doubles = NDArray[np.float64]

SHOWN_CONCEPTS = 40
MAPPED_CONCEPTS = 36
SHOWN_WORDS = 30
RELIABILITY_BINS = 10
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_LOG_SCALE_FROM = 12
_LONGEST_CAPTION_WORDS = 60


@dataclass(frozen=True)
class StepTime:
    """How long a step takes.

    Attributes:
        name: of the step.
        pairs: that it works on in this run.
        seconds_per_pair: as last measured.
    """

    name: str
    pairs: int
    seconds_per_pair: float

    @property
    def seconds(self) -> float:
        """For all of the pairs."""
        return self.pairs * self.seconds_per_pair


@dataclass(frozen=True)
class About:
    """What else the page says of the run.

    Attributes:
        name: of the run.
        noise: diagnostics of the noise fit; empty: there is none.
        mixture: diagnostics of the fit that noise_prob comes from, that of the last round where the run refines.
        rounds: what each round of refinement did, see `curate.rounds.rounds_of`.
        verdicts: one sentence for each fit that found too little to learn from.
        vocabulary: names of concepts that could be found; None: the run finds none.
        pipeline: the pipeline file as run, YAML; None: not known.
        times: of the steps.
        no_pictures: why there are none, for a person; None: there are.
    """

    name: str
    noise: Mapping[str, Any]
    mixture: Mapping[str, Any]
    rounds: Mapping[str, Any]
    verdicts: Sequence[str]
    vocabulary: int | None
    pipeline: str | None
    times: Sequence[StepTime]
    no_pictures: str | None


def render(
    findings: Findings,
    splits: Sequence[Split],
    pictures: Mapping[str, str],
    about: About,
    truth: Judged | None = None,
) -> str:
    """The page. What comes from the corpus is escaped wherever it stands.

    Args:
        findings: of the run.
        splits: of the score, if there is one for all pairs, and of every signal.
        pictures: row_id -> data URI.
        about: the rest.
        truth: where it is known.
    """
    environment = Environment(
        loader=PackageLoader("curate.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = cards_of(findings)
    return environment.get_template("report.html").render(
        findings=findings,
        about=about,
        funnel=funnel_of(findings),
        verdict=VERDICTS.get(str(about.mixture.get("separable"))),
        probability=_probability_chart(findings) if findings.scored else None,
        thresholds=_threshold_table(findings),
        cards=cards,
        pictures=pictures,
        splits=[_drawn(split) for split in splits],
        truth=None if truth is None else _truth_charts(truth),
        concepts=_concepts(findings, about) if findings.concepts else None,
        captions=_captions(findings),
        rounds=_rounds(about),
        slowest=max(about.times, key=lambda time: time.seconds, default=None),
        sampled=len(findings.sample.noise_prob),
        is_sample=findings.pairs > SAMPLED_PAIRS,
        data=_for_script({"thresholds": _threshold_curve(findings), "cards": [card.for_script() for card in cards]}),
    )


def _probability_chart(findings: Findings) -> Markup:
    edges = np.linspace(0, 1, PROBABILITY_BINS // 4 + 1, dtype=np.float64)
    counts, noise = (values.reshape(-1, 4).sum(axis=1) for values in (findings.counts, findings.noise))
    return stacked_histogram(edges, counts - noise, noise, "noise_prob", log_scale=True)


def _drawn(split: Split) -> dict[str, Any]:
    """A split with its chart."""
    edges, place = bins_of(split.values)
    bins = len(edges) - 1
    total = np.bincount(place, minlength=bins).astype(np.float64)
    noise = np.bincount(place, split.noise_prob, minlength=bins).astype(np.float64)
    scores = (edges[:-1] + edges[1:]) / 2 * (-1 if split.noisier else 1)
    chart = stacked_histogram(
        edges,
        total - noise,
        noise,
        split.name,
        log_scale=float(total.max(initial=0)) > _LOG_SCALE_FROM * max(float(np.median(total)), 1.0),
        components=_expected(split, scores),
        posterior=None if split.posterior is None else split.posterior(scores).astype(np.float64),
        thresholds=split.thresholds,
    )
    return {"split": split, "chart": chart}


def _expected(split: Split, scores: Doubles) -> dict[str, Doubles] | None:
    """Pairs of each fitted component in bins of equal width around these scores."""
    if split.components is None:
        return None
    logs = split.components.log_densities(scores)
    mass = np.exp(logs - logs.max()) * np.array(split.components.weights)[:, None]
    mass *= len(split.values) / mass.sum()
    return {"noisy": mass[0], "clean": mass[-1]}


def _threshold_curve(findings: Findings) -> dict[str, list[float]]:
    """For every threshold 1/200, 2/200, ... 1: pairs kept below it, the share of them expected to be wrong, and the
    number of right pairs expected among the others."""
    kept, noise = np.cumsum(findings.counts), np.cumsum(findings.noise)
    residual = np.divide(noise, kept, out=np.zeros_like(noise), where=kept > 0)
    right = kept - noise
    return {
        "kept": kept.tolist(),
        "residual": np.round(residual, 6).tolist(),
        "lost": np.round(right[-1] - right, 2).tolist(),
    }


def _threshold_table(findings: Findings) -> list[dict[str, float]]:
    drawn = _threshold_curve(findings)
    total = max(drawn["kept"][-1], 1)
    rows = []
    for threshold in THRESHOLDS:
        place = round(threshold * PROBABILITY_BINS) - 1
        kept = {name: values[place] for name, values in drawn.items()}
        rows.append({"threshold": threshold, "share": kept["kept"] / total, **kept})
    return rows


def _truth_charts(truth: Judged) -> dict[str, Any]:
    from sklearn.metrics import roc_curve

    place = np.minimum((truth.noise_prob * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    pairs = np.bincount(place, minlength=RELIABILITY_BINS).astype(np.float64)
    said, found = (
        np.bincount(place, values, minlength=RELIABILITY_BINS) / np.maximum(pairs, 1)
        for values in (truth.noise_prob, truth.mismatched.astype(np.float64))
    )
    false_alarms, hits, _ = roc_curve(truth.mismatched, truth.noise_rank)
    thinned = np.unique(np.linspace(0, len(hits) - 1, 200).astype(int))
    return {
        "figures": figures(truth.noise_prob, truth.mismatched, truth.noise_rank),
        "reliability": reliability(said, found, pairs),
        "roc": curve(false_alarms[thinned], hits[thinned], "ROC: false alarms against mismatches found"),
    }


def _concepts(findings: Findings, about: About) -> dict[str, Any]:
    names = list(findings.concepts)
    drawn = concept_map(findings.sample.concepts, names[:MAPPED_CONCEPTS])
    chart = word_map(
        drawn.words,
        drawn.places,
        drawn.sizes,
        drawn.links,
        MAP_SIZE,
        "Map of concepts: those that share pictures lie close together; the strongest links are listed below",
    )
    frequent = list(findings.concepts.items())
    return {
        "frequent": frequent[:SHOWN_CONCEPTS],
        "rarest": sorted(frequent[SHOWN_CONCEPTS:], key=lambda item: (item[1].pairs, item[0]))[:SHOWN_CONCEPTS],
        "found": len(names),
        "never": None if about.vocabulary is None else max(about.vocabulary - len(names), 0),
        "map": chart,
        "links": [(drawn.words[a], drawn.words[b], strength) for a, b, strength in drawn.links[:20]],
    }


def _captions(findings: Findings) -> dict[str, Any] | None:
    sample = findings.sample
    if not sample.captions:
        return None
    before = caption_figures(sample.captions)
    after = None if sample.completed is None else caption_figures(sample.completed)
    longest = min(max(each.lengths.max() for each in (before, after) if each), _LONGEST_CAPTION_WORDS)
    edges = np.arange(0, longest + 2, dtype=np.float64)
    counted = [None if each is None else _counted(each.lengths, len(edges) - 1) for each in (before, after)]
    assert counted[0] is not None
    return {
        "before": before,
        "after": after,
        "chart": two_histograms(edges, counted[0], counted[1], "words in a caption"),
        "added": words_added(sample, SHOWN_WORDS),
    }


def _counted(lengths: Doubles, bins: int) -> Doubles:
    """Captions by their words; the longest are in the last bin."""
    return np.bincount(np.minimum(lengths.astype(int), bins - 1), minlength=bins).astype(np.float64)


def _rounds(about: About) -> list[dict[str, Any]]:
    """Every round of refinement with a drawing of its mixture; round 0 is the noise stage."""
    made = about.rounds.get("rounds", ())
    if not made:
        return []
    start = {"round": 0, "mixture": about.noise}
    return [{**each, "chart": _mixture_chart(each["mixture"], each["round"])} for each in (start, *made)]


def _mixture_chart(mixture: Mapping[str, Any], number: int) -> Markup | None:
    """Densities of two Gaussians with the moments of the components."""
    if not mixture.get("means"):
        return None
    means, sds, weights = (
        np.array([mixture[of][kind] for kind in ("noise", "clean")], dtype=np.float64)
        for of in ("means", "sds", "weights")
    )
    x = np.linspace(float((means - 3.5 * sds).min()), float((means + 3.5 * sds).max()), 121, dtype=np.float64)
    bells: Doubles = weights[:, None] / sds[:, None] * np.exp(-0.5 * ((x - means[:, None]) / sds[:, None]) ** 2)
    return densities(x, {"noisy": bells[0], "clean": bells[1]}, f"score in round {number}")


def _for_script(value: Any) -> Markup:
    """JSON that no browser can take for markup."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
