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
from curate.noise.signals import HIGHER_IS_NOISIER
from curate.report.charts import curve, histogram_of, reliability, stacked_histogram
from curate.report.findings import PROBABILITY_BINS, Findings
from curate.schema import SIGNAL_DESCRIPTIONS, STATUS_DESCRIPTIONS, Status

Doubles = NDArray[np.float64]

VERDICTS = {
    "yes": "The split can be trusted: clean pairs and gross mismatches form two separate heaps.",
    "weak": "Take the split with care: either hardly anything is grossly wrong, or wrong captions are near misses "
    "that scores cannot tell from right ones. The order of pairs still means something: look at the boundary.",
    "no": "The split means nothing here: pairs score no better than shuffled ones. Nothing was invented: every pair "
    "has a probability of about one half.",
}
TOP_CONCEPTS = 60
RELIABILITY_BINS = 10


@dataclass(frozen=True)
class About:
    """What else the page says of the run.

    Attributes:
        name: of the run.
        noise: diagnostics of the noise fit; empty: there is none.
        verdicts: one sentence for each fit that found too little to learn from.
        pipeline: the pipeline file as run, YAML; None: not known.
        seconds_per_pair: by step, as measured.
        no_pictures: why there are none, for a person; None: there are.
    """

    name: str
    noise: Mapping[str, Any]
    verdicts: Sequence[str]
    pipeline: str | None
    seconds_per_pair: Mapping[str, float]
    no_pictures: str | None


def render(findings: Findings, pictures: Mapping[str, str], about: About, truth: Judged | None = None) -> str:
    """The page. What comes from the corpus is escaped wherever it stands.

    Args:
        findings: of the run.
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
    return environment.get_template("report.html").render(
        findings=findings,
        pictures=pictures,
        about=about,
        verdict=VERDICTS.get(str(about.noise.get("separable"))),
        probability=_probability_chart(findings),
        signals=_signal_charts(findings),
        thresholds=_threshold_table(findings),
        threshold_data=_for_script(_threshold_curve(findings)),
        truth=None if truth is None else _truth_charts(truth),
        concepts=list(findings.concepts.items())[:TOP_CONCEPTS],
        statuses=[(name, count, STATUS_DESCRIPTIONS[Status(name)]) for name, count in findings.statuses.items()],
        words=_five_numbers(findings.caption_words),
    )


def _probability_chart(findings: Findings) -> Markup:
    edges = np.linspace(0, 1, PROBABILITY_BINS // 4 + 1, dtype=np.float64)
    counts, noise = (values.reshape(-1, 4).sum(axis=1) for values in (findings.counts, findings.noise))
    return stacked_histogram(edges, counts - noise, noise, "noise_prob", log_scale=True)


def _signal_charts(findings: Findings) -> list[dict[str, Any]]:
    probability = findings.sample["noise_prob"]
    return [
        {
            "name": name,
            "about": SIGNAL_DESCRIPTIONS[name],
            "direction": "higher is noisier" if name in HIGHER_IS_NOISIER else "higher is cleaner",
            "chart": stacked_histogram(*histogram_of(values, probability), name),
        }
        for name, values in findings.sample.items()
        if name != "noise_prob" and np.isfinite(values).any()
    ]


def _threshold_curve(findings: Findings) -> dict[str, list[float]]:
    """For every threshold 1/200, 2/200, ... 1: pairs kept below it, and the share of them expected to be noise."""
    kept, noise = np.cumsum(findings.counts), np.cumsum(findings.noise)
    residual = np.divide(noise, kept, out=np.zeros_like(noise), where=kept > 0)
    return {"kept": kept.tolist(), "residual": np.round(residual, 6).tolist()}


def _threshold_table(findings: Findings) -> list[dict[str, float]]:
    drawn = _threshold_curve(findings)
    total = max(drawn["kept"][-1], 1)
    rows = []
    for threshold in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0):
        place = round(threshold * PROBABILITY_BINS) - 1
        kept = drawn["kept"][place]
        rows.append(
            {"threshold": threshold, "kept": kept, "share": kept / total, "residual": drawn["residual"][place]}
        )
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


def _five_numbers(values: Doubles) -> list[float]:
    return [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] if len(values) else []


def _for_script(value: Any) -> Markup:
    """JSON that no browser can take for markup."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
