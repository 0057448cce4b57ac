"""What refinement leaves: for every round the heads of each fold, and how scores become probabilities then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from curate.noise.agreement import Projected, project
from curate.noise.arrays import Arrays, pack, unpack
from curate.noise.evidence import Columns, FoldEvidence, Published, ReferenceSet
from curate.noise.features import Features
from curate.noise.fusion import Fusion
from curate.noise.heads import RefinedHeads
from curate.noise.mixture import Posterior
from curate.noise.model import CROSSFIT_VIEWS, Folds, NoiseModel, Positions, Stratum, is_decided, stratified
from curate.noise.rank import Rank
from curate.noise.signals import CROSSFIT, JOINT_ONLY, SignalName
from curate.noise.similarity import Floats

ARRAYS_FILE = "refine.safetensors"
META_FILE = "refine.json"
# What NPC's hint for trainers rests on.
WEIGHED_BY: SignalName = "negative_impact"


@dataclass(frozen=True)
class RefinedFold:
    """What a round adds to the model of one fold; nothing in it was trained on the fold's pairs.

    Attributes:
        heads: trained on the trusted pairs of the other folds.
        bank: the fold's bank in their space.
        neighbours, published: reference pairs in their space, where signals need them.
        null_mean, null_sd: over shuffled pairs, of the views' columns and of the singles that are evidence, float32.
    """

    heads: RefinedHeads
    bank: Projected
    neighbours: ReferenceSet | None
    published: Published | None
    null_mean: Floats
    null_sd: Floats

    def standardised(self, columns: Floats) -> Floats:
        """See `FoldModel`."""
        return (columns[:, : len(self.null_mean)] - self.null_mean) / self.null_sd


@dataclass(frozen=True)
class RefinedRound:
    """One round.

    Attributes:
        folds: one for each.
        fusion: evidence -> score.
        evidence: which columns noise_prob is made of, int32.
        posterior, rank, strata: as in `noise.model.Fitted`.
    """

    folds: tuple[RefinedFold, ...]
    fusion: Fusion
    evidence: Positions
    posterior: Posterior
    rank: Rank
    strata: tuple[Stratum, ...]


@dataclass(frozen=True)
class RefinedScores:
    """What is known of every row.

    Attributes:
        noise_prob: after each round, float32 [rounds, n].
        noise_rank: likewise, float32 [rounds, n].
        negative_impact: under the last round's heads, see `noise.negative_impact`, float32 [n].
    """

    noise_prob: Floats
    noise_rank: Floats
    negative_impact: Floats


@dataclass(frozen=True)
class _Rounds:
    rounds: tuple[RefinedRound, ...]


@dataclass(frozen=True)
class RefinedModel:
    """A noise model and the rounds that go on from it. The bytes depend on sample, options and seed alone.

    Attributes:
        noise: the model that is refined; stored by itself.
        rounds: none where there was nothing to learn from.
        evidence: the signals that noise_prob is made of.
        strata: names of the strata of each round that have a posterior of their own.
        diagnostics: JSON-able figures of every round.
    """

    noise: NoiseModel
    rounds: tuple[RefinedRound, ...]
    evidence: tuple[SignalName, ...]
    strata: tuple[tuple[str, ...], ...]
    diagnostics: dict[str, Any]

    @property
    def decided(self) -> bool:
        """Whether right captions could be told from wrong ones in the last round."""
        if not self.rounds:
            return self.noise.decided
        return is_decided(self.diagnostics["rounds"][-1]["mixture"], self.strata[-1])

    def score(
        self, fold: Folds, image: Floats, text: Floats, strata: Sequence[str | None] | None = None
    ) -> RefinedScores:
        """Score pairs by a model that has rounds; a row's result depends on the row and this model alone.

        Args:
            fold: the fold that the noise model scored each pair in, int8 [n].
            image, text: finite embeddings, float32 or float16 [n, dv], [n, dt].
            strata: values of the column `mixture.by`; None: all pairs share one posterior.
        """
        with threadpool_limits(1):
            features = self.noise.fitted.reducer(image.astype(np.float32), text.astype(np.float32))
            scores = np.empty((len(self.rounds), len(fold)), dtype=np.float32)
            impact = np.empty(len(fold), dtype=np.float32)
            for number in range(len(self.noise.fitted.folds)):
                rows = np.nonzero(fold == number)[0]
                if len(rows):
                    scores[:, rows], impact[rows] = self._of_fold(number, features.take(rows))
        made = list(zip(self.rounds, scores, self.strata, strict=True))
        probability = [stratified(each.posterior, names, each.strata, score, strata) for each, score, names in made]
        rank = [each.rank(score) for each, score, _ in made]
        return RefinedScores(np.stack(probability), np.stack(rank), impact)

    def _of_fold(self, number: int, features: Features) -> tuple[Floats, Floats]:
        """Score of each round, float32 [rounds, n], and the negative impact in the last, [n]."""
        layout = refined_columns(self.evidence, self.noise.joint_space)
        before = self._before[number].of_pairs(features) if layout.views > 1 else _nothing(len(features))
        scores = []
        for held, evidence in zip(self.rounds, self._evidence[number], strict=True):
            made = np.column_stack([before, evidence.of_pairs(features)])
            standard = held.folds[number].standardised(made)
            scores.append(held.fusion(standard[:, held.evidence], number))
        last = refined_columns(self.evidence, self.noise.joint_space, WEIGHED_BY)
        impact = made[:, last.of(WEIGHED_BY)[0]]
        return np.stack(scores), np.ascontiguousarray(impact)

    @cached_property
    def _before(self) -> list[FoldEvidence]:
        return [views_evidence(self.noise, number) for number in range(len(self.noise.fitted.folds))]

    @cached_property
    def _evidence(self) -> list[list[FoldEvidence]]:
        """For each fold, of each round; only the last needs what the hint for trainers rests on."""
        last = len(self.rounds) - 1
        layouts = [
            refined_columns(self.evidence, self.noise.joint_space, *((WEIGHED_BY,) if number == last else ()))
            for number in range(len(self.rounds))
        ]
        return [
            [
                heads_evidence(self.noise, number, held.folds[number], layout.singles)
                for held, layout in zip(self.rounds, layouts, strict=True)
            ]
            for number in range(len(self.noise.fitted.folds))
        ]

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content, without the noise model. Equal models give equal bytes."""
        from safetensors.numpy import save

        meta = {
            "evidence": list(self.evidence),
            "strata": [list(names) for names in self.strata],
            "diagnostics": self.diagnostics,
        }
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
        return {ARRAYS_FILE: save(pack(_Rounds(self.rounds))), META_FILE: text.encode()}

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes], noise: NoiseModel) -> RefinedModel:
        """The model that `to_bytes` wrote, exactly."""
        from safetensors.numpy import load

        meta = json.loads(files[META_FILE])
        arrays: Arrays = load(files[ARRAYS_FILE])
        return cls(
            noise=noise,
            rounds=unpack(_Rounds, arrays).rounds,
            evidence=tuple(meta["evidence"]),
            strata=tuple(tuple(names) for names in meta["strata"]),
            diagnostics=meta["diagnostics"],
        )


def refined_columns(evidence: Sequence[SignalName], joint_space: bool, *more: SignalName) -> Columns:
    """Layout of a round's evidence: the noise model's views, the heads, the published signals, those of `more` last.

    Where noise_prob is one signal alone, the noise model's views have no say in it.
    """
    alone = len(evidence) == 1
    singles = [name for name in (*evidence, *more) if name not in (*JOINT_ONLY, *CROSSFIT)]
    views = (0, 0) if alone else (2 if joint_space else 0, CROSSFIT_VIEWS)
    return Columns(*views, tuple(dict.fromkeys(singles)), refined_views=1)


def in_the_heads_space(columns: Columns, names: Sequence[SignalName]) -> tuple[SignalName, ...]:
    """Signals by the names that their columns go by: where the heads are the only view they stand for the towers."""
    if columns.views > columns.refined_views:
        return tuple(names)
    return tuple(CROSSFIT[JOINT_ONLY.index(name)] if name in JOINT_ONLY else name for name in names)


def views_evidence(noise: NoiseModel, number: int) -> FoldEvidence:
    """The columns of a noise model's views alone, without published signals."""
    fitted, fold = noise.fitted, noise.fitted.folds[number]
    return FoldEvidence(
        views=fold.views(fitted.sample),
        bank=fitted.sample.take(fold.bank.astype(np.intp)),
        banks=fold.banks,
        joint_view=0,
        columns=Columns(2 if noise.joint_space else 0, CROSSFIT_VIEWS, ()),
        heads=fitted.heads,
        negatives=fitted.negatives,
        negative_features=_negatives(noise),
        sample=fitted.sample,
        neighbour_set=None,
        published=None,
    )


def heads_evidence(noise: NoiseModel, number: int, fold: RefinedFold, singles: tuple[SignalName, ...]) -> FoldEvidence:
    """The columns of a round's heads, and published signals in their space: the heads stand for the towers."""
    sample, negatives = noise.fitted.sample, _negatives(noise)
    return FoldEvidence(
        views=[fold.heads],
        bank=sample.take(noise.fitted.folds[number].bank.astype(np.intp)),
        banks=[fold.bank],
        joint_view=0,
        columns=Columns(0, 0, singles, refined_views=1),
        heads=fold.heads,
        negatives=project(fold.heads, negatives).rounded(),
        negative_features=negatives,
        sample=sample,
        neighbour_set=fold.neighbours,
        published=fold.published,
    )


def _negatives(noise: NoiseModel) -> Features:
    """The fixed pairs that `itc_loss` contrasts with."""
    return noise.fitted.sample.take(slice(0, len(noise.fitted.negatives.image)))


def _nothing(rows: int) -> Floats:
    return np.empty((rows, 0), dtype=np.float32)
