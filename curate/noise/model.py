"""The fitted noise models: all that a pair is compared with, and the function that scores any pair."""

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
    HubCorrection,
    Pairs,
    centred_unit_rows,
    clip_similarity,
    map_rows,
    padded,
    padded_chunks,
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
        sketch: fingerprints pictures.
        known: the sample's rows.
        folds: one model per fold.
        heads: for the memorization signal.
        joint: hub correction of the raw cosine where the towers share a space, and the posterior rests on it; else
        None.
        posterior: standardised score -> noise probability.
        diagnostics: JSON-able figures of the fit.
    """

    seed: int
    sketch: Sketch
    known: KnownRows
    folds: tuple[FoldModel, ...]
    heads: Heads
    joint: HubCorrection | None
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
            sketch = sketches(self.sketch, image)
            fold = self.fold_of(row_ids, image_sha256, sketch)
            return self.score_in_folds(fold, sketch, image, text)

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
            pairs = model.projection.pairs(image[rows], text[rows], sketch[rows])
            similarity[rows] = pairs.similarity()
            corrected[rows] = model.correction(pairs)
        loss = itc_loss(self.heads.pairs(image, text, sketch), self.heads.negatives)
        cosine, clip_corrected = None, None
        if self.joint is not None:
            cosine = clip_similarity(image, text)
            clip_corrected = self.joint(joint_pairs(image, text, sketch))
        probability = self.posterior(corrected if clip_corrected is None else clip_corrected)
        return Scores(fold, cosine, clip_corrected, similarity, corrected, loss, probability)

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors for arrays, JSON for the rest. Equal models give equal bytes."""
        from safetensors.numpy import save

        arrays = {
            **_named("sketch", self.sketch),
            **_named("posterior", self.posterior),
            "heads.image_mean": self.heads.image_mean,
            "heads.text_mean": self.heads.text_mean,
            "heads.image_map": self.heads.image_map,
            "heads.text_map": self.heads.text_map,
            **_named("known", self.known),
            **_named("heads.negatives", self.heads.negatives),
        }
        arrays["known.sketch"] = self.known.sketch.astype(np.float16)
        for number, model in enumerate(self.folds):
            arrays |= _named(f"fold{number}.projection", model.projection)
        corrections = self._corrections()
        for name, correction in corrections.items():
            arrays |= _named(f"{name}.bank", correction.bank)
        meta = {
            "seed": self.seed,
            "folds": len(self.folds),
            "nulls": {name: [c.null_mean, c.null_sd, c.neighbours] for name, c in corrections.items()},
            "diagnostics": self.diagnostics,
        }
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
        return {ARRAYS_FILE: save({k: np.ascontiguousarray(v) for k, v in arrays.items()}), META_FILE: text.encode()}

    def _corrections(self) -> dict[str, HubCorrection]:
        named = {f"fold{number}": model.correction for number, model in enumerate(self.folds)}
        return named if self.joint is None else {**named, "joint": self.joint}

    @classmethod
    def from_bytes(cls, files: dict[str, bytes]) -> NoiseModel:
        """The model that `to_bytes` wrote, exactly."""
        from safetensors.numpy import load

        meta = json.loads(files[META_FILE])
        stored = load(files[ARRAYS_FILE])
        arrays = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in stored.items()}
        corrections = {
            name: HubCorrection(Pairs(*_loaded(arrays, f"{name}.bank", Pairs)), mean, sd, neighbours)
            for name, (mean, sd, neighbours) in meta["nulls"].items()
        }
        names = [f"fold{number}" for number in range(meta["folds"])]
        projections = [Projection(*_loaded(arrays, f"{name}.projection", Projection)) for name in names]
        return cls(
            seed=meta["seed"],
            sketch=Sketch(*_loaded(arrays, "sketch", Sketch)),
            known=KnownRows(*_loaded(arrays, "known", KnownRows)),
            folds=tuple(FoldModel(p, corrections[name]) for name, p in zip(names, projections, strict=True)),
            heads=Heads(
                image_mean=arrays["heads.image_mean"],
                text_mean=arrays["heads.text_mean"],
                image_map=arrays["heads.image_map"],
                text_map=arrays["heads.text_map"],
                negatives=Pairs(*_loaded(arrays, "heads.negatives", Pairs)),
            ),
            joint=corrections.get("joint"),
            posterior=Posterior(*_loaded(arrays, "posterior", Posterior)),
            diagnostics=meta["diagnostics"],
        )


def sketches(sketch: Sketch, image: Floats) -> Floats:
    """Fingerprints of pictures from their embeddings, float32 [n, s]."""
    return map_rows(lambda chunk: sketch.of_features(centred_unit_rows(chunk, sketch.mean)), image)


def joint_pairs(image: Floats, text: Floats, sketch: Floats) -> Pairs:
    """Pairs in the space of the towers themselves."""
    return Pairs(unit_rows(image), unit_rows(text), sketch, unit_rows(text))


def _named(prefix: str, holder: Pairs | Projection | KnownRows | Sketch | Posterior) -> dict[str, NDArray[Any]]:
    """Arrays of a dataclass under dotted names; banks in half precision, which holds their values exactly."""
    half = isinstance(holder, Pairs)
    named = {f"{prefix}.{field.name}": getattr(holder, field.name) for field in fields(holder)}
    return {name: array.astype(np.float16) if half else array for name, array in named.items()}


def _loaded(arrays: dict[str, NDArray[Any]], prefix: str, kind: type[Any]) -> list[NDArray[Any]]:
    return [arrays[f"{prefix}.{field.name}"] for field in fields(kind)]
