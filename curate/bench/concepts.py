"""`curate bench concepts`: what held-out pictures show, found by each scorer, against their captions and keywords."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.bench.noise import OURS, Condition, Corpus, Record, Told
from curate.concepts.cross_modal import Encode
from curate.concepts.fit import ConceptOptions, ConceptSample, fit_concepts
from curate.concepts.fuse import Scorer
from curate.concepts.mentions import MentionTable
from curate.concepts.model import ConceptModel
from curate.concepts.vocabulary import Mentions, Vocabulary
from curate.concepts.words import Tokenizer
from curate.corpora.exchange import choose_mismatches
from curate.errors import InputError
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

POPULARITY = "popularity"
SCORERS: dict[str, Scorer] = {
    OURS: "default",
    "nlip": "cross_modal",
    "neighbours": "neighbours",
    "tagger": "tagger",
}
METHODS = (*SCORERS, POPULARITY)
MOST_HELD_OUT = 1000
_LEAST_HELD_OUT = 10
# What a held-out picture shows: concepts that its caption names, or that people tagged it with.
Truths: TypeAlias = "dict[str, Bools]"


@dataclass(frozen=True)
class ConceptBench:
    """What is measured with.

    Attributes:
        noise: of the fit that weighs the training pairs; None: all weigh 1.
        concepts: of the fit.
        vocabulary: names that were given; None: they are mined from the training pairs.
        tokenizer, encode: as for `fit_concepts`.
    """

    noise: NoiseOptions | None
    concepts: ConceptOptions
    vocabulary: Vocabulary | None
    tokenizer: Tokenizer
    encode: Encode


def check_methods(names: Sequence[str]) -> list[str]:
    """The methods asked for; "all" stands for every one.

    Raises:
        InputError: there is no such method.
    """
    unknown = [name for name in names if name not in (*METHODS, "all")]
    if unknown:
        raise InputError(f"--method {', '.join(unknown)}: choose among all, {', '.join(METHODS)}")
    return list(METHODS) if "all" in names else list(dict.fromkeys(names))


def bench_concepts(
    corpus: Corpus, bench: ConceptBench, cells: Sequence[Condition], methods: Sequence[str], told: Told
) -> Iterator[Record]:
    """Records of every condition, method, truth and metric, as soon as they are known.

    A quarter of the pairs, 1,000 at most, is held out, each with a caption that occurs once. Captions of the others
    are exchanged; noise and concepts are fitted on those as `curate run` does. The category of a pair holds its
    keywords, a JSON list, where the corpus has them.

    Raises:
        InputError: too few pairs have a caption of their own.
    """
    for cell in cells:
        told(f"{cell.kind} {cell.rate:g}, seed {cell.seed}")
        yield from _measure(corpus, bench, cell, methods)


def _measure(corpus: Corpus, bench: ConceptBench, cell: Condition, methods: Sequence[str]) -> Iterator[Record]:
    held_out = draw_held_out(corpus, cell.seed)
    sample = _training_sample(corpus, np.setdiff1d(np.arange(len(corpus.pairs)), held_out), cell)
    started = time.monotonic()
    if bench.noise is not None:
        sample = replace(sample, noise_prob=_noise_prob(sample, bench.noise, cell.seed))
    fitted = time.monotonic()
    model = fit_concepts(sample, bench.vocabulary, bench.concepts, cell.seed, bench.tokenizer, bench.encode)
    if model.fitted is None:
        raise InputError(f"--rate {cell.rate:g}: {model.diagnostics['verdict']}")
    seconds = {"noise_seconds": fitted - started, "fit_seconds": time.monotonic() - fitted}
    truths = _truths(corpus, held_out, model.vocabulary, bench.tokenizer)
    checksums, image = [corpus.image_sha256[row] for row in held_out], corpus.image[held_out]
    for method in methods:
        scores = _scores(model, method, checksums, image)
        for truth, shown in truths.items():
            for metric, value in ranking_figures(scores, shown).items():
                yield _record(corpus, cell, method, truth, metric, value, "share")
    for truth, shown in truths.items():
        named = shown.sum(axis=1)[shown.any(axis=1)]
        yield _record(corpus, cell, OURS, truth, "images", len(named), "count")
        best = float(np.minimum(named, 5).mean() / 5) if len(named) else None
        yield _record(corpus, cell, OURS, truth, "precision_at_5_ceiling", best, "share")
    yield _record(corpus, cell, OURS, "", "names", len(model.vocabulary), "count")
    for metric, value in seconds.items():
        yield _record(corpus, cell, OURS, "", metric, value, "s")


def draw_held_out(corpus: Corpus, seed: int) -> Rows:
    """Rows whose caption occurs once, at most 1,000 and a quarter of all; ascending.

    Raises:
        InputError: there are hardly any.
    """
    meanings = np.array([pair.meaning for pair in corpus.pairs])
    _, inverse, counts = np.unique(meanings, return_inverse=True, return_counts=True)
    once = np.nonzero(counts[inverse] == 1)[0]
    size = min(MOST_HELD_OUT, len(meanings) // 4, len(once))
    if size < _LEAST_HELD_OUT:
        raise InputError(f"--input: {len(once)} pairs have a caption of their own; {_LEAST_HELD_OUT} are needed")
    return np.sort(np.random.default_rng([seed, 1]).permutation(once)[:size])


def _training_sample(corpus: Corpus, rows: Rows, cell: Condition) -> ConceptSample:
    """Pairs some of whose captions belong to others."""
    mismatches = choose_mismatches([corpus.pairs[row] for row in rows], cell.kind, cell.rate, cell.seed)
    return ConceptSample(
        image_sha256=[corpus.image_sha256[row] for row in rows],
        captions=mismatches.captions,
        image=corpus.image[rows],
        text=corpus.text[rows][mismatches.sources],
        joint_space=corpus.joint_space,
    )


def _noise_prob(sample: ConceptSample, options: NoiseOptions, seed: int) -> Floats:
    pairs = (sample.image_sha256, sample.captions, sample.image, sample.text)
    return fit_noise(NoiseSample(*pairs, sample.joint_space), options, seed).score(*pairs).noise_prob


def _scores(model: ConceptModel, method: str, image_sha256: Sequence[str], image: Floats) -> Floats:
    if method == POPULARITY:
        popular = np.array(model.vocabulary.documents, dtype=np.float32)
        return np.repeat(popular[None], len(image), axis=0)
    return model.all_scores(image_sha256, image, SCORERS[method])


def _truths(corpus: Corpus, rows: Rows, vocabulary: Vocabulary, tokenizer: Tokenizer) -> Truths:
    """What held-out pictures show, bool [rows, names] by kind of truth."""
    find = Mentions(vocabulary, tokenizer)

    def table(texts: Callable[[int], Sequence[str]]) -> Bools:
        named = [sorted({number for text in texts(row) for number in find(tokenizer(text))}) for row in rows]
        return MentionTable.of(named, len(vocabulary)).dense(slice(0, len(vocabulary))) > 0

    truths = {"caption_nouns": table(lambda row: [corpus.pairs[row].caption])}
    if any(pair.category for pair in corpus.pairs):
        truths["keywords"] = table(lambda row: keywords_of(corpus.pairs[row].category))
    return truths


def keywords_of(text: str | None) -> list[str]:
    """Keywords from a JSON list, or from text that separates them by commas."""
    if not text:
        return []
    try:
        listed = json.loads(text)
    except json.JSONDecodeError:
        listed = text.split(",")
    return [str(word) for word in listed] if isinstance(listed, list) else [str(listed)]


def ranking_figures(scores: Floats, shown: Bools) -> dict[str, float | None]:
    """Means over the images that show anything; None where none does.

    precision_at_5: share of the first five concepts that are shown; recall_at_10: share of those shown that are among
    the first ten; map: mean average precision over the whole ranking. Equal scores rank by the vocabulary's order.

    Args:
        scores: float32 [n, v].
        shown: bool [n, v].
    """
    rows = shown.any(axis=1)
    if not rows.any():
        return {"precision_at_5": None, "recall_at_10": None, "map": None}
    order = np.argsort(-scores[rows], axis=1, kind="stable")
    hits = np.take_along_axis(shown[rows], order, axis=1)
    total = hits.sum(axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return {
        "precision_at_5": float((hits[:, :5].sum(axis=1) / 5).mean()),
        "recall_at_10": float((hits[:, :10].sum(axis=1) / total).mean()),
        "map": float(((precision * hits).sum(axis=1) / total).mean()),
    }


def _record(
    corpus: Corpus, cell: Condition, method: str, truth: str, metric: str, value: float | None, unit: str
) -> Record:
    return {
        "bench": "concepts",
        "corpus": corpus.name,
        "kind": cell.kind,
        "rate": cell.rate,
        "seed": cell.seed,
        "method": method,
        "subset": truth or "all",
        "metric": metric,
        "value": value,
        "unit": unit,
    }


def concept_environment(noise_environment: Mapping[str, Any]) -> Record:
    """The first record: versions and machine, with the tagger's."""
    versions = {**noise_environment["versions"], "hanta": version("hanta")}
    return {**noise_environment, "bench": "concepts", "versions": versions}
