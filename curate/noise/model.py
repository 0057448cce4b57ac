"""The fitted noise models: all that a pair is compared with, and the function that scores any pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.noise.agreement import Projected
from curate.noise.arrays import Arrays, pack, unpack
from curate.noise.crossfit import Cca
from curate.noise.evidence import Columns, FoldEvidence, Published, ReferenceSet
from curate.noise.features import Features, Reducer, sketches
from curate.noise.fusion import Fusion
from curate.noise.grouping import NEAR_IMAGE_DISTANCE, Bools, Hashes, half_norms, hash_strings
from curate.noise.joint import ResidualAdapter, ZeroShot
from curate.noise.kernel_ridge import KernelRidge, RidgeToImage, RidgeToText
from curate.noise.memorization import Heads
from curate.noise.mixture import Posterior
from curate.noise.neighbour_regression import NeighbourRegression, NeighboursToImage, NeighboursToText
from curate.noise.rank import Rank
from curate.noise.signals import CROSSFIT, HIGHER_IS_NOISIER, JOINT_ONLY, SignalName
from curate.noise.similarity import Floats, padded, padded_chunks
from curate.noise.views import View

Folds = NDArray[np.int8]
Positions = NDArray[np.int32]
ARRAYS_FILE = "noise.safetensors"
META_FILE = "noise.json"
CROSSFIT_VIEWS = 5


def identities(image_sha256: Sequence[str], captions: Sequence[str], seed: int) -> Hashes:
    """Seeded hashes of what a pair is: its picture and its caption, not where it stands. uint64 [n]."""
    return hash_strings(
        (f"{picture}\0{caption}" for picture, caption in zip(image_sha256, captions, strict=True)), seed
    )


def is_decided(mixture: Mapping[str, Any], strata: Sequence[str]) -> bool:
    """Whether a mixture, by its diagnostics, or that of a stratum with a posterior of its own means anything."""
    return mixture["method"] != "none" or bool(strata)


def copy_numbers(ascending: Hashes) -> NDArray[np.intp]:
    """For sorted hashes, how many equal ones stand before each; [n]."""
    return np.arange(len(ascending)) - np.searchsorted(ascending, ascending)


@dataclass(frozen=True)
class KnownRows:
    """The sample: which fold each of its rows belongs to and which models were trained on it. Sorted by `key`.

    Attributes:
        key: `identities`; equal pairs have equal ones, and one fold. uint64 [n].
        fold: int8 [n].
        sketch: fingerprint of the picture, values that half precision holds, float32 [n, s].
        trained: whether the model of each fold was trained on the row, bool [n, folds].
    """

    key: Hashes
    fold: Folds
    sketch: Floats
    trained: Bools

    stored_in_half: ClassVar[bool] = True

    def lookup(self, keys: Hashes) -> Folds:
        """Fold of every row that is in the sample, -1 for all others; int8 [m]."""
        place = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[place] == keys, self.fold[place], np.int8(-1)).astype(np.int8)

    def fold_without_twins(self, sketch: Floats) -> Folds:
        """Fold for rows outside the sample with a near-duplicate picture inside it; -1 where nothing is near. int8
        [m].

        The fold whose training rows come least close: argmin_k max {cos(x, s) : s trained on by model k}. That is the
        fold of the nearest sample row, unless a second twin makes another one more honest. O(m n s), O(CHUNK n)
        memory.
        """
        found = np.full(len(sketch), -1, dtype=np.int8)
        norms = half_norms(self.sketch)
        for part in padded_chunks(len(sketch)):
            rows = padded(sketch[part])
            closeness = rows @ self.sketch.T - half_norms(rows)[:, None] - norms
            twins = np.nonzero(closeness[: part.stop - part.start].max(axis=1) > -0.5 * NEAR_IMAGE_DISTANCE)[0]
            if len(twins):
                closest = [
                    closeness[np.ix_(twins, self.trained[:, k])].max(axis=1) for k in range(self.trained.shape[1])
                ]
                found[part.start + twins] = np.argmin(closest, axis=0)
        return found


@dataclass(frozen=True)
class FoldModel:
    """What scores the pairs of one fold; nothing in it was trained on them.

    Attributes:
        cca, to_text, to_image: cross-fitted views.
        neighbour_weights: how far each row of the sample's features counts as a neighbour, 0 where the fold must not
            see it, float32 [r].
        text_mean, image_mean: weighted means of those rows' features.
        adapter: of the towers' own space, where they have one.
        bank: rows of the sample's features that the fold's pairs are compared with, int32 [b].
        banks: the bank in each view.
        neighbours: references of LEMoN, where asked for.
        published: references of the other published signals.
        null_mean, null_sd: over shuffled pairs, of the views' columns and of the singles that are evidence, float32.
    """

    cca: Cca
    to_text: KernelRidge
    to_image: KernelRidge
    neighbour_weights: Floats
    text_mean: Floats
    image_mean: Floats
    adapter: ResidualAdapter | None
    bank: Positions
    banks: tuple[Projected, ...]
    neighbours: ReferenceSet | None
    published: Published | None
    null_mean: Floats
    null_sd: Floats

    def views(self, sample: Features) -> list[View]:
        """Joint ones first."""
        return fold_views(
            self.adapter,
            self.cca,
            self.to_text,
            self.to_image,
            NeighbourRegression(sample.image_unit, sample.text, self.neighbour_weights, self.text_mean),
            NeighbourRegression(sample.text, sample.image, self.neighbour_weights, self.image_mean),
        )

    def standardised(self, columns: Floats) -> Floats:
        """The first columns in standard deviations of shuffled pairs: 0 is a typical gross mismatch. float32."""
        return (columns[:, : len(self.null_mean)] - self.null_mean) / self.null_sd


def fold_views(
    adapter: ResidualAdapter | None,
    cca: Cca,
    to_text: KernelRidge,
    to_image: KernelRidge,
    neighbours_to_text: NeighbourRegression,
    neighbours_to_image: NeighbourRegression,
) -> list[View]:
    """The views in the order of `Columns`."""
    joint: list[View] = [] if adapter is None else [ZeroShot(), adapter]
    return [
        *joint,
        cca,
        RidgeToText(to_text),
        RidgeToImage(to_image),
        NeighboursToText(neighbours_to_text),
        NeighboursToImage(neighbours_to_image),
    ]


@dataclass(frozen=True)
class Stratum:
    """The posterior of pairs that share a value of the column `mixture.by`."""

    posterior: Posterior


def stratified(
    pooled: Posterior,
    names: Sequence[str],
    own: Sequence[Stratum],
    score: Floats,
    values: Sequence[str | None] | None,
) -> Floats:
    """noise_prob of scores, float32 [n], those of a named stratum by its own posterior, all others by the pooled one.

    Args:
        pooled: of all pairs.
        names, own: the strata that have a posterior of their own.
        score: float32 [n].
        values: the stratum of each pair; None: there are none.
    """
    probability = pooled(score)
    if values is None or not names:
        return probability
    belongs = np.array(values, dtype=object)
    for name, stratum in zip(names, own, strict=True):
        rows = np.nonzero(belongs == name)[0]
        probability[rows] = stratum.posterior(score[rows])
    return probability


@dataclass(frozen=True)
class Scores:
    """What is known of every row.

    Attributes:
        fold: int8 [n].
        signals: each in its published orientation, float32 [n]; those that were not computed are absent.
        noise_prob: in [0, 1], float32 [n].
        noise_rank: in [0, 1], higher is noisier, float32 [n].
        memory: rows of the sample that are the memory entries of `negative_impact`, by image and by caption, int32
            [n, 2]; -1: there is none.
    """

    fold: Folds
    signals: dict[SignalName, Floats]
    noise_prob: Floats
    noise_rank: Floats
    memory: Positions


@dataclass(frozen=True)
class Fitted:
    """Everything a pair is compared with, as arrays. A few dozen MB to a few hundred.

    Attributes:
        reducer: embeddings -> features.
        known: the sample's rows.
        sample: features of its first rows, which banks and references are taken from.
        heads, negatives: for the memorization signal; the negatives are the first rows of `sample`.
        folds: one model per fold.
        fusion: evidence -> score, over the columns of `evidence`.
        evidence: which columns noise_prob is made of, int32.
        posterior: score -> noise probability, of all pairs.
        rank: score -> noise_rank.
        strata: posteriors of their own, in the order of `NoiseModel.strata`.
    """

    reducer: Reducer
    known: KnownRows
    sample: Features
    heads: Heads
    negatives: Projected
    folds: tuple[FoldModel, ...]
    fusion: Fusion
    evidence: Positions
    posterior: Posterior
    rank: Rank
    strata: tuple[Stratum, ...]


@dataclass(frozen=True)
class NoiseModel:
    """The fitted arrays and what they mean. The bytes depend on sample, options and seed alone.

    Attributes:
        seed: of all hashes.
        fitted: the arrays.
        singles: published signals of one column each; those that noise_prob is made of come first.
        strata: names of the strata that have a posterior of their own.
        diagnostics: JSON-able figures of the fit.
        row_ids: of the sample's first rows, as many as memory banks hold; None: the fit was not told.
    """

    seed: int
    fitted: Fitted
    singles: tuple[SignalName, ...]
    strata: tuple[str, ...]
    diagnostics: dict[str, Any]
    row_ids: tuple[str, ...] | None = None

    @property
    def joint_space(self) -> bool:
        """Whether the towers were trained together."""
        return self.fitted.folds[0].adapter is not None

    @property
    def decided(self) -> bool:
        """Whether right captions could be told from wrong ones, of all pairs or of some stratum."""
        return is_decided(self.diagnostics, self.strata)

    @cached_property
    def columns(self) -> Columns:
        """Layout of the evidence."""
        return Columns(2 if self.joint_space else 0, CROSSFIT_VIEWS, self.singles)

    @cached_property
    def fold_evidence(self) -> list[FoldEvidence]:
        """For each fold."""
        fitted = self.fitted
        return [
            FoldEvidence(
                views=fold.views(fitted.sample),
                bank=fitted.sample.take(fold.bank.astype(np.intp)),
                banks=fold.banks,
                joint_view=0,
                columns=self.columns,
                heads=fitted.heads,
                negatives=fitted.negatives,
                negative_features=fitted.sample.take(slice(0, len(fitted.negatives.image))),
                sample=fitted.sample,
                neighbour_set=fold.neighbours,
                published=fold.published,
            )
            for fold in fitted.folds
        ]

    def score(
        self,
        image_sha256: Sequence[str],
        captions: Sequence[str],
        image: Floats,
        text: Floats,
        strata: Sequence[str | None] | None = None,
    ) -> Scores:
        """Score pairs; a row's result depends on the row and this model alone.

        Args:
            image_sha256: checksums of the pictures; with the captions they tell which rows the model knows.
            captions: as they came.
            image, text: finite embeddings, float32 or float16 [n, dv], [n, dt].
            strata: values of the column `mixture.by`; None: all pairs share one posterior.
        """
        with threadpool_limits(1):
            features = self.fitted.reducer(image.astype(np.float32), text.astype(np.float32))
            fold = self._folds(image_sha256, captions, features.sketch)
            return self._score(fold, features, strata)

    def folds(self, image_sha256: Sequence[str], captions: Sequence[str], image: Floats) -> Folds:
        """The fold whose models never saw a pair nor a near-duplicate of its picture, int8 [n].

        Args:
            image_sha256, captions: as for `score`.
            image: embeddings, float32 or float16 [n, dv].
        """
        with threadpool_limits(1):
            sketch = sketches(self.fitted.reducer.sketch, image.astype(np.float32))
        return self._folds(image_sha256, captions, sketch)

    def _folds(self, image_sha256: Sequence[str], captions: Sequence[str], sketch: Floats) -> Folds:
        """The fold whose model never saw the row nor its twin: by look-up, by likeness to the sample, else by hash."""
        fold = self.fitted.known.lookup(identities(image_sha256, captions, self.seed))
        outside = np.nonzero(fold < 0)[0]
        fold[outside] = self.fitted.known.fold_without_twins(sketch[outside])
        drawn = hash_strings(image_sha256, self.seed) % np.uint64(len(self.fitted.folds))
        return np.where(fold < 0, drawn.astype(np.int8), fold)

    def _score(self, fold: Folds, features: Features, strata: Sequence[str | None] | None) -> Scores:
        raw = np.empty((len(fold), self.columns.count), dtype=np.float32)
        memory = np.empty((len(fold), 2), dtype=np.int32)
        standard = np.empty((len(fold), len(self.fitted.folds[0].null_mean)), dtype=np.float32)
        score = np.empty(len(fold), dtype=np.float32)
        for number, model in enumerate(self.fitted.folds):
            rows = np.nonzero(fold == number)[0]
            if len(rows):
                raw[rows], memory[rows] = self.fold_evidence[number].with_memory(features.take(rows))
                standard[rows] = model.standardised(raw[rows])
                score[rows] = self.fitted.fusion(standard[rows][:, self.fitted.evidence], number)
        return Scores(
            fold=fold,
            signals=published_signals(self.columns, raw, standard),
            noise_prob=self.probability(score, strata),
            noise_rank=self.fitted.rank(score),
            memory=memory,
        )

    def probability(self, score: Floats, strata: Sequence[str | None] | None) -> Floats:
        """noise_prob of fused scores, float32 [n]; `strata` as for `score`."""
        return stratified(self.fitted.posterior, self.strata, self.fitted.strata, score, strata)

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors for arrays, JSON for the rest. Equal models give equal bytes."""
        from safetensors.numpy import save

        meta = {
            "seed": self.seed,
            "singles": list(self.singles),
            "strata": list(self.strata),
            "diagnostics": self.diagnostics,
            "row_ids": self.row_ids,
        }
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
        return {ARRAYS_FILE: save(pack(self.fitted)), META_FILE: text.encode()}

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> NoiseModel:
        """The model that `to_bytes` wrote, exactly."""
        from safetensors.numpy import load

        meta = json.loads(files[META_FILE])
        arrays: Arrays = load(files[ARRAYS_FILE])
        return cls(
            seed=meta["seed"],
            fitted=unpack(Fitted, arrays),
            singles=tuple(meta["singles"]),
            strata=tuple(meta["strata"]),
            diagnostics=meta["diagnostics"],
            # Models of earlier versions do not say whose their rows are.
            row_ids=tuple(meta["row_ids"]) if meta.get("row_ids") is not None else None,
        )


def stored_posterior(files: Mapping[str, bytes], prefix: str = "") -> Posterior:
    """score -> noise_prob, alone, of a model that `to_bytes` wrote.

    Args:
        files: of the artifact.
        prefix: what the names of its arrays begin with: "" in a noise model, "rounds.0." in the first round of a
            refined one.
    """
    from safetensors.numpy import load

    (arrays,) = (data for name, data in files.items() if name.endswith(".safetensors"))
    return unpack(Posterior, load(arrays), f"{prefix}posterior.")


def published_signals(columns: Columns, raw: Floats, standard: Floats) -> dict[SignalName, Floats]:
    """One number per signal and pair, in the published orientation; float32 [n] each.

    Similarities are means of the views' cosines; csls signals are means of their standardised halves.
    """
    both = (*(JOINT_ONLY if columns.joint_views else ()), *CROSSFIT)
    signals: dict[SignalName, Floats] = {}
    for name in both:
        held = standard if name in (JOINT_ONLY[1], CROSSFIT[1]) else raw
        signals[name] = np.ascontiguousarray(held[:, columns.heart(name)]).mean(axis=1)
    for name in columns.singles:
        column = raw[:, columns.of(name)[0]]
        signals[name] = -column if name in HIGHER_IS_NOISIER else column.copy()
    return signals
