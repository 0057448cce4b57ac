"""The fitted concept models: all that an image is compared with, and the function that finds its concepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.concepts.cross_modal import NameIndex, NameSpace
from curate.concepts.fuse import Fusion, Scorer
from curate.concepts.mentions import MentionTable
from curate.concepts.neighbour_vote import Voters, neighbour_vote
from curate.concepts.tagger import LinearTagger
from curate.concepts.vocabulary import Vocabulary
from curate.noise.arrays import pack, unpack
from curate.noise.crossfit import Cca
from curate.noise.features import Features, Reducer
from curate.noise.grouping import hash_strings
from curate.noise.model import Folds, KnownRows
from curate.noise.similarity import Floats, largest, padded, padded_chunks

ARRAYS_FILE = "concepts.safetensors"
META_FILE = "concepts.json"
VOCABULARY_FILE = "vocabulary.csv"
# Above, names are sought through an index, and only those that trusted captions have are scored one by one.
EXACT_NAMES = 50_000

Places = NDArray[np.int64]


@dataclass(frozen=True)
class NameRows:
    """Unit mean embeddings of the names' prompts, float32 [v, dt]; values that half precision holds."""

    embedding: Floats

    stored_in_half: ClassVar[bool] = True


@dataclass(frozen=True)
class ConceptFold:
    """What judges the images of one fold; neither was trained on them.

    Attributes:
        cca: the space of images and names; None: the towers' own.
        tagger: of the most frequent concepts.
    """

    cca: Cca | None
    tagger: LinearTagger


@dataclass(frozen=True)
class FittedConcepts:
    """Everything an image is compared with, as arrays.

    Attributes:
        reducer: embeddings -> features.
        known: the sample's pictures, by the hash of their checksum.
        names: of the vocabulary.
        voters: trusted pairs.
        mentions: what the voters' captions name: of the first concepts, those that trusted captions name at all.
        folds: one model per fold.
        fusion: of the three opinions.
    """

    reducer: Reducer
    known: KnownRows
    names: NameRows
    voters: Voters
    mentions: MentionTable
    folds: tuple[ConceptFold, ...]
    fusion: Fusion


@dataclass(frozen=True)
class TopConcepts:
    """The concepts of every image, the best first.

    Attributes:
        place: their numbers in the vocabulary, int64 [n, k].
        score: float32 [n, k].
        fold: int8 [n].
    """

    place: Places
    score: Floats
    fold: Folds


@dataclass(frozen=True)
class ConceptModel:
    """The fitted arrays and what they mean. The bytes depend on sample, vocabulary, options and seed alone.

    Attributes:
        seed: of all hashes.
        vocabulary: the most frequent names first; empty: nothing could be fitted, `diagnostics` says why.
        fitted: the arrays; None where the vocabulary is empty.
        diagnostics: JSON-able figures of the fit.
    """

    seed: int
    vocabulary: Vocabulary
    fitted: FittedConcepts | None
    diagnostics: dict[str, Any]

    def top(self, image_sha256: Sequence[str], image: Floats, scorer: Scorer, top_k: int) -> TopConcepts:
        """The best concepts of images; a row's result depends on the row and this model alone.

        A picture of the sample, or a near-duplicate of one, is judged by models that never saw it.

        Args:
            image_sha256: checksums of the pictures, which tell those that the model knows.
            image: finite embeddings, float32 or float16 [n, dv].
            scorer: whose opinion counts. Scores are standard deviations above an average concept (default), cosines
                (cross_modal), shares of the vote in [0, 1] (neighbours) or log-odds (tagger).
            top_k: how many; fewer where there are not so many names.
        """
        count = min(top_k, self._scored(scorer))
        place, score = np.empty((len(image), count), dtype=np.int64), np.empty((len(image), count), dtype=np.float32)
        with threadpool_limits(1):
            features, fold = self._features(image_sha256, image)
            for number in range(len(self._model.folds)):
                rows = np.nonzero(fold == number)[0]
                for part in padded_chunks(len(rows)):
                    chunk, here = features.take(rows[part]).map(padded), rows[part]
                    found = _best(*self._candidates(number, chunk, scorer), count)
                    place[here], score[here] = (values[: len(here)] for values in found)
        return TopConcepts(place, score, fold)

    def all_scores(self, image_sha256: Sequence[str], image: Floats, scorer: Scorer) -> Floats:
        """Scores of all concepts, for measurements; float32 [n, v].

        Those the scorer has no opinion about get -inf. Only for vocabularies without an index.
        """
        scores = np.full((len(image), len(self.vocabulary)), -np.inf, dtype=np.float32)
        with threadpool_limits(1):
            features, fold = self._features(image_sha256, image)
            for number in range(len(self._model.folds)):
                rows = np.nonzero(fold == number)[0]
                for part in padded_chunks(len(rows)):
                    chunk, here = features.take(rows[part]).map(padded), rows[part]
                    found = self._scores(number, chunk, scorer)
                    scores[here, : found.shape[1]] = found[: len(here)]
        return scores

    @property
    def _model(self) -> FittedConcepts:
        assert self.fitted is not None, "an empty vocabulary has no model"
        return self.fitted

    def _scored(self, scorer: Scorer) -> int:
        """How many names a scorer has an opinion about."""
        if scorer == "tagger":
            return len(self._model.folds[0].tagger.bias)
        return self._model.mentions.concepts if scorer == "neighbours" else len(self.vocabulary)

    def _features(self, image_sha256: Sequence[str], image: Floats) -> tuple[Features, Folds]:
        """Features of images and the fold whose model never saw each: by look-up, by likeness, else by hash."""
        no_text = np.zeros((len(image), len(self._model.reducer.text_mean)), dtype=np.float32)
        features = self._model.reducer(image.astype(np.float32, copy=False), no_text)
        keys = picture_hashes(image_sha256, self.seed)
        fold = self._model.known.lookup(keys)
        outside = np.nonzero(fold < 0)[0]
        fold[outside] = self._model.known.fold_without_twins(features.sketch[outside])
        drawn = (keys % np.uint64(len(self._model.folds))).astype(np.int8)
        return features, np.where(fold < 0, drawn, fold)

    @cached_property
    def _dense(self) -> int:
        """How many names are scored one by one: all, or those that trusted captions have."""
        return len(self.vocabulary) if len(self.vocabulary) <= EXACT_NAMES else self._model.mentions.concepts

    @cached_property
    def _spaces(self) -> list[NameSpace]:
        """The names that are scored one by one, in the space of each fold."""
        return list(self._placed(slice(0, self._dense)))

    def _indexes(self) -> list[NameIndex]:
        """All other names, in the space of each fold; several threads may be the first to ask."""
        with _BUILDING:
            return self._built_indexes

    @cached_property
    def _built_indexes(self) -> list[NameIndex]:
        """One for every fold; the same one where the towers' own space is that of all folds."""
        spaces = self._placed(slice(self._dense, None))
        if all(fold.cca is None for fold in self._model.folds):
            return [NameIndex(next(spaces).placed)] * len(self._model.folds)
        return [NameIndex(space.placed) for space in spaces]

    def _placed(self, rows: slice) -> Iterator[NameSpace]:
        names, mean = self._model.names.embedding[rows], self._model.reducer.text_mean
        return (NameSpace(names, mean, fold.cca) for fold in self._model.folds)

    @cached_property
    def _weights(self) -> list[Floats]:
        return [self._model.voters.of_fold(number) for number in range(len(self._model.folds))]

    def _candidates(self, fold: int, chunk: Features, scorer: Scorer) -> tuple[Floats, Places | None]:
        """Scores, and which names they are of; None: of all, in order."""
        scores = self._scores(fold, chunk, scorer)
        if scorer in ("neighbours", "tagger") or self._dense == len(self.vocabulary):
            return scores, None
        similarity, place = self._indexes()[fold].search(self._spaces[fold].images(chunk))
        others = similarity if scorer == "cross_modal" else self._model.fusion.cross(similarity)
        dense = np.broadcast_to(np.arange(self._dense, dtype=np.int64), scores.shape)
        return np.concatenate([scores, others], axis=1), np.concatenate([dense, place + self._dense], axis=1)

    def _scores(self, fold: int, chunk: Features, scorer: Scorer) -> Floats:
        """Scores of the first concepts for a padded chunk, float32 [CHUNK, .]."""
        if scorer == "cross_modal":
            return self._cross_modal(fold, chunk)
        if scorer == "neighbours":
            return self._vote(fold, chunk)
        if scorer == "tagger":
            return self._model.folds[fold].tagger(chunk.image)
        tagged = self._model.folds[fold].tagger(chunk.image)
        return self._model.fusion(self._cross_modal(fold, chunk), self._vote(fold, chunk), tagged)

    def _cross_modal(self, fold: int, chunk: Features) -> Floats:
        space = self._spaces[fold]
        similarity: Floats = space.images(chunk) @ space.placed.T
        return similarity

    def _vote(self, fold: int, chunk: Features) -> Floats:
        return neighbour_vote(chunk.image_unit, self._model.voters, self._weights[fold], self._model.mentions)

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors, JSON and a CSV of the names. Equal models give equal bytes."""
        from safetensors.numpy import save

        meta = json.dumps(
            {"seed": self.seed, "diagnostics": self.diagnostics}, indent=1, sort_keys=True, allow_nan=False
        )
        files = {META_FILE: meta.encode(), VOCABULARY_FILE: self.vocabulary.to_csv()}
        return files if self.fitted is None else {**files, ARRAYS_FILE: save(pack(self.fitted))}

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> ConceptModel:
        """The model that `to_bytes` wrote, exactly."""
        from safetensors.numpy import load

        meta = json.loads(files[META_FILE])
        arrays = files.get(ARRAYS_FILE)
        return cls(
            seed=meta["seed"],
            vocabulary=Vocabulary.from_csv(files[VOCABULARY_FILE]),
            fitted=None if arrays is None else unpack(FittedConcepts, load(arrays)),
            diagnostics=meta["diagnostics"],
        )


_BUILDING = Lock()


def picture_hashes(image_sha256: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """What a picture is known by; uint64 [n]."""
    return hash_strings(image_sha256, seed)


def _best(scores: Floats, place: Places | None, count: int) -> tuple[Places, Floats]:
    """The best of every row, descending; equal scores by the order of the vocabulary."""
    found = np.sort(largest(scores, count), axis=1)
    score = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-score, axis=1, kind="stable")
    found, score = np.take_along_axis(found, order, axis=1), np.take_along_axis(score, order, axis=1)
    return found.astype(np.int64) if place is None else np.take_along_axis(place, found, axis=1), score
