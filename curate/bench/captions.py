"""`curate bench captions`: held-out pairs lose their caption; every decoder writes it anew, and the truth is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from curate.bench.caption_metrics import caption_figures
from curate.bench.concepts import draw_held_out
from curate.bench.noise import Condition, Corpus, Record, Told
from curate.completion.agreement import Agreement
from curate.completion.decoders import UNTRAINED, Encode, Pictures, Written, build_decoder, embedded
from curate.completion.fit import CompletionModel, CompletionOptions, CompletionSample, fit_completion
from curate.completion.policy import DecoderName, Policy, accepted
from curate.completion.propose import propose, some
from curate.concepts.fit import ConceptOptions, ConceptSample, fit_concepts
from curate.concepts.fuse import Scorer
from curate.concepts.model import ConceptModel
from curate.concepts.vocabulary import Vocabulary
from curate.concepts.words import Tokenizer
from curate.corpora.exchange import choose_mismatches
from curate.errors import InputError
from curate.models.captioner import Concept
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise
from curate.noise.model import NoiseModel, Scores, identities
from curate.noise.similarity import Bools, Floats, unit_rows

Rows: TypeAlias = NDArray[np.intp]

TRUTH = "truth"
"""Not a decoder: what the metrics say of the true captions."""
MOST_COMPLETED = 1000
_UNITS = {"cider_d": "points", "bleu": "points", "chrf": "points", "cosine": "cosine", "length": "words"}


@dataclass(frozen=True)
class CaptionBench:
    """What is measured with.

    Attributes:
        noise, concepts, completion: options of the fits.
        policy: what decides which captions are accepted.
        tokenizer: finds the nouns.
        encode: the text tower.
        top_k: concepts a picture.
        scorer: what finds them.
        vocabulary: names that were given; None: they are mined.
    """

    noise: NoiseOptions
    concepts: ConceptOptions
    completion: CompletionOptions
    policy: Policy
    tokenizer: Tokenizer
    encode: Encode
    top_k: int = 10
    scorer: Scorer = "default"
    vocabulary: Vocabulary | None = None


def check_decoders(names: Sequence[str]) -> list[DecoderName]:
    """The decoders asked for; "all" stands for every one that needs no checkpoint of its own.

    Raises:
        InputError: there is no such decoder.
    """
    known: dict[str, DecoderName] = {name: name for name in get_args(DecoderName) if name != "coca"}
    unknown = [name for name in names if name not in (*known, "all")]
    if unknown:
        raise InputError(f"--decoder {', '.join(unknown)}: choose among all, {', '.join(known)}")
    chosen = [name for name in known if name != "transformer"] if "all" in names else list(dict.fromkeys(names))
    return [known[name] for name in chosen]


def bench_captions(
    corpus: Corpus, bench: CaptionBench, cells: Sequence[Condition], decoders: Sequence[DecoderName], told: Told
) -> Iterator[Record]:
    """Records of every condition, decoder and metric, as soon as they are known.

    A quarter of the pairs, 1,000 at most, each with a caption that occurs once, is held out of everything. Captions of
    the others are exchanged; noise, concepts and captioner are fitted on those as `curate run` does. Then what the
    policy does with the doubtful ones of the others: `accepted` is the share of wrong captions that are completed,
    `accepted_closer` the share of these whose new caption is nearer to the true one, `clean_changed` the share of all
    right captions that are replaced. Without a decoder that is trained the policy is measured with consensus.

    Raises:
        InputError: too few pairs have a caption of their own, or too few are trusted.
    """
    for number, cell in enumerate(cells, 1):
        where = f"{number} of {len(cells)}, {cell.rate:g} exchanged, seed {cell.seed}"
        yield from _Cell(corpus, bench, cell, _prefixed(told, where)).records(decoders)


def caption_environment(noise_environment: Mapping[str, Any]) -> Record:
    """The first record: versions and machine, with those of the tagger and of the metrics."""
    versions = {name: version(name) for name in ("hanta", "sacrebleu")}
    return {
        **noise_environment,
        "bench": "captions",
        "versions": {**noise_environment["versions"], **versions},
        "references": 1,
    }


def _prefixed(told: Told, where: str) -> Told:
    return lambda step: told(f"{where}: {step}")


def _remembering(encode: Encode) -> Encode:
    """The same, each caption encoded once."""
    held: dict[str, Floats] = {}

    def remembered(captions: Sequence[str]) -> Floats:
        new = sorted(set(captions) - held.keys())
        if new:
            held.update(zip(new, encode(new), strict=True))
        return np.stack([held[caption] for caption in captions])

    return remembered


def _policy_decoder(configured: DecoderName, decoders: Sequence[DecoderName]) -> DecoderName:
    trained = any(name not in UNTRAINED for name in decoders)
    return configured if trained or configured in UNTRAINED else "consensus"


def _fit_models(
    sample: CompletionSample, noise: NoiseModel, options: CompletionOptions, seed: int, decoders: Sequence[DecoderName]
) -> dict[DecoderName, CompletionModel]:
    """What each decoder writes with: one captioner for all that name no architecture, another where theirs differs."""
    models: dict[DecoderName, CompletionModel] = {}
    for like in _FITTED_LIKE:
        names = [name for name in decoders if name in _FITTED_LIKE[like]]
        if names:
            known = next((model for model in models.values() if _serves(model, like)), None)
            model = known or fit_completion(sample, noise, replace(options, decoder=like), seed)
            models |= dict.fromkeys(names, model)
    return models


def _serves(model: CompletionModel, like: DecoderName) -> bool:
    captioner = model.captioner
    return like in UNTRAINED or (captioner is not None and captioner.network.shape.architecture == like)


# In this order: what is fitted for the first may serve the others.
_FITTED_LIKE: dict[DecoderName, tuple[DecoderName, ...]] = {
    "default": ("default", "beam", "sample"),
    "gru": ("gru",),
    "transformer": ("transformer",),
    "consensus": ("consensus", "nearest"),
}


class _Cell:
    """One condition: what is fitted, and what is asked of it."""

    def __init__(self, corpus: Corpus, bench: CaptionBench, cell: Condition, told: Told) -> None:
        self.corpus, self.bench, self.cell, self.told = corpus, bench, cell, told
        self.held_out = draw_held_out(corpus, cell.seed)
        self.rest: Rows = np.setdiff1d(np.arange(len(corpus.pairs)), self.held_out)
        exchanged = choose_mismatches([corpus.pairs[row] for row in self.rest], cell.kind, cell.rate, cell.seed)
        self.captions, self.mismatched = exchanged.captions, exchanged.mismatched
        self.text = corpus.text[self.rest][exchanged.sources]

    def records(self, decoders: Sequence[DecoderName]) -> Iterator[Record]:
        """See `bench_captions`."""
        yield self._record("", "images", len(self.held_out), "count")
        seconds: dict[str, float] = {}
        with self._timed("noise", seconds):
            noise, scores = self._noise()
        with self._timed("concepts", seconds):
            found = self._concepts(scores.noise_prob)
            concepts = self._named(found, self.rest)
        sample = CompletionSample(
            self._checksums(self.rest), self.captions, self.corpus.image[self.rest], self.text,
            scores.noise_prob, scores.fold, concepts, noise.decided,
        )  # fmt: skip
        with self._timed("captioner", seconds):
            policy = _policy_decoder(self.bench.completion.decoder, decoders)
            models = _fit_models(sample, noise, self.bench.completion, self.cell.seed, [*decoders, policy])
        pictures = self._pictures(noise, found)
        for name in decoders:
            self.told(f"decoder {name}")
            yield from self._of_decoder(name, models[name], noise, pictures)
        true = Written(self._true(self.held_out), unit_rows(self.corpus.text[self.held_out]))
        yield from self._figures(TRUTH, true)
        self.told("policy")
        yield from self._of_policy(policy, models[policy], noise, sample)
        for step, value in seconds.items():
            yield self._record("", f"{step}_seconds", value, "s")

    @contextmanager
    def _timed(self, step: str, seconds: dict[str, float]) -> Iterator[None]:
        self.told(f"fitting {step}")
        started = time.monotonic()
        yield
        seconds[step] = time.monotonic() - started

    def _noise(self) -> tuple[NoiseModel, Scores]:
        checksums, image = self._checksums(self.rest), self.corpus.image[self.rest]
        sample = NoiseSample(checksums, self.captions, image, self.text, self.corpus.joint_space)
        model = fit_noise(sample, self.bench.noise, self.cell.seed)
        return model, model.score(checksums, self.captions, image, self.text)

    def _concepts(self, noise_prob: Floats) -> ConceptModel:
        sample = ConceptSample(
            self._checksums(self.rest), self.captions, self.corpus.image[self.rest], self.text,
            self.corpus.joint_space, noise_prob,
        )  # fmt: skip
        bench = self.bench
        return fit_concepts(sample, bench.vocabulary, bench.concepts, self.cell.seed, bench.tokenizer, bench.encode)

    def _named(self, model: ConceptModel, rows: Rows) -> list[list[Concept]]:
        if model.fitted is None:
            return [[] for _ in rows]
        top = model.top(self._checksums(rows), self.corpus.image[rows], self.bench.scorer, self.bench.top_k)
        names = model.vocabulary.names
        return [
            [(names[place], score) for place, score in zip(places, scores, strict=True)]
            for places, scores in zip(top.place.tolist(), top.score.tolist(), strict=True)
        ]

    def _pictures(self, noise: NoiseModel, found: ConceptModel) -> Pictures:
        checksums, image = self._checksums(self.held_out), self.corpus.image[self.held_out]
        nothing = [""] * len(checksums)
        return Pictures(
            identity=identities(checksums, nothing, noise.seed),
            fold=noise.folds(checksums, nothing, image),
            features=Agreement(noise).images(image),
            image=image,
            concepts=self._named(found, self.held_out),
        )

    def _of_decoder(
        self, name: DecoderName, model: CompletionModel, noise: NoiseModel, pictures: Pictures
    ) -> Iterator[Record]:
        decoder = build_decoder(name, model.bank, model.captioner, Agreement(noise), self.bench.encode, model.seed)
        started = time.monotonic()
        written = decoder(pictures)
        speed = len(pictures) / (time.monotonic() - started)
        yield from self._figures(name, written)
        yield self._record(name, "captions_per_second", speed, "captions/s")

    def _figures(self, name: str, written: Written) -> Iterator[Record]:
        true, text = self._true(self.held_out), self.corpus.text[self.held_out]
        for metric, value in asdict(
            caption_figures(written.captions, true, written.text, text, self.captions)
        ).items():
            yield self._record(name, metric, value, _UNITS.get(metric, "share"))

    def _of_policy(
        self, name: DecoderName, model: CompletionModel, noise: NoiseModel, sample: CompletionSample
    ) -> Iterator[Record]:
        """What becomes of the pairs that are not trusted, or of MOST_COMPLETED of them."""
        waiting = np.nonzero(sample.noise_prob >= self.bench.completion.trusted_below)[0]
        drawn = np.random.default_rng([self.cell.seed, 2]).permutation(waiting)[:MOST_COMPLETED]
        if not len(drawn):
            yield self._record(name, "clean_changed", 0.0, "share")
            return
        keys = identities(sample.image_sha256, sample.captions, noise.seed)
        pictures = Pictures(keys, sample.fold, Agreement(noise).images(sample.image), sample.image, sample.concepts)
        encode = _remembering(self.bench.encode)
        decoder = build_decoder(name, model.bank, model.captioner, Agreement(noise), encode, model.seed)
        rows = drawn.tolist()
        proposal = propose(
            decoder, Agreement(noise), some(pictures, rows), [sample.captions[row] for row in rows],
            sample.text[rows], sample.noise_prob[rows],
        )  # fmt: skip
        taken = accepted(proposal, model.threshold, self.bench.policy)
        wrong = self.mismatched[drawn]
        closer = self._closer(embedded(proposal.synthetic, encode), drawn)
        share = len(waiting) / len(drawn)
        clean = max(int((~self.mismatched).sum()), 1)
        yield self._record(name, "accepted", float(taken[wrong].mean()) if wrong.any() else None, "share")
        both = taken & wrong
        yield self._record(name, "accepted_closer", float(closer[both].mean()) if both.any() else None, "share")
        yield self._record(name, "clean_changed", float((taken & ~wrong).sum() * share / clean), "share")

    def _closer(self, text: Floats, rows: Rows) -> Bools:
        """Whether each synthetic caption is nearer to the true one than the pair's own caption is."""
        true = unit_rows(self.corpus.text[self.rest[rows]])
        closer: Bools = (text * true).sum(axis=1) > (unit_rows(self.text[rows]) * true).sum(axis=1)
        return closer

    def _checksums(self, rows: Rows) -> list[str]:
        return [self.corpus.image_sha256[row] for row in rows]

    def _true(self, rows: Rows) -> list[str]:
        return [self.corpus.pairs[row].caption for row in rows]

    def _record(self, method: str, metric: str, value: float | None, unit: str) -> Record:
        return {
            "bench": "captions",
            "corpus": self.corpus.name,
            "kind": self.cell.kind,
            "rate": self.cell.rate,
            "seed": self.cell.seed,
            "method": method,
            "subset": "all",
            "metric": metric,
            "value": value,
            "unit": unit,
        }
