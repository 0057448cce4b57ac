"""A noisy training part as `curate run` annotates it, and a clean test part that has nothing in common with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.bench.noise import Condition, Corpus
from curate.columns import overlaid, side_by_side
from curate.completion.decoders import Encode, embedded
from curate.completion.fit import CompletionOptions, CompletionSample, fit_completion
from curate.completion.policy import CaptionColumns
from curate.concepts.fit import ConceptOptions, ConceptSample, fit_concepts
from curate.concepts.model import ConceptModel
from curate.concepts.vocabulary import Vocabulary
from curate.concepts.words import Tokenizer
from curate.corpora.exchange import choose_mismatches
from curate.errors import InputError, NothingToLearnError
from curate.noise.fit import NoiseOptions, NoiseSample, fit_noise
from curate.noise.grouping import NEAR_IMAGE_COSINE
from curate.noise.model import NoiseModel
from curate.noise.refine import RefineOptions, refine_noise
from curate.noise.similarity import Bools, Floats, centred_unit_rows, unit_rows
from curate.schema import BELIEFS, Status
from curate.stages.concepts import ConceptColumns, Concepts
from curate.stages.noise import Noise, NoiseColumns
from curate.stages.refine import Refine

Rows: TypeAlias = NDArray[np.intp]

MOST_HELD_OUT = 1000
LEAST_HELD_OUT = 10


@dataclass(frozen=True)
class Curation:
    """What the training part is annotated with: what `curate run` fits, and the columns it makes.

    Attributes:
        noise, concepts, completion: options of the fits.
        refine: of the rounds of refinement; None: there are none.
        noise_columns, concept_columns, caption_columns: how the stages turn scores into columns.
        vocabulary: names that were given; None: they are mined.
        tokenizer: finds the nouns.
        encode: the text tower.
    """

    noise: NoiseOptions
    refine: RefineOptions | None
    concepts: ConceptOptions
    completion: CompletionOptions
    noise_columns: NoiseColumns
    concept_columns: ConceptColumns
    caption_columns: CaptionColumns
    vocabulary: Vocabulary | None
    tokenizer: Tokenizer
    encode: Encode


@dataclass(frozen=True)
class Split:
    """Rows of a corpus, ascending: those that are tested on, and those that are trained on."""

    test: Rows
    train: Rows


def draw_split(corpus: Corpus, seed: int) -> Split:
    """Hold out pairs that occur once, and leave out of training whatever shows their picture.

    A quarter of the pairs is tested on, 1,000 at most. Each has a caption that no other pair has, and no two of them
    show the same picture. Training rows are all others whose picture is not nearly that of a test row (cosine of the
    centred image embeddings above NEAR_IMAGE_COSINE, or equal bytes). O(n m d) for m test rows.

    Raises:
        InputError: there are hardly any such pairs.
    """
    meanings = np.array([pair.meaning for pair in corpus.pairs])
    _, inverse, counts = np.unique(meanings, return_inverse=True, return_counts=True)
    once = np.nonzero(counts[inverse] == 1)[0]
    size = min(MOST_HELD_OUT, len(meanings) // 4)
    image = centred_unit_rows(corpus.image, unit_rows(corpus.image).mean(axis=0))
    pictures = np.unique(np.array(corpus.image_sha256), return_inverse=True)[1]
    apart = np.ones(len(meanings), dtype=np.bool_)
    test: list[int] = []
    for row in np.random.default_rng([seed, 3]).permutation(once).tolist():
        if len(test) == size:
            break
        if apart[row]:
            test.append(row)
            apart &= (image @ image[row] <= NEAR_IMAGE_COSINE) & (pictures != pictures[row])
    if len(test) < LEAST_HELD_OUT:
        raise InputError(
            f"--input: {len(test)} pairs have a picture and a caption of their own; {LEAST_HELD_OUT} are needed"
        )
    return Split(np.sort(np.array(test, dtype=np.intp)), np.nonzero(apart)[0])


@dataclass(frozen=True)
class Curated:
    """The training part: n pairs, some of whose captions belong to others, and what curate says of them.

    Attributes:
        image: embeddings, float32 [n, dv].
        captions: as they are trained on, before curation.
        text: their embeddings, float32 [n, dt].
        true_captions, true_text: what they were before they were exchanged.
        mismatched: whether the caption says something else now, bool [n].
        noise_prob, weight, smoothing, p_use_synthetic: columns of the annotations, float32 [n].
        completed: the completed captions; the given one where nothing was believed.
        completed_text: their embeddings, float32 [n, dt].
    """

    image: Floats
    captions: Sequence[str]
    text: Floats
    true_captions: Sequence[str]
    true_text: Floats
    mismatched: Bools
    noise_prob: Floats
    weight: Floats
    smoothing: Floats
    p_use_synthetic: Floats
    completed: Sequence[str]
    completed_text: Floats

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def changed(self) -> Bools:
        """Whether the completed caption is another than the given one, bool [n]."""
        pairs = zip(self.completed, self.captions, strict=True)
        return np.array([completed != given for completed, given in pairs], dtype=np.bool_)


def curated_part(corpus: Corpus, train: Rows, cell: Condition, curation: Curation) -> Curated:
    """Exchange captions of the training rows, then fit and annotate them as `curate run` does, all in memory.

    Where there is nothing to learn captions from, all stay as they are.

    Raises:
        InputError: too few pairs.
    """
    exchanged = choose_mismatches([corpus.pairs[row] for row in train], cell.kind, cell.rate, cell.seed)
    image, true_text = corpus.image[train], corpus.text[train]
    given = _Given(
        [corpus.image_sha256[row] for row in train], exchanged.captions, image, true_text[exchanged.sources],
        corpus.joint_space,
    )  # fmt: skip
    annotated = _annotated(given, curation, cell.seed)
    completed = annotated["completed_caption"].to_pylist()
    return Curated(
        image=image,
        captions=exchanged.captions,
        text=given.text,
        true_captions=[corpus.pairs[row].caption for row in train],
        true_text=true_text,
        mismatched=exchanged.mismatched,
        completed=completed,
        completed_text=_completed_text(given, completed, curation.encode),
        **{name: annotated[name].to_numpy() for name in ("noise_prob", "weight", "smoothing", "p_use_synthetic")},
    )


@dataclass(frozen=True)
class _Given:
    """What a run would have embedded."""

    image_sha256: Sequence[str]
    captions: Sequence[str]
    image: Floats
    text: Floats
    joint_space: bool

    def table(self) -> pa.Table:
        """Columns of the embed step that the stages read."""
        rows = len(self.captions)
        return pa.table(
            {
                "row_id": [str(row) for row in range(rows)],
                "caption": pa.array(self.captions, pa.string()),
                "image_sha256": pa.array(self.image_sha256, pa.string()),
                "status": [Status.OK.value] * rows,
                "image_embedding": _lists(self.image),
                "text_embedding": _lists(self.text),
            }
        )


def _lists(rows: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def _annotated(given: _Given, curation: Curation, seed: int) -> pa.Table:
    """The columns of the stages noise, refine, concepts and caption beside those of the embed step."""
    noise, decided, table = _believed(given, curation, seed)
    concepts = _concepts(given, table["noise_prob"].to_numpy(), curation, seed)
    table = side_by_side(table, Concepts(concepts, curation.concept_columns)(table))
    return side_by_side(table, _captions(given, table, noise, decided, curation, seed))


def _believed(given: _Given, curation: Curation, seed: int) -> tuple[NoiseModel, bool, pa.Table]:
    """The noise model, whether noise_prob means anything, and the columns of the stages noise and refine."""
    sample = NoiseSample(given.image_sha256, given.captions, given.image, given.text, given.joint_space)
    noise = fit_noise(sample, curation.noise, seed)
    table = given.table()
    table = side_by_side(table, Noise(noise, curation.noise_columns)(table))
    if curation.refine is None:
        return noise, noise.decided, table
    refined = refine_noise(sample, noise, curation.noise, curation.refine, seed)
    again = Refine(refined, curation.noise_columns)(table).select(BELIEFS)
    return noise, refined.decided, overlaid(table, again)


def _concepts(given: _Given, noise_prob: Floats, curation: Curation, seed: int) -> ConceptModel:
    sample = ConceptSample(given.image_sha256, given.captions, given.image, given.text, given.joint_space, noise_prob)
    return fit_concepts(sample, curation.vocabulary, curation.concepts, seed, curation.tokenizer, curation.encode)


def _captions(
    given: _Given, table: pa.Table, noise: NoiseModel, decided: bool, curation: Curation, seed: int
) -> pa.Table:
    """The columns of the caption stage; where there is nothing to learn captions from, all stay as they are."""
    from curate.stages.caption import Caption, KeepCaptions

    named = [[(found["name"], found["score"]) for found in row or ()] for row in table["concepts"].to_pylist()]
    sample = CompletionSample(
        given.image_sha256, given.captions, given.image, given.text,
        table["noise_prob"].to_numpy(), table["fold"].to_numpy(), named, decided,
    )  # fmt: skip
    try:
        model = fit_completion(sample, noise, curation.completion, seed)
    except NothingToLearnError:
        return KeepCaptions()(table)
    return Caption(model, noise, curation.encode, curation.caption_columns)(table)


def _completed_text(given: _Given, completed: Sequence[str], encode: Encode) -> Floats:
    """Embeddings of the completed captions; those that were not changed have theirs already."""
    changed = [row for row, caption in enumerate(completed) if caption != given.captions[row]]
    text = given.text.copy()
    if changed:
        text[changed] = embedded([completed[row] for row in changed], encode)
    return text
