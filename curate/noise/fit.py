"""The fit: a bounded sample of pairs in, everything that later scores a pair out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from curate.errors import CurateError
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
from curate.noise.model import JointSpace, KnownRows, NoiseModel, joint_pairs
from curate.noise.similarity import Bools, Floats, Pairs, centred_unit_rows, csls, map_rows, shuffled_pairs

MIN_TRAINING_ROWS = 50
MIN_CLEAN_WEIGHT = 0.02
NULL_DRAWS = 3


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
    """What can be chosen. The defaults are what was measured (noise-experiments.md).

    Attributes:
        folds: cross-fitting folds.
        rounds: the second refits with weights max(1 - noise_prob, .02); more add nothing.
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
        CurateError: too few pairs, or too few different pictures, to hold any out.
    """
    if len(sample.row_ids) < options.min_pairs:
        raise CurateError(
            f"noise needs at least {options.min_pairs} usable pairs; this input has {len(sample.row_ids)}. "
            "Add inputs, or leave out the noise stage."
        )
    with threadpool_limits(1):
        return _Fit(sample, options, seed).model()


class _Fit:
    """The sample in its canonical order, and the steps that share it."""

    def __init__(self, sample: NoiseSample, options: NoiseOptions, seed: int) -> None:
        keys = hash_strings(sample.row_ids, seed)
        order = np.argsort(keys, kind="stable")
        self.options, self.seed, self.joint_space = options, seed, sample.joint_space
        self.image = np.ascontiguousarray(sample.image[order], dtype=np.float32)
        self.text = np.ascontiguousarray(sample.text[order], dtype=np.float32)
        self.sketcher = fit_sketch(self.image)
        self.sketch = map_rows(
            lambda c: self.sketcher.of_features(centred_unit_rows(c, self.sketcher.mean)), self.image
        )
        image_hash = sample.image_hash[order]
        self.groups = group_by_picture(self.sketch, image_hash)
        self.fold = draw_folds(self.groups, options.folds)
        self.trained = training_rows(self.sketch, self.fold, options.folds)
        self.known = KnownRows(keys[order], image_hash, self.fold, self.sketch, self.trained)

    def model(self) -> NoiseModel:
        heads = self.heads()
        joint, joint_scores, joint_null = self.joint()
        weights = np.ones(len(self.fold), dtype=np.float32)
        reducers = [
            fit_reducer(self.image, self.text, rows, self.options.image_dimensions) for rows in self.training()
        ]
        history: list[Mixture] = []
        for round_number in range(self.options.rounds):
            ridge_rows = RIDGE_ROWS_WEIGHTED if round_number else RIDGE_ROWS_UNWEIGHTED
            models, scores, null = self.crossfit(reducers, weights, ridge_rows)
            if joint is not None:
                scores, null = joint_scores, joint_null
            history.append(fit_mixture(scores, null, self.options.mixture))
            weights = np.maximum(1 - history[-1].posterior(scores), np.float32(MIN_CLEAN_WEIGHT))
        return NoiseModel(
            seed=self.seed,
            neighbours=self.options.neighbours,
            sketch=self.sketcher,
            known=self.known,
            folds=models,
            heads=heads,
            joint=joint,
            posterior=history[-1].posterior,
            diagnostics=self.diagnostics(history),
        )

    def training(self) -> list[Rows]:
        return [np.nonzero(self.trained[:, fold])[0] for fold in range(self.options.folds)]

    def heads(self) -> Heads:
        rows = np.arange(len(self.fold))
        image_mean, text_mean = mean_of_unit_rows(self.image, rows), mean_of_unit_rows(self.text, rows)
        maps = warm_up(self.image, self.text, image_mean, text_mean, self.options.epochs, self.seed)
        untested = Heads(image_mean, text_mean, *maps, negatives=_no_pairs())
        first = slice(0, self.options.negatives)
        negatives = untested.pairs(self.image[first], self.text[first], self.sketch[first])
        return Heads(image_mean, text_mean, *maps, negatives=negatives.rounded())

    def joint(self) -> tuple[JointSpace | None, Floats, Floats]:
        """Hub correction in the towers' own space, scores of the sample and of shuffled pairs; None if there is none."""
        if not self.joint_space:
            return None, np.empty(0, np.float32), np.empty(0, np.float32)
        pairs = joint_pairs(self.image, self.text, self.sketch)
        first = np.arange(min(self.options.bank, len(pairs)))
        bank = pairs.take(first, first).rounded()
        raw = csls(self.shuffled(bank, self.options.folds), bank, self.options.neighbours)
        joint = JointSpace(bank, float(raw.mean(dtype=np.float64)), max(float(raw.std(dtype=np.float64)), 1e-6))
        null: Floats = (raw - np.float32(joint.null_mean)) / np.float32(joint.null_sd)
        return joint, joint.standardised_csls(pairs, self.options.neighbours), null

    def shuffled(self, bank: Pairs, stream: int) -> Pairs:
        return shuffled_pairs(bank, NULL_DRAWS, np.random.default_rng([self.seed % 2**63, stream]))

    def crossfit(
        self, reducers: list[Reducer], weights: Floats, ridge_rows: float
    ) -> tuple[tuple[FoldModel, ...], Floats, Floats]:
        """One round: a model per fold, each sample row's score under the model that never saw it, the null's scores."""
        scores = np.empty(len(self.fold), dtype=np.float32)
        models, nulls = [], []
        for number, (rows, reducer) in enumerate(zip(self.training(), reducers, strict=True)):
            moments = weighted_moments(self.image, self.text, rows, weights, reducer)
            projection = fit_projection(moments, reducer, self.options.dimensions, ridge_rows)
            held_out = np.nonzero(self.fold == number)[0]
            unstandardised = FoldModel(projection, _no_pairs(), 0.0, 1.0)
            pairs = unstandardised.pairs(self.image[held_out], self.text[held_out], self.sketch[held_out])
            first = np.arange(min(self.options.bank, len(pairs)))
            bank = pairs.take(first, first).rounded()
            raw = csls(self.shuffled(bank, number), bank, self.options.neighbours)
            model = FoldModel(projection, bank, 0.0, 1.0).standardised_by(raw)
            scores[held_out] = model.standardised_csls(pairs, self.options.neighbours)
            nulls.append((raw - np.float32(model.null_mean)) / np.float32(model.null_sd))
            models.append(model)
        return tuple(models), scores, np.concatenate(nulls)

    def diagnostics(self, history: list[Mixture]) -> dict[str, object]:
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


def training_rows(sketch: Floats, fold: np.typing.NDArray[np.int8], folds: int) -> Bools:
    """Which rows each fold's model may be trained on: rows of other folds that have no twin in it. bool [n, folds].

    Raises:
        CurateError: a fold leaves fewer than 50 rows to train on.
    """
    trained = (fold[:, None] != np.arange(folds)) & ~folds_with_twins(sketch, fold, folds)
    if trained.sum(axis=0).min() < MIN_TRAINING_ROWS:
        raise CurateError(
            "noise can't hold pictures out: nearly all pairs show one picture, so a model would be left with "
            f"{int(trained.sum(axis=0).min())} training pairs; {MIN_TRAINING_ROWS} are needed. Remove duplicates first."
        )
    return trained


def _no_pairs() -> Pairs:
    empty = np.empty((0, 0), dtype=np.float32)
    return Pairs(empty, empty, empty, empty)
