"""The fit: a bounded sample of pairs in, everything that later scores a pair out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from curate.errors import InputError
from curate.noise.crossfit import (
    RIDGE_ROWS_UNWEIGHTED,
    RIDGE_ROWS_WEIGHTED,
    FoldModel,
    Reducer,
    Rows,
    fit_projection,
    fit_reducer,
    mean_of_unit_rows,
    row_blocks,
    weighted_moments,
)
from curate.noise.grouping import (
    SKETCH_DIMENSIONS,
    Hashes,
    Sketch,
    draw_folds,
    folds_with_twins,
    group_by_picture,
    hash_strings,
    leading_directions,
)
from curate.noise.memorization import Heads, warm_up
from curate.noise.mixture import Mixture, MixtureKind, fit_mixture
from curate.noise.model import Folds, KnownRows, NoiseModel, joint_pairs, sketches
from curate.noise.similarity import (
    Bools,
    Floats,
    HubCorrection,
    Pairs,
    centred_unit_rows,
    fit_hub_correction,
)

MIN_TRAINING_ROWS = 50
MIN_HELD_OUT_ROWS = 10
MIN_CLEAN_WEIGHT = 0.02


@dataclass(frozen=True)
class NoiseSample:
    """Usable pairs, at most a few ten thousand, in any order.

    Attributes:
        row_ids: unique.
        image, text: L2-normalised embeddings, float16 or float32 [n, dv], [n, dt].
        image_hash: `grouping.hash_strings` of the pictures' checksums, uint64 [n].
        joint_space: whether the towers were trained together (CLIP).
    """

    row_ids: Sequence[str]
    image: Floats
    text: Floats
    image_hash: Hashes
    joint_space: bool


@dataclass(frozen=True)
class NoiseOptions:
    """What can be chosen. One set of defaults for all corpora, chosen by measurement.

    Attributes:
        folds: cross-fitting folds.
        rounds: the second refits with weights max(1 - noise_prob, .02); more add nothing. The weights of a fold's
            training rows come from models that had seen that fold; no row is ever scored by a model fitted to it.
        mixture: how scores become probabilities, see `mixture.fit_mixture`.
        bank: held-out pairs per fold that scores are corrected with.
        neighbours: of the hub correction.
        image_dimensions: PCA before CCA.
        dimensions: canonical directions.
        epochs: warm-up of the memorization heads; the right number differs by corpus.
        negatives: fixed pairs the memorization loss contrasts with.
        min_pairs: below this a fit is refused.
    """

    folds: int = 5
    rounds: int = 2
    mixture: MixtureKind = "default"
    bank: int = 2000
    neighbours: int = 10
    image_dimensions: int = 384
    dimensions: int = 128
    epochs: int = 3
    negatives: int = 1024
    min_pairs: int = 100


def fit_noise(sample: NoiseSample, options: NoiseOptions, seed: int) -> NoiseModel:
    """Fit all noise models on a sample. One thread; bytes depend on sample, options and seed alone, not on row order.

    Steps: order by seeded hash of row_id; fingerprints and groups of pictures; folds; memorization heads; `rounds` of
    cross-fitted CCA, shuffled null and mixture. O(n^2 s) for the twins, O(n dv^2) for the rest; memory O(n dv).

    Raises:
        InputError: too few pairs, or too few different pictures, to hold any out.
    """
    rows = np.nonzero(np.isfinite(sample.image).all(axis=1) & np.isfinite(sample.text).all(axis=1))[0]
    if len(rows) < options.min_pairs:
        raise InputError(
            f"noise needs at least {options.min_pairs} usable pairs; this input has {len(rows)}. "
            "Add inputs, or leave out the noise stage."
        )
    with threadpool_limits(1):
        return _Fit(sample, rows, options, seed).model()


class _Fit:
    """The sample's usable rows in their canonical order, and the steps that share them."""

    def __init__(self, sample: NoiseSample, rows: Rows, options: NoiseOptions, seed: int) -> None:
        self.options, self.seed, self.joint_space = options, seed, sample.joint_space
        keys = hash_strings((sample.row_ids[row] for row in rows), seed)
        by_key = np.argsort(keys, kind="stable")
        order = rows[by_key]
        self.image: Floats = sample.image[order].astype(np.float32, copy=False)
        self.text: Floats = sample.text[order].astype(np.float32, copy=False)
        self.sketcher = fit_sketch(self.image)
        self.sketch = sketches(self.sketcher, self.image)
        self.groups = group_by_picture(self.sketch, sample.image_hash[order])
        self.fold = draw_folds(self.groups, options.folds)
        self.trained = training_rows(self.sketch, self.fold, options.folds)
        self.known = KnownRows(keys[by_key], sample.image_hash[order], self.fold, self.sketch, self.trained)

    def model(self) -> NoiseModel:
        """Run all steps."""
        heads = self.heads()
        joint = self.joint() if self.joint_space else None
        weights: Floats = np.ones(len(self.fold), dtype=np.float32)
        reducers = [
            fit_reducer(self.image, self.text, rows, self.options.image_dimensions) for rows in self.training()
        ]
        history: list[Mixture] = []
        for round_number in range(self.options.rounds):
            ridge_rows = RIDGE_ROWS_WEIGHTED if round_number else RIDGE_ROWS_UNWEIGHTED
            models, scores, null = self.crossfit(reducers, weights, ridge_rows)
            if joint is not None:
                _, scores, null = joint
            history.append(fit_mixture(scores, null, self.options.mixture))
            weights = np.maximum(1 - history[-1].posterior(scores), np.float32(MIN_CLEAN_WEIGHT))
        return NoiseModel(
            seed=self.seed,
            sketch=self.sketcher,
            known=self.known,
            folds=models,
            heads=heads,
            joint=None if joint is None else joint[0],
            posterior=history[-1].posterior,
            diagnostics=self.diagnostics(history),
        )

    def training(self) -> list[Rows]:
        """Rows each fold's model is trained on."""
        return [np.nonzero(self.trained[:, fold])[0] for fold in range(self.options.folds)]

    def heads(self) -> Heads:
        """Heads warmed up on the whole sample, with the first rows (a seeded draw) as negatives."""
        rows = np.arange(len(self.fold))
        image_mean, text_mean = mean_of_unit_rows(self.image, rows), mean_of_unit_rows(self.text, rows)
        maps = warm_up(self.image, self.text, image_mean, text_mean, self.options.epochs, self.seed)
        heads = Heads(image_mean, text_mean, *maps, negatives=_no_pairs())
        first = slice(0, self.options.negatives)
        negatives = heads.pairs(self.image[first], self.text[first], self.sketch[first])
        return replace(heads, negatives=negatives.rounded())

    def joint(self) -> tuple[HubCorrection, Floats, Floats]:
        """Hub correction in the towers' own space; scores of the sample and of shuffled pairs."""
        pairs = joint_pairs(self.image, self.text, self.sketch)
        correction, null = self.correction(pairs, stream=self.options.folds)
        return correction, correction(pairs), null

    def correction(self, pairs: Pairs, stream: int) -> tuple[HubCorrection, Floats]:
        """Bank and null scores from held-out pairs; each stream of random numbers belongs to one fold."""
        rng = np.random.default_rng([self.seed % 2**63, stream])
        return fit_hub_correction(pairs, self.options.bank, self.options.neighbours, rng)

    def crossfit(
        self, reducers: list[Reducer], weights: Floats, ridge_rows: float
    ) -> tuple[tuple[FoldModel, ...], Floats, Floats]:
        """One round: a model per fold, each row's score by the model that never saw it, the null's scores."""
        scores: Floats = np.empty(len(self.fold), dtype=np.float32)
        models, nulls = [], []
        for number, (rows, reducer) in enumerate(zip(self.training(), reducers, strict=True)):
            moments = weighted_moments(self.image, self.text, rows, weights, reducer)
            projection = fit_projection(moments, reducer, self.options.dimensions, ridge_rows)
            held_out = np.nonzero(self.fold == number)[0]
            pairs = projection.pairs(self.image[held_out], self.text[held_out], self.sketch[held_out])
            correction, null = self.correction(pairs, stream=number)
            scores[held_out] = correction(pairs)
            nulls.append(null)
            models.append(FoldModel(projection, correction))
        return tuple(models), scores, np.concatenate(nulls)

    def diagnostics(self, history: list[Mixture]) -> dict[str, object]:
        """JSON-able figures of the last mixture and of the folds."""
        sizes = np.bincount(self.groups)
        return {
            **history[-1].diagnostics(),
            "score": "clip_csls" if self.joint_space else "crossfit_csls",
            "noise_share_per_round": [mixture.noise_share for mixture in history],
            "picture_groups": len(sizes),
            "largest_picture_group": int(sizes.max()),
            "fold_sizes": np.bincount(self.fold, minlength=self.options.folds).tolist(),
            "training_rows": self.trained.sum(axis=0).tolist(),
            "options": asdict(self.options),
        }


def fit_sketch(image: Floats) -> Sketch:
    """Mean and leading principal directions of the centred unit features. O(n dv^2 + dv^3)."""
    rows = np.arange(len(image))
    mean = mean_of_unit_rows(image, rows)
    second = np.zeros((image.shape[1], image.shape[1]))
    for block in row_blocks(rows):
        features = centred_unit_rows(image[block], mean)
        second += features.T @ features
    return Sketch(mean, leading_directions(second, min(SKETCH_DIMENSIONS, image.shape[1])).astype(np.float32))


def training_rows(sketch: Floats, fold: Folds, folds: int) -> Bools:
    """Which rows each fold's model may be trained on: rows of other folds that have no twin in it. bool [n, folds].

    Raises:
        InputError: a fold holds fewer than 10 rows, or leaves fewer than 50 to train on.
    """
    trained: Bools = (fold[:, None] != np.arange(folds)) & ~folds_with_twins(sketch, fold, folds)
    held_out, training = int(np.bincount(fold, minlength=folds).min()), int(trained.sum(axis=0).min())
    if held_out < MIN_HELD_OUT_ROWS or training < MIN_TRAINING_ROWS:
        raise InputError(
            f"noise can't hold out pictures in {folds} folds: too many pairs show the same picture, so that a model "
            f"would train on {training} pairs (needed: {MIN_TRAINING_ROWS}) or judge {held_out} "
            f"(needed: {MIN_HELD_OUT_ROWS}). Remove duplicate pictures first."
        )
    return trained


def _no_pairs() -> Pairs:
    empty = np.empty((0, 0), dtype=np.float32)
    return Pairs(empty, empty, empty, empty)
