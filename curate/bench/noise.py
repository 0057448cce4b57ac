"""`curate bench noise`: mismatches with known truth, found by our method and by every published one, side by side."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.bench.truth import figures
from curate.columns import embedding_matrix, field_values
from curate.config import NoiseConfig, PipelineConfig, RefineConfig
from curate.corpora.exchange import Kind, choose_mismatches
from curate.corpora.pairs import Pair, meaning
from curate.errors import InputError
from curate.execution import Runner, execute
from curate.models.encoder import load_encoder
from curate.noise.fit import NoiseOptions, NoiseSample, fit_with_rivals
from curate.noise.model import identities
from curate.noise.refine import RefineOptions, refine_noise
from curate.noise.refined import RefinedModel, RefinedScores
from curate.noise.signals import SignalName
from curate.noise.similarity import unit_rows
from curate.plan import Plan, encoder_options, noise_options, refine_options
from curate.progress import Progress
from curate.schema import Status
from curate.store import part_file

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Subset: TypeAlias = Literal["all", "unique_caption"]
Told: TypeAlias = Callable[[str], None]

OURS = "ours"
# `ours` with rounds of refinement behind it: the last, and every one by its number.
REFINED = "refined"
REFINED_ROUND = "refine_round_"
# Signals of each published method, by what the towers must be.
_ANY_TOWERS: dict[str, tuple[SignalName, ...]] = {
    "nlip": ("itc_loss",),
    "npc": ("negative_impact",),
    "lemon": ("neighbour_disagreement",),
    "repair": ("rank_correlation",),
    "gsc": ("topology",),
    "neg_clip_loss": ("neg_clip_loss",),
    "osa": ("osa",),
}
_JOINT_TOWERS: dict[str, tuple[SignalName, ...]] = {
    "clip_similarity": ("clip_similarity",),
    "dsdmr": ("clip_similarity",),
    "clip_csls": ("clip_csls",),
}
# `crossfit_csls` is ours without fusion; published similarities get our views where the towers have no joint space.
_CROSSFIT_TOWERS: dict[str, tuple[SignalName, ...]] = {
    "dsdmr": ("crossfit_similarity",),
    "crossfit_csls": ("crossfit_csls",),
}

FREQUENCIES = ((1, 1), (2, 10), (11, 100), (101, None))

Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """Usable pairs of a run whose embed step is complete, in input order.

    Attributes:
        pairs: row_id, caption and category.
        image_sha256: checksums of the pictures.
        image, text: embeddings, float32 [n, dv], [n, dt].
        joint_space: whether the towers were trained together.
        name: for the records.
    """

    pairs: tuple[Pair, ...]
    image_sha256: tuple[str, ...]
    image: Floats
    text: Floats
    joint_space: bool
    name: str


@dataclass(frozen=True)
class Condition:
    """One cell of the table: how pairs are mismatched, how many, and by which draw."""

    kind: Kind
    rate: float
    seed: int


def conditions(kinds: Sequence[Kind], rates: Sequence[float], seeds: int) -> list[Condition]:
    """Every kind at every rate by every seed; rate 0, where nothing is exchanged, only once for all kinds.

    Raises:
        InputError: a rate is not in [0, 1), or there is no seed.
    """
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    if wrong or seeds < 1:
        raise InputError(f"--rate {wrong}: give shares from 0 to below 1" if wrong else "--seeds: at least 1")
    return [
        Condition(kind, rate, seed)
        for number, kind in enumerate(kinds)
        for rate in rates
        for seed in range(seeds)
        if rate or not number
    ]


def rivals_of(methods: Sequence[str], joint_space: bool) -> dict[str, tuple[SignalName, ...]]:
    """The signals of the methods asked for; "all" stands for every one that these towers allow.

    Raises:
        InputError: there is no such method, or it needs towers that were trained together.
    """
    available = {**_ANY_TOWERS, **(_JOINT_TOWERS if joint_space else _CROSSFIT_TOWERS)}
    chosen = list(available) if "all" in methods else [name for name in methods if name not in (OURS, REFINED)]
    unknown = [name for name in chosen if name not in available]
    if unknown:
        raise InputError(
            f"--method {', '.join(unknown)}: choose among all, {OURS}, {REFINED}, {', '.join(sorted(available))}"
        )
    return {name: available[name] for name in chosen}


def load_corpus(plan: Plan, runner: Runner, progress: Progress, name: str) -> Corpus:
    """Embed the plan's input, or what of it is not embedded yet, and read the usable pairs. Memory: all embeddings."""
    execute(plan, runner, progress)
    columns = ["row_id", "caption", "image_sha256", "status", "image_embedding", "text_embedding", "fields"]
    tables = [plan.store.read_table(part_file("embed", number), columns) for number in plan.manifest.parts]
    table = pa.concat_tables(tables)
    table = table.filter(pc.equal(table.column("status"), Status.OK.value))
    categories = field_values(table.column("fields"), plan.config.input.keep[0]) if plan.config.input.keep else None
    ids, captions = table.column("row_id").to_pylist(), table.column("caption").to_pylist()
    return Corpus(
        pairs=tuple(map(Pair, ids, captions, categories or [None] * len(ids))),
        image_sha256=tuple(table.column("image_sha256").to_pylist()),
        image=embedding_matrix(table.column("image_embedding")),
        text=embedding_matrix(table.column("text_embedding")),
        joint_space=plan.spec.joint_space,
        name=name,
    )


def caption_encoder(plan: Plan) -> Callable[[Sequence[str]], Floats]:
    """The run's text tower, for captions that kind `partial` makes; loaded when it is first used."""

    def encode(captions: Sequence[str]) -> Floats:
        encoder = load_encoder(encoder_options(plan.config), plan.spec)
        embeddings: Floats = encoder.encode_texts(captions).astype(np.float32)
        return embeddings

    return encode


def bench_noise(
    corpus: Corpus,
    config: PipelineConfig,
    cells: Sequence[Condition],
    methods: Sequence[str],
    encode: Callable[[Sequence[str]], Floats],
    told: Told,
) -> Iterator[Record]:
    """Records of every condition, method, subset and metric, as soon as they are known.

    The same fit, scoring and mixtures as `curate run` with this config; method `refined`, which "all" leaves out, goes
    on with its stage refine, or with that stage's defaults. Rivals get reference pairs, memory bank and
    cross-fitted space from the last round of ours, see `fit_with_rivals`.

    Raises:
        InputError: kind category without categories, or too few pairs.
    """
    noise = config.stages.noise or NoiseConfig.model_validate({})
    refine = refine_options(noise, config.stages.refine or RefineConfig.model_validate({}))
    options = noise_options(noise)
    rivals = rivals_of(methods, corpus.joint_space)
    for cell in cells:
        told(f"{cell.kind} {cell.rate:g}, seed {cell.seed}")
        yield from _measure(corpus, options, refine if REFINED in methods else None, cell, rivals, methods, encode)


def _measure(
    corpus: Corpus,
    options: NoiseOptions,
    refine: RefineOptions | None,
    cell: Condition,
    rivals: Mapping[str, tuple[SignalName, ...]],
    methods: Sequence[str],
    encode: Callable[[Sequence[str]], Floats],
) -> Iterator[Record]:
    mismatches = choose_mismatches(
        corpus.pairs, cell.kind, cell.rate, cell.seed, unit_rows(corpus.text) if cell.kind == "nearest" else None
    )
    text = corpus.text[mismatches.sources]
    changed = [row for row, change in enumerate(mismatches.word_changes) if change is not None]
    if changed:
        text[changed] = encode([mismatches.captions[row] for row in changed])
    captions = mismatches.captions
    sample = NoiseSample(corpus.image_sha256, captions, corpus.image, text, corpus.joint_space)
    started = time.monotonic()
    model, others = fit_with_rivals(sample, options, rivals, cell.seed)
    scores = model.score(corpus.image_sha256, captions, corpus.image, text)
    seconds = time.monotonic() - started
    frequency = caption_frequencies(captions)
    judged = _Judged(corpus.name, cell, mismatches.mismatched, frequency)
    if not rivals or OURS in methods or "all" in methods:
        diagnostics = model.diagnostics
        share = float(diagnostics["noise_share"])
        yield from judged.records(OURS, scores.noise_prob, scores.noise_rank, share, str(diagnostics["separable"]))
        yield judged.record(OURS, "all", "seconds", seconds, "s")
    if refine is not None:
        started = time.monotonic()
        refined = refine_noise(sample, model, options, refine, cell.seed)
        seconds = time.monotonic() - started
        yield from _refined_records(judged, refined, refined.score(scores.fold, corpus.image, text))
        yield judged.record(REFINED, "all", "seconds", seconds, "s")
    keys = identities(corpus.image_sha256, captions, cell.seed)
    for name, fit in others.items():
        place = np.searchsorted(fit.keys, keys)
        probability, rank = fit.noise_prob[place], -fit.score[place]
        yield from judged.records(name, probability, rank, fit.mixture.noise_share, fit.mixture.separable)


def _refined_records(judged: _Judged, model: RefinedModel, scores: RefinedScores) -> Iterator[Record]:
    """Of every round, and of the last by the method's own name; none where there was nothing to learn from."""
    for number, (each, probability) in enumerate(zip(model.diagnostics["rounds"], scores.noise_prob, strict=True)):
        names = [f"{REFINED_ROUND}{number + 1}", *([REFINED] if number == len(model.rounds) - 1 else [])]
        mixture = each["mixture"]
        rank = scores.noise_rank[number]
        for name in names:
            yield from judged.records(name, probability, rank, mixture["noise_share"], mixture["separable"])


def frequency_subset(least: int, most: int | None) -> str:
    """Name of the subset of pairs whose caption occurs so often: caption_frequency_1, _2_to_10, ..._and_more."""
    return f"caption_frequency_{least}" + ("" if most == least else f"_to_{most}" if most else "_and_more")


def caption_frequencies(captions: Sequence[str]) -> npt.NDArray[np.int64]:
    """How often each caption occurs, case and white space aside; int64 [n]."""
    _, inverse, counts = np.unique(
        np.array([meaning(text) for text in captions]), return_inverse=True, return_counts=True
    )
    occurrences: npt.NDArray[np.int64] = counts[inverse]
    return occurrences


@dataclass(frozen=True)
class _Judged:
    """The truth of one condition, and records of what a method says of it."""

    corpus: str
    cell: Condition
    mismatched: Bools
    frequency: npt.NDArray[np.int64]

    def record(self, method: str, subset: str, metric: str, value: float | str | None, unit: str) -> Record:
        return {
            "bench": "noise",
            "corpus": self.corpus,
            "kind": self.cell.kind,
            "rate": self.cell.rate,
            "seed": self.cell.seed,
            "method": method,
            "subset": subset,
            "metric": metric,
            "value": value,
            "unit": unit,
        }

    def records(self, method: str, noise_prob: Floats, rank: Floats, share: float, separable: str) -> Iterator[Record]:
        """Of all pairs and of those whose caption occurs once; recall of clean pairs by caption frequency."""
        subsets: tuple[tuple[Subset, Bools], ...] = (
            ("all", np.ones(len(rank), dtype=bool)),
            ("unique_caption", self.frequency == 1),
        )
        for subset, rows in subsets:
            for metric, value in _values(noise_prob[rows], rank[rows], self.mismatched[rows]).items():
                yield self.record(method, subset, metric, value, "share")
        yield self.record(method, "all", "noise_share_estimated", share, "share")
        yield self.record(method, "all", "separable", separable, "verdict")
        for least, most in FREQUENCIES:
            rows = (self.frequency >= least) & (self.frequency <= (most or len(rank))) & ~self.mismatched
            recall = float((noise_prob[rows] < 0.5).mean()) if rows.any() else None
            yield self.record(method, frequency_subset(least, most), "recall_clean", recall, "share")


def _values(noise_prob: Floats, rank: Floats, mismatched: Bools) -> dict[str, float | None]:
    """Metrics; where only one kind of pair is there, those that need both are None."""
    if not len(mismatched):
        return {}
    probability = noise_prob.astype(np.float64)
    if mismatched.all() or not mismatched.any():
        kept = probability < 0.5
        return {
            "noise_share_true": float(mismatched.mean()),
            "recall_clean": float(kept[~mismatched].mean()) if not mismatched.all() else None,
        }
    found = figures(probability, mismatched, rank.astype(np.float64))
    return {
        "auroc": found.auroc,
        "auprc": found.auprc,
        "ece": found.ece,
        "precision_clean": found.precision_clean,
        "recall_clean": found.recall_clean,
        "residual_noise": 1 - found.precision_clean,
        "noise_share_true": found.mismatched,
    }


def environment(corpus: Corpus, encoder: str) -> Record:
    """The first record: versions and machine."""
    return {
        "bench": "noise",
        "metric": "environment",
        "corpus": corpus.name,
        "pairs": len(corpus.pairs),
        "encoder": encoder,
        "joint_space": corpus.joint_space,
        **versions_and_machine(),
    }


def versions_and_machine() -> Record:
    """What every bench says of where it ran."""
    names = ("numpy", "scikit-learn", "torch", "open_clip_torch", "curate")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "versions": {name: version(name) for name in names},
    }


@dataclass(frozen=True)
class Cell:
    """Mean and spread (standard deviation) over seeds of one figure; None where it does not exist."""

    mean: float | None
    spread: float | None


def over_seeds(records: Sequence[Record], metric: str, subset: str = "all") -> dict[tuple[str, float, str], Cell]:
    """(kind, rate, method) -> mean and spread of a numeric metric over the seeds."""
    values: dict[tuple[str, float, str], list[float]] = {}
    for record in records:
        if record.get("metric") == metric and record.get("subset") == subset:
            key = (record["kind"], record["rate"], record["method"])
            held = values.setdefault(key, [])
            if record["value"] is not None:
                held.append(float(record["value"]))
    return {
        key: Cell(float(np.mean(held)), float(np.std(held))) if held else Cell(None, None)
        for key, held in values.items()
    }


def verdicts(records: Sequence[Record]) -> dict[tuple[str, float, str], str]:
    """(kind, rate, method) -> the verdicts of all seeds, each once."""
    said: dict[tuple[str, float, str], list[str]] = {}
    for record in records:
        if record.get("metric") == "separable":
            said.setdefault((record["kind"], record["rate"], record["method"]), []).append(record["value"])
    return {key: ", ".join(dict.fromkeys(values)) for key, values in said.items()}
