"""`curate bench downstream`: the same small model trained on a noisy corpus as it is, curated, and as it should be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from curate.bench.curated import Curated, Curation, curated_part, draw_split
from curate.bench.intervals import Estimate, mean_estimate, ratio_estimate
from curate.bench.noise import (
    FREQUENCIES,
    OURS,
    Condition,
    Corpus,
    Record,
    Told,
    caption_frequencies,
    frequency_subset,
)
from curate.bench.paper.retrieval import AT
from curate.bench.recipes import METHODS, ORACLE, RAW, is_kept
from curate.bench.trials import TrainedModel, Trial
from curate.errors import InputError
from curate.noise.similarity import Bools


@dataclass(frozen=True)
class DownstreamBench:
    """What is measured with: how the training part is annotated, and which model is trained on it."""

    curation: Curation
    model: TrainedModel


def bench_downstream(
    corpus: Corpus, bench: DownstreamBench, cells: Sequence[Condition], methods: Sequence[str], told: Told
) -> Iterator[Record]:
    """Records of every condition, method and metric as soon as they are known; of each rate, what the seeds say.

    A quarter of the pairs, 1,000 at most, is tested on and has neither picture nor caption in common with the others
    (`draw_split`). Captions of the others are exchanged; they are annotated as `curate run` does. Then every method
    trains the same model for the same number of steps from the same initial weights, and the test pairs, which are
    clean and which nothing was fitted, chosen or stopped by, are retrieved.

    Raises:
        InputError: too few pairs have a caption and a picture of their own, or a method has none to train on.
    """
    for _, group in groupby(cells, key=lambda cell: (cell.kind, cell.rate)):
        known: list[Record] = []
        for cell in group:
            for record in _Cell(corpus, bench, cell, told).records(methods):
                known.append(record)
                yield record
        yield from over_the_seeds(known)


class _Cell:
    """One condition: a split, its annotations, and the methods trained on it."""

    def __init__(self, corpus: Corpus, bench: DownstreamBench, cell: Condition, told: Told) -> None:
        self.corpus, self.bench, self.cell, self.told = corpus, bench, cell, told

    def records(self, methods: Sequence[str]) -> Iterator[Record]:
        """See `bench_downstream`."""
        self._tell("annotating")
        split, started = draw_split(self.corpus, self.cell.seed), time.monotonic()
        part = curated_part(self.corpus, split.train, self.cell, self.bench.curation)
        yield self._record(OURS, "all", "seconds", time.monotonic() - started, "s")
        yield from self._of_annotations(part)
        trial = self.bench.model.trial(self.corpus, split, part, self.cell.seed)
        for name in methods:
            yield from self._of_method(name, part, trial)

    def _of_method(self, name: str, part: Curated, trial: Trial) -> Iterator[Record]:
        from curate.bench.draws import LEAST_ROWS

        self._tell(f"training on {name}")
        recipe, started = METHODS[name](part), time.monotonic()
        rows = int((recipe.weight > 0).sum())
        if rows < LEAST_ROWS:
            raise InputError(
                f"--method {name}: {rows} of {len(part)} pairs are left to train on with {self.cell.rate:g} of "
                f"the captions exchanged, seed {self.cell.seed}; {LEAST_ROWS} are needed. Leave it out, or give more."
            )
        found = trial.recalls(recipe)
        for direction, values in (("image_to_text", found.to_text), ("text_to_image", found.to_image)):
            for at, value in zip(AT, values, strict=True):
                yield self._record(name, "all", f"{direction}_recall_at_{at}", value, "percent")
        yield self._record(name, "all", "recall_sum", found.total, "percent")
        yield self._record(name, "all", "rows", rows, "count")
        yield self._record(name, "all", "seconds", time.monotonic() - started, "s")

    def _of_annotations(self, part: Curated) -> Iterator[Record]:
        """What limits the recipes: right captions that are lost, by how often they occur; wrong ones; completion."""
        kept, wrong = is_kept(part), part.mismatched
        frequency = caption_frequencies(part.captions)
        for least, most in FREQUENCIES:
            rows = (frequency >= least) & (frequency <= (most or len(part))) & ~wrong
            yield self._share(frequency_subset(least, most), "recall_clean", kept, rows)
        yield self._share("all", "recall_clean", kept, ~wrong)
        yield self._share("all", "precision_clean", ~wrong, kept)
        yield self._share("all", "accepted", part.changed, wrong)
        yield self._share("all", "clean_changed", part.changed, ~wrong)

    def _share(self, subset: str, metric: str, having: Bools, of: Bools) -> Record:
        return self._record(OURS, subset, metric, float(having[of].mean()) if of.any() else None, "share")

    def _tell(self, what: str) -> None:
        self.told(f"{self.cell.rate:g} exchanged, seed {self.cell.seed}: {what}")

    def _record(self, method: str, subset: str, metric: str, value: float | None, unit: str) -> Record:
        return {
            "bench": "downstream",
            "corpus": self.corpus.name,
            "model": self.bench.model.name,
            "kind": self.cell.kind,
            "rate": self.cell.rate,
            "seed": self.cell.seed,
            "method": method,
            "subset": subset,
            "metric": metric,
            "value": value,
            "unit": unit,
        }


def over_the_seeds(records: Sequence[Record]) -> Iterator[Record]:
    """What the seeds of one rate say together, as records without a seed.

    For every method the mean of R@sum, its `change_from_raw` in percent of raw's, and `gap_recovered` =
    (method - raw) / (oracle - raw), paired by seed; each also as METRIC_low and METRIC_high, the ends of its 95 %
    interval. None where one seed says nothing, where raw finds nothing that could change, and for the gap where oracle
    is not significantly better than raw.
    """
    sums: dict[str, dict[int, float]] = {}
    for record in records:
        if record["metric"] == "recall_sum":
            sums.setdefault(record["method"], {})[record["seed"]] = record["value"]
    raw, oracle = (list(sums[name].values()) for name in (RAW, ORACLE))
    gap = np.subtract(oracle, raw).tolist()
    first, usual = records[0], float(np.mean(raw))
    for method, by_seed in sums.items():
        values = list(by_seed.values())
        gain = np.subtract(values, raw)
        estimates: dict[str, tuple[Estimate | None, str]] = {
            "recall_sum": (mean_estimate(values), "percent"),
            "change_from_raw": (mean_estimate((100 * gain / usual).tolist()) if usual else None, "percent"),
            "gap_recovered": (ratio_estimate(gain.tolist(), gap), "share"),
        }
        for metric, (estimate, unit) in estimates.items():
            for name, value in _ends(metric, estimate).items():
                given = {**first, "seed": None, "method": method, "subset": "all"}
                yield {**given, "metric": name, "value": value, "unit": unit}


def _ends(metric: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {metric: None, f"{metric}_low": None, f"{metric}_high": None}
    return {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}


def downstream_environment(noise_environment: Mapping[str, Any], bench: DownstreamBench) -> Record:
    """The first record: versions and machine, and the model that is trained."""
    from importlib.metadata import version

    versions = {**noise_environment["versions"], "hanta": version("hanta")}
    model = bench.model
    ours = {"bench": "downstream", "versions": versions, "model": model.name, model.name: model.facts()}
    return {**noise_environment, **ours}
