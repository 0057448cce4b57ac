"""The fit: a sample of pairs with their noise probabilities in, the models that find concepts out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.concepts.cross_modal import Encode, NameSpace, name_embeddings
from curate.concepts.fuse import CROSS_MODAL_WEIGHT, JOINT_WEIGHT, Fusion, Scale
from curate.concepts.mentions import MentionTable
from curate.concepts.model import ConceptFold, ConceptModel, FittedConcepts, NameRows, picture_hashes
from curate.concepts.neighbour_vote import Voters, neighbour_vote
from curate.concepts.tagger import LinearTagger, fit_tagger
from curate.concepts.vocabulary import Mentions, Vocabulary, mine_vocabulary
from curate.concepts.words import Token, Tokenizer, split_words
from curate.corpora.pairs import meaning
from curate.errors import LEARNED, NothingToLearnError
from curate.noise.crossfit import RIDGE_ROWS_UNWEIGHTED, RIDGE_ROWS_WEIGHTED, Cca, fit_cca, weighted_moments
from curate.noise.features import fit_reducer
from curate.noise.fit import MOST_COPIES, training_rows
from curate.noise.grouping import SKETCH_DIMENSIONS, draw_folds, group_by_picture, hash_strings
from curate.noise.model import KnownRows, copy_numbers, identities
from curate.noise.similarity import Floats, half, have_direction, map_rows

Rows = NDArray[np.intp]

MIN_TRUSTED_PAIRS = 50
TEMPLATES = ("{}", "a photo of a {}", "there is a {} in the picture")
# A caption that occurs a thousand times teaches the tagger as much as 32 that occur once.
FREQUENCY_POWER = 0.5
_SCALE_ROWS = 2048
_SCALE_NAMES = 4096


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConceptSample:
    """Usable pairs, at most a few ten thousand, in any order.

    Attributes:
        image_sha256: checksums of the pictures.
        captions: as they came.
        image, text: L2-normalised embeddings, float16 or float32 [n, dv], [n, dt].
        joint_space: whether the towers were trained together (CLIP).
        noise_prob: how likely each caption is wrong, NaN where unknown, float32 [n]; None: nothing is known of any.
    """

    image_sha256: Sequence[str]
    captions: Sequence[str]
    image: Floats
    text: Floats
    joint_space: bool
    noise_prob: Floats | None = None


@dataclass(frozen=True)
class ConceptOptions:
    """What can be chosen.

    Attributes:
        min_documents: a mined name is kept if so many different trusted captions have it.
        trusted_below: a pair with a higher noise_prob teaches nothing.
        templates: prompts of the names, each with one {}.
        folds: cross-fitting folds.
        voters: trusted pairs whose captions are counted.
        tagged: most concepts the tagger learns, the most frequent ones.
        image_dimensions: PCA of the images.
        dimensions: canonical directions of CCA.
    """

    min_documents: int = 3
    trusted_below: float = 0.5
    templates: tuple[str, ...] = TEMPLATES
    folds: int = 5
    voters: int = 16384
    tagged: int = 2000
    image_dimensions: int = 384
    dimensions: int = 128


def fit_concepts(
    sample: ConceptSample,
    vocabulary: Vocabulary | None,
    options: ConceptOptions,
    seed: int,
    tokenizer: Tokenizer,
    encode: Encode,
) -> ConceptModel:
    """Fit all concept models. Bytes depend on the arguments alone, not on row order or cores.

    Args:
        sample: pairs; the folds are those of a noise fit on the same sample.
        vocabulary: the names; None: mined from the sample's trusted captions.
        options: how.
        seed: of all hashes.
        tokenizer: finds the nouns.
        encode: the text tower: texts -> unit embeddings [n, dt].

    Returns:
        The model. Where there is nothing to learn from (fewer than 50 trusted pairs, too few different pictures, no
        name that occurs often enough) `diagnostics["verdict"]` says so: given names are then found by cross-modal
        similarity alone if the towers were trained together; else the vocabulary is empty.
    """
    rows = _canonical(sample, seed)
    weights = trust(sample, rows, options.trusted_below)
    with threadpool_limits(1):
        try:
            return _Fit(sample, rows, weights, vocabulary, options, seed, tokenizer, encode).model()
        except NothingToLearnError as reason:
            figures = {"pairs": len(rows), "trusted_pairs": int((weights > 0).sum())}
            if vocabulary is None or not sample.joint_space or not len(rows):
                nothing = Vocabulary((), (), ())
                return ConceptModel(seed, nothing, None, {"verdict": f"no concepts: {reason}", **figures})
            fitted = _untrained(sample, rows, name_embeddings(vocabulary, options.templates, encode), options, seed)
            verdict = f"concepts by cross-modal similarity alone: {reason}"
            return ConceptModel(seed, vocabulary, fitted, {"verdict": verdict, "names": len(vocabulary), **figures})


def _untrained(sample: ConceptSample, rows: Rows, names: Floats, options: ConceptOptions, seed: int) -> FittedConcepts:
    """Names in the towers' own space. Nothing learns from captions, so that one fold does for all pictures."""
    image, text = (array[rows].astype(np.float32, copy=False) for array in (sample.image, sample.text))
    reducer = fit_reducer(image, text, options.image_dimensions, SKETCH_DIMENSIONS)
    features = reducer(image, text)
    fold, trained = np.zeros(len(rows), dtype=np.int8), np.ones((len(rows), 1), dtype=np.bool_)
    hashes = picture_hashes([sample.image_sha256[row] for row in rows], seed)
    nobody, nothing = features.image_unit[:0], MentionTable.of([], 0)
    width = features.image.shape[1]
    tagger = LinearTagger(np.zeros((width, 0), dtype=np.float32), np.zeros(0, dtype=np.float32))
    cosine = features.raw_image[:_SCALE_ROWS] @ names[:_SCALE_NAMES].T
    return FittedConcepts(
        reducer=reducer,
        known=_known(hashes, fold, features.sketch, trained),
        names=NameRows(names),
        voters=Voters(nobody, nobody[:, 0], trained[:0]),
        mentions=nothing,
        folds=(ConceptFold(None, tagger),),
        fusion=Fusion(JOINT_WEIGHT, Scale.of(cosine), Scale(0.0, 1.0), Scale(0.0, 1.0)),
    )


def trust(sample: ConceptSample, rows: Rows, below: float) -> Floats:
    """1 - noise_prob of pairs below the bound, else 0; 1 where noise was not estimated at all. float32 [n]."""
    if sample.noise_prob is None:
        return np.ones(len(rows), dtype=np.float32)
    noise = sample.noise_prob[rows]
    trusted: Floats = np.where(noise < below, np.float32(1) - noise, np.float32(0)).astype(np.float32)
    return half(trusted)


def _canonical(sample: ConceptSample, seed: int) -> Rows:
    """Comparable rows in the order of the noise fit: by their identities' hashes, at most 8 copies of each."""
    rows = np.nonzero(have_direction(sample.image) & have_direction(sample.text))[0]
    keys = identities([sample.image_sha256[row] for row in rows], [sample.captions[row] for row in rows], seed)
    noise = np.zeros(len(rows)) if sample.noise_prob is None else sample.noise_prob[rows]
    order = np.lexsort((noise, keys))
    kept: Rows = rows[order[copy_numbers(keys[order]) < MOST_COPIES]]
    return kept


class _Fit:
    """The sample's rows in their canonical order, and the steps that share them."""

    def __init__(
        self,
        sample: ConceptSample,
        rows: Rows,
        weights: Floats,
        vocabulary: Vocabulary | None,
        options: ConceptOptions,
        seed: int,
        tokenizer: Tokenizer,
        encode: Encode,
    ) -> None:
        """Features, folds and vocabulary.

        Raises:
            NothingToLearnError: too few trusted pairs or different pictures, or no name occurs often enough.
        """
        trusted = int((weights > 0).sum())
        if trusted < MIN_TRUSTED_PAIRS:
            raise NothingToLearnError(
                f"{trusted:,} of {len(rows):,} pairs can be trusted, {MIN_TRUSTED_PAIRS} are needed."
            )
        self.options, self.seed, self.joint_space, self.encode = options, seed, sample.joint_space, encode
        self.weights, self.weighted = weights, sample.noise_prob is not None
        self.mined = vocabulary is None
        self.captions = [meaning(sample.captions[row]) for row in rows]
        pictures = [sample.image_sha256[row] for row in rows]
        image, text = (array[rows].astype(np.float32, copy=False) for array in (sample.image, sample.text))
        self.reducer = fit_reducer(image, text, options.image_dimensions, SKETCH_DIMENSIONS)
        self.features = self.reducer(image, text)
        self.fold = draw_folds(group_by_picture(self.features.sketch, hash_strings(pictures)), options.folds)
        self.trained = training_rows(self.features.sketch, self.fold, options.folds)
        self.known = _known(picture_hashes(pictures, seed), self.fold, self.features.sketch, self.trained)
        originals = {caption: sample.captions[row] for caption, row in zip(self.captions, rows, strict=True)}
        self.originals = tuple(originals.values())
        self.tokens = {caption: tokenizer(original) for caption, original in originals.items()}
        self.vocabulary, self.mentions = self._vocabulary(vocabulary, tokenizer)

    @cached_property
    def trusted_captions(self) -> list[str]:
        """Different captions of trusted pairs."""
        return sorted({c for c, weight in zip(self.captions, self.weights.tolist(), strict=True) if weight > 0})

    @cached_property
    def _said(self) -> frozenset[str]:
        """All words of the captions and what they are compared by."""
        words = (word.casefold() for caption in self.originals for word in split_words(caption))
        return frozenset((*words, *(token.key for tokens in self.tokens.values() for token in tokens)))

    def _vocabulary(self, given: Vocabulary | None, tokenizer: Tokenizer) -> tuple[Vocabulary, MentionTable]:
        """Names, the most frequent first, and which of them each row's caption has.

        Raises:
            NothingToLearnError: nothing occurs often enough.
        """
        named = given or mine_vocabulary(
            map(self.tokens.__getitem__, self.trusted_captions), self.options.min_documents
        )
        if not named.names:
            raise NothingToLearnError(
                f"no noun occurs in {self.options.min_documents} of the {len(self.trusted_captions):,} different "
                "trusted captions. Set min_documents: 1, or give `vocabulary` a file of names."
            )
        find = Mentions(named, tokenizer, self._said)
        by_caption = {caption: find(tokens) for caption, tokens in self.tokens.items()}
        documents = MentionTable.of([by_caption[c] for c in self.trusted_captions], len(named)).documents()
        order = np.argsort(-documents, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        ordered = Vocabulary(
            tuple(named.names[number] for number in order),
            tuple(documents[order].astype(int).tolist()),
            tuple(named.prompts[number] for number in order),
        )
        moved = {caption: sorted(place[numbers].tolist()) for caption, numbers in by_caption.items()}
        return ordered, MentionTable.of([moved[caption] for caption in self.captions], len(ordered))

    def model(self) -> ConceptModel:
        """Fit every fold, then what fuses them."""
        log.info("embedding %d names", len(self.vocabulary))
        names = name_embeddings(self.vocabulary, self.options.templates, self.encode)
        documents = np.array(self.vocabulary.documents)
        seen, tagged = int((documents > 0).sum()), int((documents >= self.options.min_documents).sum())
        # The first rows of a seeded order are a sample.
        voting = np.nonzero(self.weights > 0)[0][: self.options.voters]
        voters = Voters(half(self.features.image_unit[voting]), self.weights[voting], self.trained[voting])
        mentions = self.mentions.take(voting).first(seen)
        tagged_mentions = self.mentions.first(min(tagged, self.options.tagged))
        log.info("learning %d concepts in %d folds", tagged_mentions.concepts, self.options.folds)
        folds = self._for_folds(lambda number: self._fold(number, voting, tagged_mentions))
        fusion = self._fusion(names, voters, mentions, folds)
        fitted = FittedConcepts(self.reducer, self.known, NameRows(names), voters, mentions, tuple(folds), fusion)
        return ConceptModel(self.seed, self.vocabulary, fitted, self._diagnostics(seen, tagged_mentions.concepts))

    def _for_folds(self, function: Callable[[int], ConceptFold]) -> list[ConceptFold]:
        """One fold after another, or side by side: no fold's result depends on another's."""
        with ThreadPoolExecutor(max_workers=min(self.options.folds, os.cpu_count() or 1)) as pool:
            return list(pool.map(function, range(self.options.folds)))

    def _fold(self, number: int, voting: Rows, tagged: MentionTable) -> ConceptFold:
        return ConceptFold(self._cca(number), self._tagger(number, voting, tagged))

    def _cca(self, number: int) -> Cca | None:
        if self.joint_space:
            return None
        rows = np.nonzero(self.trained[:, number] & (self.weights > 0))[0]
        moments = weighted_moments(self.features.image[rows], self.features.text[rows], self.weights[rows])
        ridge = RIDGE_ROWS_WEIGHTED if self.weighted else RIDGE_ROWS_UNWEIGHTED
        return fit_cca(moments, self.options.dimensions, ridge)

    def _tagger(self, number: int, voting: Rows, tagged: MentionTable) -> LinearTagger:
        rows = voting[self.trained[voting, number]]
        weights = self.weights[rows] * self._rarity[rows]
        return fit_tagger(self.features.image[rows], tagged.take(rows), weights)

    @cached_property
    def _rarity(self) -> Floats:
        """How much a row counts by how often its caption occurs, float32 [n]."""
        _, inverse, counts = np.unique(np.array(self.captions), return_inverse=True, return_counts=True)
        rarity: Floats = (counts[inverse].astype(np.float64) ** -FREQUENCY_POWER).astype(np.float32)
        return rarity

    def _fusion(self, names: Floats, voters: Voters, mentions: MentionTable, folds: Sequence[ConceptFold]) -> Fusion:
        """Scales of the three scorers over the first pictures, each judged out of fold, and the first names."""
        pieces: list[tuple[Floats, Floats, Floats]] = []
        for number, fold in enumerate(folds):
            rows = np.nonzero(self.fold[:_SCALE_ROWS] == number)[0]
            features = self.features.take(rows)
            space = NameSpace(names[:_SCALE_NAMES], self.reducer.text_mean, fold.cca)
            weight, few = voters.of_fold(number), mentions.first(min(mentions.concepts, _SCALE_NAMES))
            vote = map_rows(lambda part, w=weight, m=few: neighbour_vote(part, voters, w, m), features.image_unit)  # type: ignore[misc]
            pieces.append((space.images(features) @ space.placed.T, vote, fold.tagger(features.image)))
        cross, votes, tagger = (Scale.of(np.concatenate(each)) for each in zip(*pieces, strict=True))
        return Fusion(JOINT_WEIGHT if self.joint_space else CROSS_MODAL_WEIGHT, cross, votes, tagger)

    def _diagnostics(self, seen: int, tagged: int) -> dict[str, Any]:
        """JSON-able figures of the vocabulary and of what was learned from."""
        naming = self.mentions.counts > 0
        trusted = self.weights > 0
        return {
            "verdict": LEARNED,
            "names": len(self.vocabulary),
            "names_in_trusted_captions": seen,
            "names_tagged": tagged,
            "mined": self.mined,
            "pairs": len(self.weights),
            "trusted_pairs": int(trusted.sum()),
            "trusted_pairs_that_name_a_concept": int((trusted & naming).sum()),
            "weights": "1 - noise_prob" if self.weighted else "all 1: there is no noise stage",
            "tagging": "English nouns by HanTa; words of other scripts as they stand; other languages in Latin "
            "letters as if they were English",
            "captions": len(self.tokens),
            "captions_in_other_scripts": sum(map(_in_other_script, self.tokens.values())),
            "joint_space": "the towers' own" if self.joint_space else "cross-fitted CCA",
            "fold_sizes": np.bincount(self.fold, minlength=self.options.folds).tolist(),
            "options": asdict(replace(self.options, templates=tuple(self.options.templates))),
        }


def _in_other_script(tokens: Sequence[Token]) -> bool:
    return any(token.kind == "other_script" for token in tokens)


def _known(keys: NDArray[np.uint64], fold: NDArray[np.int8], sketch: Floats, trained: NDArray[np.bool_]) -> KnownRows:
    order = np.argsort(keys, kind="stable")
    return KnownRows(keys[order], fold[order], sketch[order], trained[order])
