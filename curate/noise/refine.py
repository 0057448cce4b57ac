"""Refinement: rounds of learning from the trusted pairs, scoring all pairs again and splitting them again.

The outer loop of NLIP, NPC and DSDMR, offline and cross-fitted: heads of each fold are trained on what the last round
trusted in the other folds, and are one more view in the evidence. All pairs are scored in every round, so that one
that was rejected early can come back.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from curate.errors import CurateError
from curate.noise.agreement import project
from curate.noise.evidence import BY_REFERENCES
from curate.noise.features import Features
from curate.noise.fit import (
    MIN_TRAINING_ROWS,
    FoldColumns,
    NoiseOptions,
    NoiseSample,
    Rows,
    SampleFit,
    canonical,
    own_strata,
)
from curate.noise.fusion import MIN_CLEAN_WEIGHT, Fusion, Scored
from curate.noise.heads import (
    HeadOptions,
    RefinedHeads,
    TrustedPairs,
    heads_from_cca,
    heads_from_joint_space,
    torch_threads_restored,
    train_heads,
)
from curate.noise.mixture import Mixture
from curate.noise.model import NoiseModel, Stratum, stratified
from curate.noise.negative_impact import confidence_weight
from curate.noise.rank import fit_rank
from curate.noise.refined import (
    WEIGHED_BY,
    RefinedFold,
    RefinedModel,
    RefinedRound,
    heads_evidence,
    in_the_heads_space,
    refined_columns,
    views_evidence,
)
from curate.noise.signals import SignalName, evidence_of
from curate.noise.similarity import Floats, have_direction

log = logging.getLogger(__name__)

# Streams of random numbers beside those of the noise fit.
_HEADS_STREAM = 1 << 21


@dataclass(frozen=True)
class RefineOptions:
    """How the rounds go.

    Attributes:
        heads: what is trained in each, and how.
        rounds: at most so many.
        settled: they end when a smaller share of the pairs enters or leaves the trusted ones.
        trusted_below: pairs with a lower noise_prob are learned from.
    """

    heads: HeadOptions
    rounds: int = 3
    settled: float = 0.005
    trusted_below: float = 0.5


def refine_noise(
    sample: NoiseSample, noise: NoiseModel, options: NoiseOptions, refine: RefineOptions, seed: int
) -> RefinedModel:
    """Go on from a noise model. Bytes depend on sample, options and seed alone, not on row order or cores.

    A round: heads of each fold on the trusted pairs of the others, their columns of all pairs and of mismatches made
    on purpose, fusion, mixture. The noise model's own views stay as they are. Where noise_prob rests on one published
    signal, a round makes that signal anew in the heads' space, and it alone decides, by its paper's mixture.

    Args:
        sample, options, seed: those that `noise` was fitted with.
        noise: what `fit_noise` made of them.
        refine: see `RefineOptions`.

    Rounds end when they are done, when hardly a pair enters or leaves the trusted ones, or when too few are trusted to
    learn from (then there may be none at all): `diagnostics["ended"]` says which.

    Raises:
        CurateError: the noise model is of another sample.
    """
    evidence = evidence_of(options.signals, sample.joint_space)
    comparable = have_direction(sample.image) & have_direction(sample.text)
    rows = canonical(sample, np.nonzero(comparable)[0], seed)
    with threadpool_limits(1), torch_threads_restored():
        return _Refinement(sample, rows, noise, evidence, options, refine, seed).refined()


@dataclass(frozen=True)
class _Believed:
    """What is believed of the sample's pairs before a round: noise_prob and NPC's weight, float32 [n]."""

    noise_prob: Floats
    weight: Floats


@dataclass(frozen=True)
class _Refined:
    """What one round leaves.

    Attributes:
        trust, agreement: of every pair as a reference of others: how far it was believed before the round, and its
            own similarity by heads that never saw it, float32 [n].
        impact: negative impact of every pair, float32 [n]; None where nothing asks for it.
    """

    trust: Floats
    agreement: Floats
    folds: tuple[RefinedFold, ...]
    fusion: Fusion
    scored: Scored
    mixture: Mixture
    strata: Mapping[str, Mixture]
    impact: Floats | None


@dataclass(frozen=True)
class _Moves:
    """How many pairs are trusted after a round, how many of them were not before, and how many are no longer."""

    trusted: int
    entered: int
    left: int
    pairs: int

    @property
    def changed(self) -> float:
        """Share of the pairs that entered or left."""
        return (self.entered + self.left) / self.pairs


@dataclass(frozen=True)
class _FoldRound:
    """What a round adds to a fold, all columns of its pairs and mismatches, and the negative impact of its pairs."""

    fold: RefinedFold
    columns: FoldColumns
    impact: Floats


class _Refinement(SampleFit):
    """The noise fit's sample, what its views say of it, and the rounds."""

    def __init__(
        self,
        sample: NoiseSample,
        rows: Rows,
        noise: NoiseModel,
        evidence: tuple[SignalName, ...],
        options: NoiseOptions,
        refine: RefineOptions,
        seed: int,
    ) -> None:
        super().__init__(sample, rows, evidence, (), options, seed)
        if not np.array_equal(self.known.key, noise.fitted.known.key):
            raise CurateError("refine: the noise model was fitted on other pairs than the run has now; fit it again")
        self.noise, self.refine = noise, refine
        needed: tuple[SignalName, ...] = (WEIGHED_BY,) if refine.heads.loss == "npc" else ()
        self.columns = refined_columns(evidence, self.joint_space, *needed)
        self.singles = self.columns.singles
        self.before = self._for_folds(self._views_columns)

    def refined(self) -> RefinedModel:
        """Round after round, until hardly a pair enters or leaves the trusted ones."""
        believed, history = self._noise_model_says(), list[_Refined]()
        moves: list[_Moves] = []
        ended = None
        while ended is None:
            fewest = min(len(self._trusted(fold, believed)) for fold in range(self.options.folds))
            if fewest < MIN_TRAINING_ROWS:
                ended = f"too few trusted pairs: {fewest} beside one of the folds, needed: {MIN_TRAINING_ROWS}"
                break
            log.info("round %d of at most %d", len(history) + 1, self.refine.rounds)
            history.append(self._refined(believed, len(history)))
            after = self._believed(history[-1], believed)
            moves.append(self._moves(believed, after))
            believed, ended = after, self._ended(moves)
        return RefinedModel(
            noise=self.noise,
            rounds=tuple(self._kept(each, last=each is history[-1]) for each in history),
            evidence=self.evidence_names,
            strata=tuple(tuple(own_strata(each.strata)) for each in history),
            diagnostics=self._round_diagnostics(history, moves, ended),
        )

    def _columns_of(self, names: tuple[SignalName, ...]) -> list[int]:
        return super()._columns_of(in_the_heads_space(self.columns, names))

    def _start_columns(self, names: tuple[SignalName, ...]) -> list[int]:
        return super()._start_columns(in_the_heads_space(self.columns, names))

    def _views_columns(self, number: int) -> FoldColumns:
        """The noise model's views: they are the same in every round."""
        if self.columns.views == self.columns.refined_views:
            sizes = (len(self.held_out[number]), *(len(mismatches) for mismatches in self.nulls[number]))
            return FoldColumns(*(np.empty((size, 0), dtype=np.float32) for size in sizes))
        evidence = views_evidence(self.noise, number)
        random, hard = (evidence.of_mismatches(mismatches) for mismatches in self.nulls[number])
        return FoldColumns(evidence.of_pairs(self.features.take(self.held_out[number])), random, hard)

    def _noise_model_says(self) -> _Believed:
        fitted, place = self.noise.fitted, self.noise.columns.of(WEIGHED_BY)[0]
        evidence = self.noise.fold_evidence
        raw = self._for_folds(lambda number: evidence[number].of_pairs(self._own_features(number)))
        scores = [
            fitted.fusion(fold.standardised(made)[:, fitted.evidence], number)
            for number, (fold, made) in enumerate(zip(fitted.folds, raw, strict=True))
        ]
        impact = self._in_order([made[:, place] for made in raw])
        return _Believed(self.noise.probability(self._in_order(scores), self._values()), confidence_weight(impact))

    def _own_features(self, number: int) -> Features:
        return self.features.take(self.held_out[number])

    def _values(self) -> list[str | None] | None:
        return None if self.strata is None else self.strata.tolist()

    def _refined(self, believed: _Believed, number: int) -> _Refined:
        heads = self._for_folds(lambda fold: self._trained(fold, believed, number))
        agreement = self._in_order(
            [project(each, self._own_features(fold)).similarity() for fold, each in enumerate(heads)]
        )
        trust = np.maximum(1 - believed.noise_prob, np.float32(MIN_CLEAN_WEIGHT))
        made = self._for_folds(lambda fold: self._refined_fold(fold, heads[fold], trust, agreement))
        self.last = [each.columns for each in made]
        fusion, scored = self._fuse(self.evidence_names)
        mixture = self._mixture(scored, self.evidence_names)
        impact = self._in_order([each.impact for each in made]) if WEIGHED_BY in self.singles else None
        folds = tuple(each.fold for each in made)
        return _Refined(trust, agreement, folds, fusion, scored, mixture, self._strata(scored, mixture), impact)

    def _in_order(self, of_folds: Sequence[Floats]) -> Floats:
        """Values of each fold's own pairs as values of all, float32 [n]."""
        values = np.empty(len(self.fold), dtype=np.float32)
        for rows, own in zip(self.held_out, of_folds, strict=True):
            values[rows] = own
        return values

    def _trusted(self, fold: int, believed: _Believed) -> Rows:
        """The pairs that a fold's heads are trained on."""
        return np.nonzero(self.trained[:, fold] & (believed.noise_prob < self.refine.trusted_below))[0]

    def _trained(self, fold: int, believed: _Believed, number: int) -> RefinedHeads:
        """Heads that saw no pair of the fold, nor a twin of one."""
        rows = self._trusted(fold, believed)
        model = self.noise.fitted.folds[fold]
        start = heads_from_cca(model.cca) if model.adapter is None else heads_from_joint_space(model.adapter)
        pairs = TrustedPairs(self.features.take(rows), believed.noise_prob[rows], believed.weight[rows])
        return train_heads(start, pairs, self.refine.heads, [self.seed % 2**63, _HEADS_STREAM, number, fold])

    def _refined_fold(self, number: int, heads: RefinedHeads, trust: Floats, agreement: Floats) -> _FoldRound:
        neighbours, published = "neighbour_disagreement" in self.singles, set(self.singles) & set(BY_REFERENCES)
        fold = RefinedFold(
            heads=heads,
            bank=project(heads, self.shared.take(self.bank[number])).rounded(),
            neighbours=self._references(number, heads, trust, agreement, self.referenced) if neighbours else None,
            published=self._published(number, heads, trust, agreement) if published else None,
            null_mean=np.empty(0, dtype=np.float32),
            null_sd=np.empty(0, dtype=np.float32),
        )
        evidence, before = heads_evidence(self.noise, number, fold, self.singles), self.before[number]
        random, hard = (evidence.of_mismatches(mismatches) for mismatches in self.nulls[number])
        made = (
            np.column_stack([before.own, evidence.of_pairs(self._own_features(number))]),
            np.column_stack([before.random, random]),
            np.column_stack([before.hard, hard]),
        )
        mean, spread = self._standard(made[1])
        fold = replace(fold, null_mean=mean, null_sd=spread)
        impact = made[0][:, self.columns.of(WEIGHED_BY)[0]] if WEIGHED_BY in self.singles else mean[:0]
        return _FoldRound(fold, FoldColumns(*(fold.standardised(columns) for columns in made)), impact)

    def _believed(self, after: _Refined, before: _Believed) -> _Believed:
        names = own_strata(after.strata)
        own = [Stratum(after.strata[name].posterior) for name in names]
        scores = after.scored.observed
        probability = stratified(after.mixture.posterior, names, own, scores, self._values())
        return _Believed(probability, before.weight if after.impact is None else confidence_weight(after.impact))

    def _moves(self, before: _Believed, after: _Believed) -> _Moves:
        was, now = (each.noise_prob < self.refine.trusted_below for each in (before, after))
        return _Moves(int(now.sum()), int((now & ~was).sum()), int((was & ~now).sum()), len(now))

    def _ended(self, moves: Sequence[_Moves]) -> str | None:
        """Why there is no further round, None if there is."""
        if moves[-1].changed < self.refine.settled:
            return "settled"
        return "all rounds done" if len(moves) == self.refine.rounds else None

    def _kept(self, each: _Refined, last: bool) -> RefinedRound:
        """What is needed to score with a round: the last needs the reference pairs that the hint `weight` rests on."""
        keeps = last or bool(set(self.evidence_names) & set(BY_REFERENCES))
        return RefinedRound(
            folds=tuple(self._kept_fold(number, fold, each, keeps) for number, fold in enumerate(each.folds)),
            fusion=each.fusion,
            evidence=np.array(self._columns_of(self.evidence_names), dtype=np.int32),
            posterior=each.mixture.posterior,
            rank=fit_rank(each.scored.observed),
            strata=tuple(Stratum(each.strata[name].posterior) for name in own_strata(each.strata)),
        )

    def _kept_fold(self, number: int, fold: RefinedFold, each: _Refined, keeps: bool) -> RefinedFold:
        count = refined_columns(self.evidence_names, self.joint_space).count
        published = (
            fold.published or self._published(number, fold.heads, each.trust, each.agreement) if keeps else None
        )
        return replace(fold, published=published, null_mean=fold.null_mean[:count], null_sd=fold.null_sd[:count])

    def _round_diagnostics(
        self, history: Sequence[_Refined], moves: Sequence[_Moves], ended: str
    ) -> dict[str, object]:
        """JSON-able figures of every round: its mixture, and how many pairs entered and left the trusted ones."""
        rounds = [
            {
                "round": number,
                "trusted": moved.trusted,
                "entered": moved.entered,
                "left": moved.left,
                "changed": moved.changed,
                "mixture": each.mixture.diagnostics(),
                **({"strata": {name: own.diagnostics() for name, own in each.strata.items()}} if each.strata else {}),
            }
            for number, (each, moved) in enumerate(zip(history, moves, strict=True), start=1)
        ]
        return {
            "pairs": len(self.fold),
            "score": ", ".join(self.evidence_names),
            "ended": ended,
            "rounds": rounds,
            "options": asdict(self.refine),
        }
