"""`curate bench downstream`: the same small model trained on a noisy corpus as it is, curated, and as it should be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
from curate.bench.paper.retrieval import AT, Recalls, recalls
from curate.corpora.pairs import meaning
from curate.errors import InputError
from curate.export.drawing import COMPLETED_WEIGHT
from curate.noise.similarity import Bools, Floats

if TYPE_CHECKING:
    from curate.bench.heads import HeadOptions, TrainingSet

RAW, ORACLE, FULL_CLEAN = "raw", "oracle", "full_clean"
TRUSTED_BELOW = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a trainer does with each of n pairs.

    Attributes:
        weight: how often the pair is drawn, relative to those of weight 1; 0 leaves it out, [n].
        smoothing: omega of NLIP's loss, [n].
        captions, text: what is trained on, and its embeddings, float32 [n, dt].
        other_captions, other_text: stand in for it with probability `chance`, [n].
    """

    weight: Floats
    smoothing: Floats
    captions: Sequence[str]
    text: Floats
    other_captions: Sequence[str]
    other_text: Floats
    chance: Floats


def _as_they_came(part: Curated, weight: Floats | Bools) -> Recipe:
    nothing = np.zeros(len(part), dtype=np.float32)
    return Recipe(weight.astype(np.float32), nothing, part.captions, part.text, part.captions, part.text, nothing)


def _raw(part: Curated) -> Recipe:
    return _as_they_came(part, np.ones(len(part), dtype=np.float32))


def _kept(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part))


def _weighted(part: Curated) -> Recipe:
    return replace(_as_they_came(part, 1 - part.noise_prob), smoothing=part.smoothing)


def _completed(part: Curated) -> Recipe:
    weight = np.where(part.changed, np.float32(COMPLETED_WEIGHT), 1 - part.noise_prob)
    return _instead(_as_they_came(part, weight), part.completed, part.completed_text)


def _mixed(part: Curated) -> Recipe:
    return replace(
        _completed(part),
        captions=part.captions,
        text=part.text,
        other_captions=part.completed,
        other_text=part.completed_text,
        chance=part.p_use_synthetic,
    )


def _oracle(part: Curated) -> Recipe:
    return _as_they_came(part, ~part.mismatched)


def _full_clean(part: Curated) -> Recipe:
    return _instead(_raw(part), part.true_captions, part.true_text)


def _nothing_lost(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part) | ~part.mismatched)


def _no_residue(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part) & ~part.mismatched)


def _true_captions(part: Curated) -> Recipe:
    pairs = zip(part.changed, part.true_captions, part.captions, strict=True)
    captions = [true if changed else given for changed, true, given in pairs]
    return _instead(_completed(part), captions, np.where(part.changed[:, None], part.true_text, part.text))


def _instead(recipe: Recipe, captions: Sequence[str], text: Floats) -> Recipe:
    return replace(recipe, captions=captions, text=text, other_captions=captions, other_text=text)


def is_kept(part: Curated) -> Bools:
    kept: Bools = part.noise_prob < TRUSTED_BELOW
    return kept


Method: TypeAlias = Callable[[Curated], Recipe]
REFERENCES: dict[str, Method] = {RAW: _raw, ORACLE: _oracle, FULL_CLEAN: _full_clean}
RECIPES: dict[str, Method] = {"kept": _kept, "weighted": _weighted, "completed": _completed, "mixed": _mixed}
ABLATIONS: dict[str, Method] = {
    "kept_nothing_lost": _nothing_lost,
    "kept_no_residue": _no_residue,
    "completed_true_captions": _true_captions,
}
METHODS: Mapping[str, Method] = {**REFERENCES, **RECIPES, **ABLATIONS}
ABLATED = "ablations"


def check_methods(names: Sequence[str]) -> list[str]:
    """The methods to train: those asked for, and the references that they are compared with, in one order.

    "all" stands for all recipes, "ablations" for the recipes with the truth in place of one part at a time.

    Raises:
        InputError: there is no such method.
    """
    unknown = [name for name in names if name not in (*METHODS, "all", ABLATED)]
    if unknown:
        raise InputError(f"--method {', '.join(unknown)}: choose among all, {ABLATED}, {', '.join(METHODS)}")
    wanted = {*REFERENCES, *names}
    wanted |= {*RECIPES} if "all" in names else set()
    wanted |= {*ABLATIONS} if ABLATED in names else set()
    return [name for name in METHODS if name in wanted]


@dataclass(frozen=True)
class DownstreamBench:
    """What is measured with: how the training part is annotated, and what is trained on it."""

    curation: Curation
    heads: HeadOptions


def bench_downstream(
    corpus: Corpus, bench: DownstreamBench, cells: Sequence[Condition], methods: Sequence[str], told: Told
) -> Iterator[Record]:
    """Records of every condition, method and metric as soon as they are known; of each rate, what the seeds say.

    A quarter of the pairs, 1,000 at most, is tested on and has neither picture nor caption in common with the others
    (`draw_split`). Captions of the others are exchanged; they are annotated as `curate run` does. Then every method
    trains the same heads for the same number of steps from the same initial weights, and the test pairs, which are
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


class Trial:
    """The same training and the same test for every recipe.

    Args:
        part: what is trained on.
        image, text: embeddings of the test pairs, float32 [m, dv], [m, dt].
        options: of the heads.
        seed: of initial weights and batches.
    """

    def __init__(self, part: Curated, image: Floats, text: Floats, options: HeadOptions, seed: int) -> None:
        from curate.bench.heads import fit_reducer

        self.part, self.image, self.text, self.options, self.seed = part, image, text, options, seed
        components = options.components_for(len(part))
        self.reducers = fit_reducer(part.image, components), fit_reducer(part.text, components)

    def recalls(self, recipe: Recipe) -> Recalls:
        """Of the test pairs, after training by a recipe."""
        from curate.bench.heads import train_heads

        heads = train_heads(training_set(self.part, recipe), *self.reducers, self.options, self.seed)
        return recalls(*heads.project(self.image, self.text), np.arange(len(self.image)))


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
        test = self.corpus.image[split.test], self.corpus.text[split.test]
        trial = Trial(part, *test, self.bench.heads, self.cell.seed)
        for name in methods:
            yield from self._of_method(name, trial)

    def _of_method(self, name: str, trial: Trial) -> Iterator[Record]:
        from curate.bench.heads import LEAST_ROWS

        self._tell(f"training on {name}")
        recipe, started = METHODS[name](trial.part), time.monotonic()
        rows = int((recipe.weight > 0).sum())
        if rows < LEAST_ROWS:
            raise InputError(
                f"--method {name}: {rows} of {len(trial.part)} pairs are left to train on with {self.cell.rate:g} of "
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
        return _record(
            self.corpus.name, self.cell.kind, self.cell.rate, self.cell.seed, method, subset, metric, value, unit
        )


def training_set(part: Curated, recipe: Recipe) -> TrainingSet:
    """What the heads are trained on by a recipe."""
    from curate.bench.heads import TrainingSet

    caption, other = _numbered(recipe.captions, recipe.other_captions)
    return TrainingSet(
        part.image, recipe.text, caption, recipe.other_text, other, recipe.chance, recipe.weight, recipe.smoothing
    )


def _numbered(*captions: Sequence[str]) -> list[NDArray[np.int64]]:
    """A number for every caption, the same for captions that say the same; int64 [n] each."""
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(meaning(text), len(numbers)) for text in texts]) for texts in captions]


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
                yield _record(first["corpus"], first["kind"], first["rate"], None, method, "all", name, value, unit)


def _ends(metric: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {metric: None, f"{metric}_low": None, f"{metric}_high": None}
    return {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}


def _record(
    corpus: str, kind: str, rate: float, seed: int | None, method: str, subset: str, metric: str,
    value: float | None, unit: str,
) -> Record:  # fmt: skip
    return {
        "bench": "downstream",
        "corpus": corpus,
        "kind": kind,
        "rate": rate,
        "seed": seed,
        "method": method,
        "subset": subset,
        "metric": metric,
        "value": value,
        "unit": unit,
    }


def downstream_environment(noise_environment: Mapping[str, Any], bench: DownstreamBench) -> Record:
    """The first record: versions and machine, and the model that is trained."""
    from dataclasses import asdict
    from importlib.metadata import version

    versions = {**noise_environment["versions"], "hanta": version("hanta")}
    return {**noise_environment, "bench": "downstream", "versions": versions, "heads": asdict(bench.heads)}
