"""The fit: a bounded sample of pairs in, everything that later scores a pair out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.errors import InputError, NothingToLearnError
from curate.noise import neg_clip_loss, negative_impact
from curate.noise.agreement import Projected, project
from curate.noise.crossfit import RIDGE_ROWS_UNWEIGHTED, RIDGE_ROWS_WEIGHTED, Cca, fit_cca, weighted_moments
from curate.noise.evidence import Columns, FoldEvidence, Published, ReferenceSet
from curate.noise.features import fit_reducer
from curate.noise.fusion import MIN_CLEAN_WEIGHT, Evidence, Fusion, Scored, fit_fusion, sum_of
from curate.noise.grouping import (
    SKETCH_DIMENSIONS,
    Hashes,
    design_effect,
    draw_folds,
    folds_with_twins,
    group_by_picture,
    hash_strings,
)
from curate.noise.histogram import Histogram
from curate.noise.joint import ResidualAdapter, fit_residual_adapter
from curate.noise.kernel_ridge import KernelRidge, fit_kernel_ridge
from curate.noise.memorization import warm_up
from curate.noise.mixture import Mixture, MixtureKind, fit_mixture, fit_strata
from curate.noise.model import (
    CROSSFIT_VIEWS,
    Fitted,
    FoldModel,
    Folds,
    KnownRows,
    NoiseModel,
    Stratum,
    copy_numbers,
    fold_views,
    identities,
)
from curate.noise.neighbour_regression import NeighbourRegression, fit_neighbour_regression
from curate.noise.nulls import Mismatches, hard_mismatches, random_mismatches
from curate.noise.osa import shuffled_boundary
from curate.noise.rank import fit_rank
from curate.noise.references import References
from curate.noise.signals import (
    CROSSFIT,
    JOINT_ONLY,
    SignalName,
    Signals,
    computed_signals,
    evidence_of,
    published_mixture,
)
from curate.noise.similarity import Bools, Floats, have_direction
from curate.noise.views import View

Rows = NDArray[np.intp]
T = TypeVar("T")

MIN_TRAINING_ROWS = 50
MIN_HELD_OUT_ROWS = 10
MIN_NULL_PAIRS = 10
# A pair that occurs often counts for more, as noise_prob is a share of pairs, but must not become the whole sample.
MOST_COPIES = 8
_SMALLEST_SPREAD = 1e-6
# Signals that are published in standard deviations of shuffled pairs.
_STANDARDISED = (CROSSFIT[1], JOINT_ONLY[1])
log = logging.getLogger(__name__)

# Streams of random numbers beside those of the folds, which are numbered from 0.
_MIXTURE_STREAM = 1 << 20


@dataclass(frozen=True)
class NoiseSample:
    """Usable pairs, at most a few ten thousand, in any order.

    Attributes:
        image_sha256: checksums of the pictures.
        captions: as they came. A pair is known by its picture and its caption; equal ones count, but only so often.
        image, text: L2-normalised embeddings, float16 or float32 [n, dv], [n, dt].
        joint_space: whether the towers were trained together (CLIP).
        strata: value of the column `mixture.by` for each pair; None: there is none.
        row_ids: identity of each pair, by which memory entries are named; None: they are not.
    """

    image_sha256: Sequence[str]
    captions: Sequence[str]
    image: Floats
    text: Floats
    joint_space: bool
    strata: Sequence[str | None] | None = None
    row_ids: Sequence[str] | None = None


@dataclass(frozen=True)
class NoiseOptions:
    """What can be chosen. One set of defaults for all corpora, chosen by measurement.

    Attributes:
        signals: what noise_prob is made of, see `signals.evidence_of`.
        folds: cross-fitting folds.
        rounds: the second refits with weights max(1 - noise_prob, .02); more add nothing. The weights of a fold's
            training rows come from models that had seen that fold; no row is ever scored by a model fitted to it.
        mixture: how scores become probabilities, see `mixture.fit_mixture`; "default" is the paper's own mixture where
            a single signal was picked that has one, else "null".
        stratum_pairs: a stratum with fewer pairs of the sample shares the posterior of all.
        bank: held-out pairs per fold that scores are corrected with.
        references: pairs that neighbours are sought among; banks are taken from them too.
        published_references: pairs that the other published signals compare with.
        image_dimensions: PCA of the images.
        dimensions: canonical directions of CCA.
        landmarks: of kernel ridge regression.
        epochs: warm-up of the memorization heads; the right number differs by corpus.
        negatives: fixed pairs the memorization loss contrasts with.
        clip_loss_batches, clip_loss_batch: K and B of negCLIPLoss.
        min_pairs: below this a fit is refused.
    """

    signals: Signals = "default"
    folds: int = 5
    rounds: int = 2
    mixture: MixtureKind = "default"
    stratum_pairs: int = 500
    bank: int = 2000
    references: int = 16384
    published_references: int = 2000
    image_dimensions: int = 384
    dimensions: int = 128
    landmarks: int = 600
    epochs: int = 3
    negatives: int = 1024
    clip_loss_batches: int = 10
    clip_loss_batch: int = 1024
    min_pairs: int = 100


def fit_noise(sample: NoiseSample, options: NoiseOptions, seed: int) -> NoiseModel:
    """Fit all noise models on a sample. Bytes depend on sample, options and seed alone, not on row order or cores.

    Steps: order by seeded hash, equal pairs counted at most 8 times; fingerprints and groups of pictures; folds;
    memorization heads; `rounds` of views, mismatches made on purpose, fusion and mixture. O(n^2 s) for the twins,
    O(n dv^2) for the rest; memory O(n dv).

    Raises:
        InputError: too few pairs, or too few different pictures or captions, to hold any out; or signals that these
            towers do not have.
    """
    evidence = evidence_of(options.signals, sample.joint_space)
    comparable = have_direction(sample.image) & have_direction(sample.text)
    rows: Rows = canonical(sample, np.nonzero(comparable)[0], seed)
    if len(rows) < options.min_pairs:
        broken = int((~comparable).sum())
        beside = f" (and {broken:,} whose embeddings are zero or not finite)" if broken else ""
        raise InputError(
            f"noise needs at least {options.min_pairs} usable pairs; this input has {len(rows)}{beside}. "
            "Add inputs, or leave out the noise stage."
        )
    with threadpool_limits(1):
        return SampleFit(sample, rows, evidence, (), options, seed).model()


@dataclass(frozen=True)
class MethodFit:
    """What one method says of the sample, for comparisons with others.

    Attributes:
        keys: `identities` of the sample's pairs, ascending, uint64 [n].
        noise_prob: in [0, 1], float32 [n].
        score: higher is cleaner, float32 [n].
        mixture: how the score became a probability.
    """

    keys: Hashes
    noise_prob: Floats
    score: Floats
    mixture: Mixture


def fit_with_rivals(
    sample: NoiseSample, options: NoiseOptions, rivals: Mapping[str, Sequence[SignalName]], seed: int
) -> tuple[NoiseModel, dict[str, MethodFit]]:
    """`fit_noise`, and what other choices of signals would say, each with its paper's mixture.

    The others get their reference pairs, memory bank and cross-fitted space from the last round of this fit, weighted
    by its probabilities: more than any of them has by itself.

    Args:
        sample, options, seed: as for `fit_noise`; the sample is finite and large enough.
        rivals: signals of each method by its name.
    """
    evidence = evidence_of(options.signals, sample.joint_space)
    others = {name: evidence_of(tuple(signals), sample.joint_space) for name, signals in rivals.items()}
    also = tuple(dict.fromkeys(signal for signals in others.values() for signal in signals))
    rows = canonical(sample, np.arange(len(sample.captions)), seed)
    with threadpool_limits(1):
        fit = SampleFit(sample, rows, evidence, also, options, seed)
        model = fit.model()
        return model, {name: fit.method(signals) for name, signals in others.items()}


def canonical(sample: NoiseSample, rows: Rows, seed: int) -> Rows:
    """Rows in the order of their identities' hashes, at most MOST_COPIES of each; equal ones by stratum and row_id."""
    keys = identities([sample.image_sha256[row] for row in rows], [sample.captions[row] for row in rows], seed)
    strata = [""] * len(rows) if sample.strata is None else [sample.strata[row] or "" for row in rows]
    ids = [""] * len(rows) if sample.row_ids is None else [sample.row_ids[row] for row in rows]
    order = np.lexsort((np.array(ids), np.array(strata), keys))
    kept: Rows = rows[order[copy_numbers(keys[order]) < MOST_COPIES]]
    return kept


@dataclass(frozen=True)
class _FoldViews:
    """What one round fits for one fold, and where its own pairs stand in it."""

    cca: Cca
    to_text: KernelRidge
    to_image: KernelRidge
    neighbours_to_text: NeighbourRegression
    neighbours_to_image: NeighbourRegression
    adapter: ResidualAdapter | None
    banks: tuple[Projected, ...]
    agreement: Floats

    @property
    def views(self) -> list[View]:
        return fold_views(
            self.adapter,
            self.cca,
            self.to_text,
            self.to_image,
            self.neighbours_to_text,
            self.neighbours_to_image,
        )


@dataclass(frozen=True)
class _Round:
    """What one round leaves."""

    folds: tuple[FoldModel, ...]
    fusion: Fusion
    scored: Scored
    mixture: Mixture


@dataclass(frozen=True)
class FoldColumns:
    """Standardised columns of a fold: its own pairs, shuffled and hard mismatches; float32 [., f]."""

    own: Floats
    random: Floats
    hard: Floats


class SampleFit:
    """The sample's usable rows in their canonical order, and the steps that share them."""

    def __init__(
        self,
        sample: NoiseSample,
        rows: Rows,
        evidence: tuple[SignalName, ...],
        also: tuple[SignalName, ...],
        options: NoiseOptions,
        seed: int,
    ) -> None:
        self.options, self.seed, self.joint_space, self.evidence_names = options, seed, sample.joint_space, evidence
        pictures = [sample.image_sha256[row] for row in rows]
        self.strata = None if sample.strata is None else np.array([sample.strata[row] for row in rows], dtype=object)
        self.row_ids = None if sample.row_ids is None else [sample.row_ids[row] for row in rows]
        image = sample.image[rows].astype(np.float32, copy=False)
        text = sample.text[rows].astype(np.float32, copy=False)
        self.reducer = fit_reducer(image, text, options.image_dimensions, SKETCH_DIMENSIONS)
        features = self.reducer(image, text)
        self.features = features if self.joint_space else features.without_raw_images()
        picture_hash: Hashes = hash_strings(pictures)
        log.info("finding twins among %d pairs", len(rows))
        self.groups = group_by_picture(features.sketch, picture_hash)
        self.fold = draw_folds(self.groups, options.folds)
        self.trained = training_rows(features.sketch, self.fold, options.folds)
        keys = identities(pictures, [sample.captions[row] for row in rows], seed)
        self.known = KnownRows(keys, self.fold, features.sketch, self.trained)
        self.held_out = [np.nonzero(self.fold == number)[0] for number in range(options.folds)]
        self.referenced = min(options.references, len(rows))
        self.bank = [rows_[rows_ < self.referenced][: options.bank] for rows_ in self.held_out]
        self.shared = self.features.take(slice(0, self.referenced)).rounded()
        self.nulls = [self._nulls(number) for number in range(options.folds)]
        log.info("warming up the memorization heads")
        self.heads = warm_up(self.features.image, self.features.text, options.epochs, seed)
        negatives = self.shared.take(slice(0, options.negatives))
        self.negatives, self.negative_features = project(self.heads, negatives).rounded(), negatives
        self.also = also
        self._lay_out(())
        self.last: Sequence[FoldColumns] = ()

    def _lay_out(self, also: tuple[SignalName, ...]) -> None:
        """The columns of a round. It needs none that is no evidence; the model makes the others, behind these."""
        singles = [name for name in (*self.evidence_names, *also) if name not in (*CROSSFIT, *JOINT_ONLY)]
        self.singles = tuple(dict.fromkeys(singles))
        self.columns = Columns(2 if self.joint_space else 0, CROSSFIT_VIEWS, self.singles)

    def model(self) -> NoiseModel:
        """Run all rounds; the signals that are only to be compared are made in the last."""
        weights: Floats = np.ones(len(self.fold), dtype=np.float32)
        history: list[_Round] = []
        for number in range(self.options.rounds):
            log.info("round %d of %d", number + 1, self.options.rounds)
            self._lay_out(self.also if number == self.options.rounds - 1 else ())
            history.append(self._round(weights, RIDGE_ROWS_WEIGHTED if number else RIDGE_ROWS_UNWEIGHTED))
            noise = history[-1].mixture.posterior(history[-1].scored.observed)
            weights = np.maximum(1 - noise, np.float32(MIN_CLEAN_WEIGHT))
        last = history[-1]
        strata = self._strata(last.scored, last.mixture)
        own = own_strata(strata)
        fitted = Fitted(
            reducer=self.reducer,
            known=self.known,
            sample=self.shared,
            heads=self.heads,
            negatives=self.negatives,
            folds=last.folds,
            fusion=last.fusion,
            evidence=np.array(self._columns_of(self.evidence_names), dtype=np.int32),
            posterior=last.mixture.posterior,
            rank=fit_rank(last.scored.observed),
            strata=tuple(Stratum(strata[name].posterior) for name in own),
        )
        computed = computed_signals(self.evidence_names, self.joint_space)
        others = [name for name in computed if name not in (*self.singles, *CROSSFIT, *JOINT_ONLY)]
        return NoiseModel(
            seed=self.seed,
            fitted=fitted,
            singles=(*self.singles, *others),
            strata=tuple(own),
            diagnostics=self._diagnostics(history, strata),
            row_ids=self._memory_row_ids(last.folds),
        )

    def _memory_row_ids(self, folds: Sequence[FoldModel]) -> tuple[str, ...] | None:
        """Of the sample's rows up to the last that stands in a memory bank."""
        if self.row_ids is None:
            return None
        banks = [fold.published.pairs.rows[fold.published.memory.position] for fold in folds if fold.published]
        return tuple(self.row_ids[: 1 + max((int(rows.max(initial=-1)) for rows in banks), default=-1)])

    def _nulls(self, fold: int) -> tuple[Mismatches, Mismatches]:
        """Mismatches among the bank's pairs, the same in every round.

        Raises:
            InputError: nearly all captions of the bank are the same.
        """
        bank = self.shared.take(self.bank[fold])
        rng = np.random.default_rng([self.seed % 2**63, fold])
        random = random_mismatches(bank, rng)
        if len(random) < MIN_NULL_PAIRS:
            raise InputError(
                f"noise can't tell mismatches: of {len(bank)} pairs nearly all captions say the same, so shuffling "
                f"them leaves {len(random)} mismatched pairs (needed: {MIN_NULL_PAIRS})."
            )
        return random, hard_mismatches(bank, rng)

    def _round(self, weights: Floats, ridge_rows: float) -> _Round:
        """Views of all folds, then reference sets (which need all views), then evidence, fusion and mixture."""
        views = self._for_folds(lambda number: self._fit_views(number, weights, ridge_rows))
        agreement = np.empty(len(self.fold), dtype=np.float32)
        for rows, fold in zip(self.held_out, views, strict=True):
            agreement[rows] = fold.agreement
        fitted = self._for_folds(lambda number: self._fit_fold(number, views[number], weights, agreement))
        self.last = [columns for _, columns in fitted]
        fusion, scored = self._fuse(self.evidence_names)
        mixture = self._mixture(scored, self.evidence_names)
        return _Round(tuple(model for model, _ in fitted), fusion, scored, mixture)

    def method(self, names: tuple[SignalName, ...]) -> MethodFit:
        """What some signals say, with all that the last round left."""
        _, scored = self._fuse(names)
        mixture = self._mixture(scored, names)
        return MethodFit(self.known.key, mixture.posterior(scored.observed), scored.observed, mixture)

    def _fuse(self, names: tuple[SignalName, ...]) -> tuple[Fusion, Scored]:
        """Several signals are fused; of one, the mean of its columns counts."""
        evidence = self._evidence(self._columns_of(names))
        start = sum_of(self._start_columns(names), evidence.observed.shape[1], self.options.folds)
        fusion = fit_fusion(evidence, start) if len(names) > 1 else start
        return fusion, fusion.score(evidence)

    def _columns_of(self, names: tuple[SignalName, ...]) -> list[int]:
        return sorted({column for name in names for column in self.columns.of(name)})

    def _for_folds(self, function: Callable[[int], T]) -> list[T]:
        """One fold after another, or side by side: no fold's result depends on another's."""
        with ThreadPoolExecutor(max_workers=min(self.options.folds, os.cpu_count() or 1)) as pool:
            return list(pool.map(function, range(self.options.folds)))

    def _start_columns(self, names: tuple[SignalName, ...]) -> list[int]:
        """Where fusion starts from: hub-corrected agreement where it is part of the evidence, else all there is.

        The towers' own space goes before what can be learned from the corpus: it has seen more pairs.
        """
        csls = [name for name in (JOINT_ONLY[1], CROSSFIT[1]) if name in names][:1]
        columns = {column for name in csls or names for column in self.columns.heart(name)}
        return [place for place, column in enumerate(self._columns_of(names)) if column in columns]

    def _fit_views(self, fold: int, weights: Floats, ridge_rows: float) -> _FoldViews:
        trained = np.nonzero(self.trained[:, fold])[0]
        training, counted = self.features.take(trained), weights[trained]
        moments = weighted_moments(training.image, training.text, counted)
        neighbour_weights = np.where(self.trained[: self.referenced, fold], weights[: self.referenced], np.float32(0))
        to_text = fit_neighbour_regression(self.shared.image_unit, self.shared.text, neighbour_weights)
        to_image = fit_neighbour_regression(self.shared.text, self.shared.image, neighbour_weights)
        fitted = _FoldViews(
            cca=fit_cca(moments, self.options.dimensions, ridge_rows),
            to_text=fit_kernel_ridge(training.image_unit, training.text, counted, self.options.landmarks),
            to_image=fit_kernel_ridge(training.text, training.image, counted, self.options.landmarks),
            neighbours_to_text=to_text,
            neighbours_to_image=to_image,
            adapter=(
                fit_residual_adapter(training.raw_image, training.caption, counted) if self.joint_space else None
            ),
            banks=(),
            agreement=np.empty(0, dtype=np.float32),
        )
        bank, held_out = self.shared.take(self.bank[fold]), self.features.take(self.held_out[fold])
        return replace(
            fitted,
            banks=tuple(project(view, bank).rounded() for view in fitted.views),
            agreement=project(fitted.views[0], held_out).similarity(),
        )

    def _fit_fold(
        self, fold: int, views: _FoldViews, weights: Floats, agreement: Floats
    ) -> tuple[FoldModel, FoldColumns]:
        """The fold's model, and the columns of its own pairs, of shuffled and of hard mismatches."""
        joint_view = views.views[0]
        neighbours = (
            self._references(fold, joint_view, weights, agreement, self.referenced)
            if "neighbour_disagreement" in self.singles
            else None
        )
        published = self._published(fold, joint_view, weights, agreement)
        evidence = FoldEvidence(
            views=views.views,
            bank=self.shared.take(self.bank[fold]),
            banks=views.banks,
            joint_view=0,
            columns=self.columns,
            heads=self.heads,
            negatives=self.negatives,
            negative_features=self.negative_features,
            sample=self.shared,
            neighbour_set=neighbours,
            published=published,
        )
        random, hard = (evidence.of_mismatches(made) for made in self.nulls[fold])
        mean, spread = self._standard(random)
        model = FoldModel(
            cca=views.cca,
            to_text=views.to_text,
            to_image=views.to_image,
            neighbour_weights=views.neighbours_to_text.weights,
            text_mean=views.neighbours_to_text.target_mean,
            image_mean=views.neighbours_to_image.target_mean,
            adapter=views.adapter,
            bank=self.bank[fold].astype(np.int32),
            banks=views.banks,
            neighbours=neighbours,
            published=published,
            null_mean=mean,
            null_sd=spread,
        )
        own = evidence.of_pairs(self.features.take(self.held_out[fold]))
        return model, FoldColumns(*(model.standardised(columns) for columns in (own, random, hard)))

    def _standard(self, random: Floats) -> tuple[Floats, Floats]:
        """What columns are standardised by. A signal that stands alone stays as it is: pairs are in its order."""
        mean = random.mean(axis=0, dtype=np.float64)
        spread = np.maximum(random.std(axis=0, dtype=np.float64), _SMALLEST_SPREAD)
        alone = [name for name in self.singles if name not in self.evidence_names or len(self.evidence_names) == 1]
        if len(self.evidence_names) == 1 and self.evidence_names[0] not in (*_STANDARDISED, *alone):
            alone += self.evidence_names
        columns = self._columns_of(tuple(alone))
        mean[columns], spread[columns] = 0, 1
        return mean.astype(np.float32), spread.astype(np.float32)

    def _references(self, fold: int, view: View, weights: Floats, agreement: Floats, most: int) -> ReferenceSet:
        """The first training rows of the fold among the shared ones, whatever their weight: cutting costs AUROC."""
        rows = np.nonzero(self.trained[: self.referenced, fold])[0][:most]
        return ReferenceSet(
            rows=rows.astype(np.int32),
            joint=project(view, self.shared.take(rows)).rounded(),
            agreement=agreement[rows],
            weight=weights[rows],
        )

    def _published(self, fold: int, view: View, weights: Floats, agreement: Floats) -> Published:
        pairs = self._references(fold, view, weights, agreement, self.options.published_references)
        references: References = pairs.references(self.shared)
        rng = np.random.default_rng([self.seed % 2**63, fold, 1])
        size = min(self.options.clip_loss_batch, len(pairs.rows))
        clip = self.joint_space
        return Published(
            pairs=pairs,
            memory=negative_impact.fit_memory_bank(
                references, negative_impact.CLIP_TEMPERATURE if clip else negative_impact.CROSSFIT_TEMPERATURE
            ),
            batches=neg_clip_loss.draw_batches(len(pairs.rows), self.options.clip_loss_batches, size, rng),
            boundary=shuffled_boundary(references),
            temperature=neg_clip_loss.CLIP_TEMPERATURE if clip else neg_clip_loss.CROSSFIT_TEMPERATURE,
        )

    def _evidence(self, chosen: list[int]) -> Evidence:
        """Some columns of the last round, of all folds."""
        observed = np.empty((len(self.fold), len(chosen)), dtype=np.float32)
        for rows, columns in zip(self.held_out, self.last, strict=True):
            observed[rows] = columns.own[:, chosen]
        number = [np.full(len(made[0]), fold, dtype=np.int8) for fold, made in enumerate(self.nulls)]
        hard_number = [np.full(len(made[1]), fold, dtype=np.int8) for fold, made in enumerate(self.nulls)]
        return Evidence(
            observed=observed,
            fold=self.fold,
            random=np.concatenate([columns.random[:, chosen] for columns in self.last]),
            random_fold=np.concatenate(number),
            hard=np.concatenate([columns.hard[:, chosen] for columns in self.last]),
            hard_fold=np.concatenate(hard_number),
            hard_source=np.concatenate(
                [bank[hard.text] for bank, (_, hard) in zip(self.bank, self.nulls, strict=True)]
            ),
        )

    def _kind(self, names: tuple[SignalName, ...]) -> tuple[MixtureKind, bool]:
        """Which mixture, and whether it has to pass the guards: a paper's own is taken as published."""
        published = published_mixture(names)
        if self.options.mixture == "default" and published is not None:
            return published, False
        return self.options.mixture, True

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**63, _MIXTURE_STREAM, *stream])

    def _mixture(self, scored: Scored, names: tuple[SignalName, ...]) -> Mixture:
        observed, random, hard = scored.histograms()
        kind, guarded = self._kind(names)
        return fit_mixture(
            observed,
            random,
            kind,
            hard=hard,
            guarded=guarded,
            rng=self._rng(),
            design_effect=design_effect(self.groups),
        )

    def _strata(self, scored: Scored, pooled: Mixture) -> Mapping[str, Mixture]:
        """A mixture for each value of `mixture.by`, where it has enough pairs; shuffled pairs are those of all."""
        if self.strata is None:
            return {}
        observed, random, hard = scored.histograms()
        names = sorted({name for name in self.strata.tolist() if name is not None})
        scores = {
            name: Histogram.of(scored.observed[self.strata == name], observed.lowest, observed.highest)
            for name in names
        }
        kind, guarded = self._kind(self.evidence_names)
        return fit_strata(
            pooled,
            scores,
            random,
            kind,
            hard=hard,
            guarded=guarded,
            rng=self._rng(1),
            minimum=self.options.stratum_pairs,
            design_effect=design_effect(self.groups),
        )

    def _diagnostics(self, history: Sequence[_Round], strata: Mapping[str, Mixture]) -> dict[str, object]:
        """JSON-able figures of the last mixture and of the folds."""
        sizes = np.bincount(self.groups)
        own = {name: mixture.diagnostics() for name, mixture in strata.items()}
        return {
            **history[-1].mixture.diagnostics(),
            **({"strata": own} if own else {}),
            "score": ", ".join(self.evidence_names),
            "signals": list(self.evidence_names),
            "joint_space": "the towers' own" if self.joint_space else "cross-fitted CCA",
            "noise_share_per_round": [each.mixture.noise_share for each in history],
            "picture_groups": len(sizes),
            "largest_picture_group": int(sizes.max()),
            "fold_sizes": np.bincount(self.fold, minlength=self.options.folds).tolist(),
            "training_rows": self.trained.sum(axis=0).tolist(),
            "options": asdict(self.options),
        }


def own_strata(strata: Mapping[str, Mixture]) -> list[str]:
    """Names of the strata whose mixture is fitted to their own scores."""
    return [name for name, mixture in strata.items() if mixture.stratum and mixture.stratum.fit == "own"]


def training_rows(sketch: Floats, fold: Folds, folds: int) -> Bools:
    """Which rows each fold's model may be trained on: rows of other folds that have no twin in it. bool [n, folds].

    Raises:
        NothingToLearnError: a fold holds fewer than 10 rows, or leaves fewer than 50 to train on.
    """
    trained: Bools = (fold[:, None] != np.arange(folds)) & ~folds_with_twins(sketch, fold, folds)
    held_out, training = int(np.bincount(fold, minlength=folds).min()), int(trained.sum(axis=0).min())
    if held_out < MIN_HELD_OUT_ROWS or training < MIN_TRAINING_ROWS:
        raise NothingToLearnError(
            f"pictures can't be held out in {folds} folds: too few, or too many pairs show the same picture, so that "
            f"a model would train on {training} pairs (needed: {MIN_TRAINING_ROWS}) or judge {held_out} (needed: "
            f"{MIN_HELD_OUT_ROWS}). Add inputs, or remove duplicate pictures."
        )
    return trained
