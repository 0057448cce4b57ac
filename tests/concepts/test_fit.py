"""Concept models: they find what pictures show, and never judge a picture by its own caption."""

from dataclasses import replace

import numpy as np
import pytest

from curate.concepts import model as model_module
from curate.concepts.model import ConceptModel
from curate.concepts.vocabulary import Vocabulary
from curate.noise.fit import NoiseSample, fit_noise
from tests.concepts.synthetic import SMALL, THINGS, corpus, fitted, names_of
from tests.noise.synthetic import SMALL as SMALL_NOISE

SCORERS = ("default", "cross_modal", "neighbours", "tagger")


@pytest.fixture(scope="module")
def pictures():
    return corpus()


@pytest.fixture(scope="module")
def model(pictures):
    return fitted(pictures[0])


@pytest.fixture(scope="module")
def others():
    return corpus(rows=80, seed=5)


def hit_rate(model, sample, shown, scorer, top_k=2):
    """Share of what is shown that is among the first two."""
    names = names_of(model, model.top(sample.image_sha256, sample.image, scorer, top_k))
    return np.mean([thing in found for found, things in zip(names, shown, strict=True) for thing in things])


def in_order(sample, order):
    return replace(
        sample,
        image_sha256=[sample.image_sha256[row] for row in order],
        captions=[sample.captions[row] for row in order],
        image=sample.image[order],
        text=sample.text[order],
        noise_prob=None if sample.noise_prob is None else sample.noise_prob[order],
    )


def test_the_vocabulary_is_what_captions_name(model):
    assert set(model.vocabulary.names) == set(THINGS)
    assert model.diagnostics["weights"].startswith("all 1")


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_finds_what_pictures_show(model, others, scorer):
    assert hit_rate(model, *others, scorer) > (0.6 if scorer == "cross_modal" else 0.65)


def test_towers_that_were_trained_together_need_no_map(others):
    sample, _ = corpus(joint=True)
    model = fitted(sample)
    assert all(fold.cca is None for fold in model.fitted.folds)
    assert hit_rate(model, replace(others[0], joint_space=True), others[1], "cross_modal") > 0.9


def test_scores_come_in_order_and_are_all_there(model, others):
    sample, _ = others
    found = model.top(sample.image_sha256, sample.image, "default", 5)
    every = model.all_scores(sample.image_sha256, sample.image, "default")
    np.testing.assert_array_equal(found.score, -np.sort(-every, axis=1)[:, :5])
    np.testing.assert_array_equal(found.score, np.take_along_axis(every, found.place, axis=1))
    assert model.top(sample.image_sha256, sample.image, "default", 100).place.shape == (80, len(model.vocabulary))


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_row_scores_the_same_bytes_in_any_batch(model, others, scorer):
    sample, _ = others
    whole = model.top(sample.image_sha256, sample.image, scorer, 4)
    order = np.random.default_rng(0).permutation(80)
    for rows in (order[:1], order[1:8], order[8:]):
        part = model.top([sample.image_sha256[row] for row in rows], sample.image[rows], scorer, 4)
        assert part.place.tobytes() == whole.place[rows].tobytes()
        assert part.score.tobytes() == whole.score[rows].tobytes()


@pytest.mark.parametrize("scorer", ["tagger", "neighbours", "cross_modal"])
def test_a_caption_does_not_tell_what_its_own_picture_shows(pictures, model, scorer):
    sample, _ = pictures
    secret = [*sample.captions]
    secret[7] = "number 7 has a kite and a clock"
    lying = fitted(replace(sample, captions=secret))
    row = np.array([7])
    one, two = (
        each.all_scores(["sha-7"], sample.image[row], scorer)[0][[each.vocabulary.names.index(n) for n in THINGS]]
        for each in (model, lying)
    )
    # Folds are dealt anew, so other training rows changed sides: but nothing learned row 7 by heart.
    assert (two - one)[THINGS.index("kite")] < 0.5 * np.ptp(one)


def test_a_picture_of_the_sample_and_its_twin_are_judged_by_a_model_that_did_not_see_them(pictures, model):
    sample, _ = pictures
    known = model.top(sample.image_sha256, sample.image, "default", 1).fold
    twins = model.top([f"other-{row}" for row in range(300)], sample.image, "default", 1).fold
    np.testing.assert_array_equal(known, twins)
    rows = model.fitted.known.lookup(model_module.picture_hashes(sample.image_sha256, 0))
    np.testing.assert_array_equal(rows, known)
    trained = model.fitted.known.trained
    assert not trained[np.arange(300), model.fitted.known.fold].any()


def test_folds_are_those_of_the_noise_fit(pictures, model):
    sample, _ = pictures
    same = NoiseSample(sample.image_sha256, sample.captions, sample.image, sample.text, False)
    options = replace(SMALL_NOISE, folds=SMALL.folds, rounds=1, image_dimensions=SMALL.image_dimensions)
    noise = fit_noise(same, options, 0).score(sample.image_sha256, sample.captions, sample.image, sample.text)
    np.testing.assert_array_equal(noise.fold, model.top(sample.image_sha256, sample.image, "tagger", 1).fold)


def test_row_order_changes_no_byte(pictures, model):
    sample, _ = pictures
    assert fitted(in_order(sample, np.random.default_rng(1).permutation(300))).to_bytes() == model.to_bytes()


def test_bytes_hold_the_whole_model(model, others):
    sample, _ = others
    again = ConceptModel.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    one, two = (each.top(sample.image_sha256, sample.image, "default", 3) for each in (model, again))
    assert one.score.tobytes() == two.score.tobytes()


def test_captions_that_are_probably_wrong_teach_nothing(others):
    sample, _ = corpus(noisy=0.4)
    trusting = fitted(replace(sample, noise_prob=None))
    careful = fitted(sample)
    assert careful.diagnostics["trusted_pairs"] == int((sample.noise_prob < 0.5).sum())
    assert hit_rate(careful, *others, "tagger") > hit_rate(trusting, *others, "tagger")


def test_without_trusted_pairs_there_is_a_verdict_and_no_model(pictures):
    sample, _ = pictures
    model = fitted(replace(sample, noise_prob=np.full(300, 0.9, np.float32)))
    assert model.fitted is None
    assert model.diagnostics["verdict"] == "no concepts: 0 of 300 pairs can be trusted, 50 are needed."
    assert ConceptModel.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()


def test_unknown_noise_is_no_trust(pictures):
    sample, _ = pictures
    noise = np.where(np.arange(300) < 100, np.nan, 0.1).astype(np.float32)
    assert fitted(replace(sample, noise_prob=noise)).diagnostics["trusted_pairs"] == 200


@pytest.mark.parametrize("rows", [0, 1, 60])
def test_few_pairs_give_a_verdict_and_no_model(pictures, rows):
    model = fitted(in_order(pictures[0], range(rows)))
    assert model.fitted is None
    assert model.diagnostics["verdict"].startswith("no concepts: ")
    assert model.diagnostics["pairs"] == rows


def test_captions_without_a_common_noun_give_a_verdict_that_says_what_to_do(pictures):
    sample, _ = pictures
    model = fitted(replace(sample, captions=[f"of {row}" for row in range(300)]))
    assert model.fitted is None
    assert (
        "no noun occurs in 3 of the 300 different trusted captions. Set min_documents: 1"
        in (model.diagnostics["verdict"])
    )


@pytest.mark.parametrize("rows", [1, 30, 300])
def test_given_names_need_no_trusted_pair_where_the_towers_were_trained_together(others, rows):
    sample, _ = corpus(joint=True)
    doubtful = in_order(replace(sample, noise_prob=np.full(300, 0.9, np.float32)), range(rows))
    model = ConceptModel.from_bytes(fitted(doubtful, names(*THINGS)).to_bytes())
    reason = f"concepts by cross-modal similarity alone: 0 of {rows} pairs can be trusted, 50 are needed."
    assert model.diagnostics["verdict"] == reason
    assert hit_rate(model, others[0], others[1], "default") > 0.9
    assert model.top(["x"], sample.image[:1], "tagger", 10).place.shape == (1, 0)
    assert model.top(["x"], sample.image[:1], "neighbours", 10).place.shape == (1, 0)


def test_given_names_without_a_common_space_and_without_trust_give_a_verdict(pictures):
    doubtful = replace(pictures[0], noise_prob=np.full(300, 0.9, np.float32))
    assert fitted(doubtful, names(*THINGS)).diagnostics["verdict"].startswith("no concepts: 0 of 300")


def names(*given):
    return Vocabulary(given, (0,) * len(given), ((),) * len(given))


def test_a_vocabulary_of_three_names_gives_three_concepts(pictures):
    model = fitted(pictures[0], names("unicorn", "dog", "cat"))
    assert model.vocabulary.names[2] == "unicorn"
    assert model.vocabulary.documents[2] == 0
    assert model.top(["x"], pictures[0].image[:1], "default", 10).place.shape == (1, 3)
    assert model.top(["x"], pictures[0].image[:1], "neighbours", 10).place.shape == (1, 2)


def test_names_that_no_caption_has_leave_cross_modal_similarity_alone(pictures):
    model = fitted(pictures[0], names("unicorn", "dragon"))
    found = model.top(["x"], pictures[0].image[:1], "default", 10)
    assert np.isfinite(found.score).all()
    assert model.top(["x"], pictures[0].image[:1], "tagger", 10).place.shape == (1, 0)


def test_many_names_are_sought_through_an_index_with_nearly_the_same_result(pictures, others, monkeypatch):
    sample, _ = others
    model = fitted(pictures[0], names(*THINGS[:5], *(f"blorb {n}" for n in range(3000)), *THINGS[5:]))
    exact = model.top(sample.image_sha256, sample.image, "default", 3)
    monkeypatch.setattr(model_module, "EXACT_NAMES", 100)
    indexed = ConceptModel.from_bytes(model.to_bytes())
    found = indexed.top(sample.image_sha256, sample.image, "default", 3)
    assert (found.place == exact.place).mean() > 0.9
    part = indexed.top(sample.image_sha256[5:6], sample.image[5:6], "default", 3)
    assert part.score.tobytes() == found.score[5:6].tobytes()


@pytest.mark.parametrize(("joint", "indexes"), [(True, 1), (False, SMALL.folds)])
def test_an_index_is_built_once_for_every_space(joint, indexes, monkeypatch):
    built = []

    class Counted(model_module.NameIndex):
        def __init__(self, names):
            built.append(len(names))
            super().__init__(names)

    monkeypatch.setattr(model_module, "EXACT_NAMES", 100)
    monkeypatch.setattr(model_module, "NameIndex", Counted)
    sample, shown = corpus(joint=joint)
    model = fitted(sample, names(*THINGS, *(f"blorb {n}" for n in range(2000))))
    assert hit_rate(model, sample, shown, "default") > 0.6
    model.top(sample.image_sha256, sample.image, "cross_modal", 3)
    assert built == [2000] * indexes


def test_pairs_whose_embeddings_mean_nothing_are_left_out(pictures):
    sample, _ = pictures
    image = sample.image.copy()
    image[3] = np.nan
    assert fitted(replace(sample, image=image)).diagnostics["pairs"] == 299


def test_an_empty_batch_is_no_trouble(model):
    assert model.top([], np.empty((0, 40), np.float32), "default", 3).place.shape == (0, 3)
