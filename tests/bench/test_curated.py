"""The split that nothing leaks through, and the training part as a run annotates it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.bench.curated import Curated, Curation, curated_part, draw_split
from curate.bench.noise import Condition, Corpus
from curate.completion.policy import CaptionColumns
from curate.concepts.fit import ConceptOptions
from curate.concepts.words import english_tokenizer
from curate.corpora.pairs import Pair
from curate.errors import InputError
from curate.noise.heads import HeadOptions
from curate.noise.refine import RefineOptions
from curate.stages.concepts import ConceptColumns
from curate.stages.noise import NoiseColumns
from tests.completion.test_fit import COLOURS, QUICK, THINGS, encode
from tests.noise.synthetic import SMALL, corpus

ROWS = 320
CURATION = Curation(
    noise=SMALL,
    refine=None,
    concepts=ConceptOptions(),
    completion=QUICK,
    noise_columns=NoiseColumns(),
    concept_columns=ConceptColumns(),
    caption_columns=CaptionColumns(),
    vocabulary=None,
    tokenizer=english_tokenizer(),
    encode=encode,
)


def small_corpus(rows: int = ROWS) -> Corpus:
    sample, _ = corpus(rows=rows, mismatched=0.0)
    said = [f"a {COLOURS[row % 6]} {THINGS[row // 6 % 6]} number {row}" for row in range(rows)]
    return Corpus(
        tuple(Pair(str(row), caption) for row, caption in enumerate(said)),
        tuple(sample.image_sha256), sample.image, sample.text, False, "small",
    )  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    return small_corpus()


@pytest.fixture(scope="module")
def part(pairs: Corpus) -> Curated:
    return curated_part(pairs, draw_split(pairs, 0).train, Condition("random", 0.3, 0), CURATION)


def test_a_quarter_is_tested_on_and_the_rest_is_trained_on(pairs: Corpus):
    split = draw_split(pairs, 0)
    assert len(split.test) == ROWS // 4
    assert sorted([*split.test, *split.train]) == list(range(ROWS))
    assert not np.array_equal(split.test, draw_split(pairs, 1).test)
    assert np.array_equal(split.test, draw_split(pairs, 0).test)


def test_nothing_of_a_test_pair_is_trained_on(pairs: Corpus):
    """Every picture comes three times: twice the same bytes, once nearly the same; and every third caption twice."""
    third = ROWS // 3
    image = pairs.image.copy()
    image[third : 2 * third] = image[:third]
    image[2 * third : 3 * third] = image[:third] + 1e-3
    checksums = [f"sha-{row % third}" if row < 2 * third else f"sha-{row}" for row in range(ROWS)]
    captions = [Pair(str(row), f" Caption {row % 100}" if row > 280 else f"caption {row}") for row in range(ROWS)]
    twins = replace(pairs, image=image, image_sha256=tuple(checksums), pairs=tuple(captions))
    split = draw_split(twins, 0)
    assert len(split.test) > 50
    picture = np.where(np.arange(ROWS) < 3 * third, np.arange(ROWS) % third, np.arange(ROWS))
    assert len(set(picture[split.test])) == len(split.test)
    assert not {*picture[split.test]} & {*picture[split.train]}
    said = np.array([pair.meaning for pair in captions])
    assert not {*said[split.test]} & {*said[split.train]}


def test_too_few_pairs_of_their_own(pairs: Corpus):
    same = replace(pairs, pairs=tuple(Pair(str(row), "one caption") for row in range(ROWS)))
    with pytest.raises(InputError, match="--input: 0 pairs have a picture and a caption of their own; 10 are needed"):
        draw_split(same, 0)


def test_the_truth_is_known(pairs: Corpus, part: Curated):
    wrong = part.mismatched
    assert wrong.mean() == pytest.approx(0.3, abs=0.01)
    assert [a == b for a, b in zip(part.captions, part.true_captions, strict=True)] == (~wrong).tolist()
    assert np.array_equal((part.text == part.true_text).all(axis=1), ~wrong)
    train = draw_split(pairs, 0).train
    assert part.true_captions == [pairs.pairs[row].caption for row in train]
    assert np.array_equal(part.image, pairs.image[train])


def test_annotations_tell_right_from_wrong(part: Curated):
    wrong = part.mismatched
    assert part.noise_prob[wrong].mean() > 0.6 > 0.3 > part.noise_prob[~wrong].mean()
    assert part.smoothing == pytest.approx(0.5 * part.noise_prob)
    assert ((part.weight > 0) & (part.weight <= 1)).all()


def test_completed_captions_have_embeddings_of_their_own(part: Curated):
    changed = part.changed
    assert changed.any()
    assert (part.noise_prob[changed] >= 0.5).all()
    assert part.p_use_synthetic[changed] == pytest.approx(part.noise_prob[changed])
    assert not part.p_use_synthetic[~changed].any()
    written = [caption for caption, new in zip(part.completed, changed, strict=True) if new]
    assert part.completed_text[changed] == pytest.approx(encode(written), abs=1e-6)
    assert np.array_equal(part.completed_text[~changed], part.text[~changed])


def test_where_nothing_can_be_learned_captions_stay_as_they_are(pairs: Corpus):
    text = np.random.default_rng(0).permutation(pairs.text)
    part = curated_part(replace(pairs, text=text), np.arange(ROWS), Condition("random", 0.3, 0), CURATION)
    assert not part.changed.any()
    assert not part.p_use_synthetic.any()
    assert np.array_equal(part.completed_text, part.text)


def test_refined_beliefs_take_the_place_of_the_first(pairs: Corpus, part: Curated):
    rounds = RefineOptions(HeadOptions(epochs=3, batch=64, learning_rate=0.01), rounds=1)
    train = draw_split(pairs, 0).train
    refined = curated_part(pairs, train, Condition("random", 0.3, 0), replace(CURATION, refine=rounds))
    assert not np.array_equal(refined.noise_prob, part.noise_prob)
    assert refined.smoothing == pytest.approx(0.5 * refined.noise_prob)
    assert (refined.noise_prob[refined.changed] >= 0.5).all()
    assert refined.noise_prob[refined.mismatched].mean() > 0.6 > 0.3 > refined.noise_prob[~refined.mismatched].mean()
