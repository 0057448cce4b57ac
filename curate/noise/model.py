"""The fitted noise models: all that a pair is compared with, and the one function that scores pairs in and out of the sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.noise.crossfit import FoldModel, Projection
from curate.noise.grouping import NEAR_IMAGE_DISTANCE, Bools, Hashes, Sketch, half_norms, hash_strings
from curate.noise.memorization import Heads, itc_loss
from curate.noise.mixture import Posterior
from curate.noise.similarity import (
    Floats,
    Pairs,
    centred_unit_rows,
    clip_similarity,
    csls,
    map_rows,
    padded,
    padded_chunks,
    standardised,
    unit_rows,
)

Folds = NDArray[np.int8]
ARRAYS_FILE = "noise.safetensors"
META_FILE = "noise.json"


@dataclass(frozen=True)
class KnownRows:
    """The sample: which fold each of its rows belongs to and which models were trained on it. Sorted by `key`.

    Attributes:
        key: seeded hash of row_id, uint64 [n].
        image_hash: hash of the picture's checksum; a row_id met again with another picture is another row. uint64 [n].
        fold: int8 [n].
        sketch: fingerprint of the picture, float32 [n, s].
        trained: whether the model of each fold was trained on the row, bool [n, folds].
    """

    key: Hashes
    image_hash: Hashes
    fold: Folds
    sketch: Floats
    trained: Bools

    def lookup(self, keys: Hashes, image_hashes: Hashes) -> Folds:
        """Fold of every row that is in the sample, -1 for all others; int8 [m]."""
        place = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        known = (self.key[place] == keys) & (self.image_hash[place] == image_hashes)
        return np.where(known, self.fold[place], np.int8(-1)).astype(np.int8)

    def fold_without_twins(self, sketch: Floats) -> Folds:
        """Fold for rows outside the sample with a near-duplicate picture inside it; -1 where nothing is near. int8 [m].

        The fold whose training rows come least close: argmin_k max {cos(x, s) : s trained on by model k}. That is the fold
        of the nearest sample row, unless a second twin makes another one more honest. O(m n s), O(CHUNK n) memory.
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
class JointSpace:
    """Hub correction for towers trained together: the embeddings themselves against one bank.

    Attributes:
        bank: pairs of the sample, image and text as the towers gave them.
        null_mean, null_sd: of the CSLS scores of the bank's shuffled pairs.
    """

    bank: Pairs
    null_mean: float
    null_sd: float

    def standardised_csls(self, pairs: Pairs, neighbours: int) -> Floats:
        """CSLS of the raw cosine in units of the shuffled null, float32 [n], higher is cleaner."""
        return standardised(csls(pairs, self.bank, neighbours), self.null_mean, self.null_sd)


@dataclass(frozen=True)
class Scores:
    """What is known of every row: float32 [n] each, `fold` int8 [n]. See `curate.stages.noise` for the directions."""

    fold: Folds
    clip_similarity: Floats | None
    clip_csls: Floats | None
    crossfit_similarity: Floats
    crossfit_csls: Floats
    itc_loss: Floats
    noise_prob: Floats


@dataclass(frozen=True)
class NoiseModel:
    """Everything a pair is compared with. A few dozen MB; the bytes depend on sample, options and seed alone.

    Attributes:
        seed: of all hashes.
        neighbours: of CSLS.
        sketch: fingerprints pictures.
        known: the sample's rows.
        folds: one model per fold.
        heads: for the memorization signal.
        joint: hub correction of the raw cosine where the towers share a space, and the posterior rests on it; else None.
        posterior: standardised score -> noise probability.
        diagnostics: JSON-able figures of the fit.
    """

    seed: int
    neighbours: int
    sketch: Sketch
    known: KnownRows
    folds: tuple[FoldModel, ...]
    heads: Heads
    joint: JointSpace | None
    posterior: Posterior
    diagnostics: dict[str, Any]

    def score(self, row_ids: Sequence[str], image_sha256: Sequence[str], image: Floats, text: Floats) -> Scores:
        """Score usable pairs; a row's result does not depend on the rows beside it.

        Args:
            row_ids, image_sha256: identity of row and picture.
            image, text: embeddings, float32 or float16 [n, dv], [n, dt].
        """
        with threadpool_limits(1):
            image, text = image.astype(np.float32, copy=False), text.astype(np.float32, copy=False)
            sketch = self.sketch_of(image)
            fold = self.fold_of(row_ids, image_sha256, sketch)
            return self.score_in_folds(fold, sketch, image, text)

    def sketch_of(self, image: Floats) -> Floats:
        """Fingerprints of pictures, float32 [n, s]."""
        return map_rows(lambda chunk: self.sketch.of_features(centred_unit_rows(chunk, self.sketch.mean)), image)

    def fold_of(self, row_ids: Sequence[str], image_sha256: Sequence[str], sketch: Floats) -> Folds:
        """The fold whose model never saw the row nor its twin: by look-up, by likeness to the sample, else by hash."""
        fold = self.known.lookup(hash_strings(row_ids, self.seed), hash_strings(image_sha256))
        outside = np.nonzero(fold < 0)[0]
        fold[outside] = self.known.fold_without_twins(sketch[outside])
        drawn = hash_strings(image_sha256, self.seed) % np.uint64(len(self.folds))
        return np.where(fold < 0, drawn.astype(np.int8), fold)

    def score_in_folds(self, fold: Folds, sketch: Floats, image: Floats, text: Floats) -> Scores:
        """Score pairs whose fold is known."""
        similarity, corrected = np.empty(len(fold), dtype=np.float32), np.empty(len(fold), dtype=np.float32)
        for number, model in enumerate(self.folds):
            rows = np.nonzero(fold == number)[0]
            pairs = model.pairs(image[rows], text[rows], sketch[rows])
            similarity[rows] = pairs.similarity()
            corrected[rows] = model.standardised_csls(pairs, self.neighbours)
        loss = itc_loss(self.heads.pairs(image, text, sketch), self.heads.negatives)
        cosine, clip_corrected = None, None
        if self.joint is not None:
            cosine = clip_similarity(image, text)
            pairs = joint_pairs(image, text, sketch)
            clip_corrected = self.joint.standardised_csls(pairs, self.neighbours)
        probability = self.posterior(corrected if clip_corrected is None else clip_corrected)
        return Scores(fold, cosine, clip_corrected, similarity, corrected, loss, probability)

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors for arrays, JSON for the rest. Equal models give equal bytes."""
        from safetensors.numpy import save

        arrays = {
            "sketch.mean": self.sketch.mean,
            "sketch.basis": self.sketch.basis,
            "posterior.scores": self.posterior.scores,
            "posterior.logits": self.posterior.logits,
            "heads.image_mean": self.heads.image_mean,
            "heads.text_mean": self.heads.text_mean,
            "heads.image_map": self.heads.image_map,
            "heads.text_map": self.heads.text_map,
            **_named("known", self.known),
            **_named("heads.negatives", self.heads.negatives),
        }
        arrays["known.sketch"] = self.known.sketch.astype(np.float16)
        for number, model in enumerate(self.folds):
            arrays |= _named(f"fold{number}.projection", model.projection) | _named(f"fold{number}.bank", model.bank)
        if self.joint is not None:
            arrays |= _named("joint.bank", self.joint.bank)
        meta = {
            "seed": self.seed,
            "neighbours": self.neighbours,
            "nulls": [[model.null_mean, model.null_sd] for model in self.folds],
            "joint_null": None if self.joint is None else [self.joint.null_mean, self.joint.null_sd],
            "diagnostics": self.diagnostics,
        }
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
        return {ARRAYS_FILE: save({k: np.ascontiguousarray(v) for k, v in arrays.items()}), META_FILE: text.encode()}

    @classmethod
    def from_bytes(cls, files: dict[str, bytes]) -> NoiseModel:
        """The model that `to_bytes` wrote, exactly."""
        from safetensors.numpy import load

        meta = json.loads(files[META_FILE])
        arrays = load(files[ARRAYS_FILE])
        arrays = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}
        folds = tuple(
            FoldModel(
                projection=Projection(*_loaded(arrays, f"fold{number}.projection", Projection)),
                bank=Pairs(*_loaded(arrays, f"fold{number}.bank", Pairs)),
                null_mean=mean,
                null_sd=sd,
            )
            for number, (mean, sd) in enumerate(meta["nulls"])
        )
        joint_null = meta["joint_null"]
        return cls(
            seed=meta["seed"],
            neighbours=meta["neighbours"],
            sketch=Sketch(arrays["sketch.mean"], arrays["sketch.basis"]),
            known=KnownRows(*_loaded(arrays, "known", KnownRows)),
            folds=folds,
            heads=Heads(
                *(arrays[f"heads.{name}"] for name in ("image_mean", "text_mean", "image_map", "text_map")),
                Pairs(*_loaded(arrays, "heads.negatives", Pairs)),
            ),
            joint=None
            if joint_null is None
            else JointSpace(Pairs(*_loaded(arrays, "joint.bank", Pairs)), *joint_null),
            posterior=Posterior(arrays["posterior.scores"], arrays["posterior.logits"]),
            diagnostics=meta["diagnostics"],
        )


def joint_pairs(image: Floats, text: Floats, sketch: Floats) -> Pairs:
    """Pairs in the space of the towers themselves."""
    return Pairs(unit_rows(image), unit_rows(text), sketch, unit_rows(text))


def _named(prefix: str, holder: Pairs | Projection | KnownRows) -> dict[str, NDArray[Any]]:
    """Arrays of a dataclass under dotted names; banks in half precision, which holds their values exactly."""
    half = isinstance(holder, Pairs)
    named = {f"{prefix}.{field.name}": getattr(holder, field.name) for field in fields(holder)}
    return {name: array.astype(np.float16) if half else array for name, array in named.items()}


def _loaded(arrays: dict[str, NDArray[Any]], prefix: str, kind: type[Any]) -> list[NDArray[Any]]:
    return [arrays[f"{prefix}.{field.name}"] for field in fields(kind)]
