"""The fit and all decoders on a small corpus with mismatches on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.completion.agreement import Agreement
from curate.completion.decoders import Pictures, build_decoder
from curate.completion.fit import (
    CompletionModel,
    CompletionOptions,
    CompletionSample,
    fit_completion,
    untouched,
    verdict_of,
)
from curate.completion.policy import Policy, accepted
from curate.completion.propose import propose, some
from curate.errors import LEARNED, InputError, NothingToLearnError
from curate.models.captioner import CaptionerOptions
from curate.noise.model import NoiseModel, identities
from tests.noise.synthetic import corpus, quick_fit, score_sample, unit

COLOURS = ("red", "green", "blue", "grey", "black", "white")
THINGS = ("ball", "house", "tree", "dog", "cat", "boat")
QUICK = CompletionOptions(captioner=CaptionerOptions(width=24, epochs=1, least_steps=20, longest=6, least_count=1))


def said(number: int) -> str:
    return f"a {COLOURS[number % 6]} {THINGS[number // 6 % 6]}"


def encode(captions) -> np.ndarray:
    """A text tower: a fixed direction for every caption."""
    rows = [np.random.default_rng(sum(map(ord, caption))).standard_normal(32) for caption in captions]
    return unit(np.array(rows)).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> tuple[CompletionSample, np.ndarray, NoiseModel]:
    pairs, wrong = corpus(rows=260, mismatched=0.3)
    pairs = replace(pairs, captions=[said(int(caption.split()[1])) for caption in pairs.captions])
    noise = quick_fit(pairs)
    scores = score_sample(noise, pairs)
    concepts = [[(caption.split()[-1], 1.0)] for caption in pairs.captions]
    sample = CompletionSample(
        pairs.image_sha256, pairs.captions, pairs.image, pairs.text, scores.noise_prob, scores.fold, concepts
    )
    return sample, wrong, noise


@pytest.fixture(scope="module")
def model(world) -> CompletionModel:
    sample, _, noise = world
    return fit_completion(sample, noise, QUICK, 0)


def pictures_of(sample: CompletionSample, noise: NoiseModel) -> Pictures:
    keys = identities(sample.image_sha256, sample.captions, noise.seed)
    return Pictures(keys, sample.fold, Agreement(noise).images(sample.image), sample.image, sample.concepts)


def test_right_captions_agree_better_than_wrong_ones_out_of_fold(world):
    sample, wrong, noise = world
    pictures = pictures_of(sample, noise)
    scores = Agreement(noise)(sample.fold, pictures.features, np.arange(len(wrong)), sample.text)
    assert np.median(scores[~wrong]) > np.quantile(scores[wrong], 0.95)
    assert abs(np.median(scores[wrong])) < 1


def test_agreement_of_a_row_does_not_depend_on_the_rows_beside_it(world):
    sample, _, noise = world
    pictures, rows = pictures_of(sample, noise), np.arange(100)
    whole = Agreement(noise)(sample.fold, pictures.features, rows, sample.text[:100])
    part = some(pictures, [7, 90, 33])
    alone = Agreement(noise)(part.fold, part.features, np.arange(3), sample.text[[7, 90, 33]])
    assert alone.tobytes() == whole[[7, 90, 33]].tobytes()


def test_the_fit_does_not_depend_on_the_order_of_the_rows(world, model: CompletionModel):
    sample, _, noise = world
    order = np.random.default_rng(0).permutation(len(sample.captions)).tolist()
    shuffled = CompletionSample(
        [sample.image_sha256[row] for row in order],
        [sample.captions[row] for row in order],
        sample.image[order],
        sample.text[order],
        sample.noise_prob[order],
        sample.fold[order],
        [sample.concepts[row] for row in order],
    )
    assert fit_completion(shuffled, noise, QUICK, 0).to_bytes() == model.to_bytes()


def test_bytes_round_trip(model: CompletionModel):
    assert CompletionModel.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()


def test_only_trusted_pairs_are_learned(world, model: CompletionModel):
    sample, _, noise = world
    keys = identities(sample.image_sha256, sample.captions, noise.seed)
    np.testing.assert_array_equal(model.was_learned(keys), sample.noise_prob < QUICK.trusted_below)


@pytest.mark.parametrize("name", ["default", "gru", "beam", "sample", "consensus", "nearest"])
def test_every_decoder_writes_the_same_whoever_stands_beside(world, model: CompletionModel, name):
    sample, _, noise = world
    decoder = build_decoder(name, model.bank, model.captioner, Agreement(noise), encode, 0)
    pictures = pictures_of(sample, noise)
    whole = decoder(some(pictures, list(range(70))))
    part = decoder(some(pictures, [5, 66, 12]))
    assert part.captions == [whole.captions[row] for row in (5, 66, 12)]
    assert part.text.tobytes() == whole.text[[5, 66, 12]].tobytes()
    assert all(whole.captions)


def test_proposals_compare_with_the_original_where_there_is_one(world, model: CompletionModel):
    sample, wrong, noise = world
    decoder = build_decoder("consensus", model.bank, None, Agreement(noise), encode, 0)
    captions: list[str | None] = [*sample.captions]
    captions[0], captions[1] = None, " "
    made = propose(decoder, Agreement(noise), pictures_of(sample, noise), captions, sample.text, sample.noise_prob)
    assert np.isneginf(made.original_score[:2]).all()
    assert made.noise_prob[:2].tolist() == [1.0, 1.0]
    taken = accepted(made, model.threshold, Policy())
    assert taken[2:][wrong[2:]].mean() > 5 * taken[2:][~wrong[2:]].mean()


def test_a_decoder_that_names_an_architecture_gets_it(world):
    sample, _, noise = world
    made = fit_completion(sample, noise, replace(QUICK, decoder="transformer"), 0)
    assert made.captioner.network.shape.architecture == "transformer"
    assert build_decoder("transformer", made.bank, made.captioner, Agreement(noise), encode, 0)


@pytest.mark.parametrize("trusted", [0, 1, 49])
@pytest.mark.parametrize("decoder", ["default", "consensus", "coca"])
def test_too_few_trusted_pairs_are_nothing_to_learn_from(world, decoder, trusted):
    sample, _, noise = world
    probability = np.where(np.arange(len(sample.captions)) < trusted, 0, 1).astype(np.float32)
    doubtful = replace(sample, noise_prob=probability)
    with pytest.raises(NothingToLearnError, match=f"{trusted} of 260 pairs can be trusted, 50 are needed"):
        fit_completion(doubtful, noise, replace(QUICK, decoder=decoder), 0)


def test_where_noise_is_undecided_nobody_is_trusted(world):
    sample, _, noise = world
    assert noise.decided
    assert not replace(noise, diagnostics={**noise.diagnostics, "method": "none"}).decided
    with pytest.raises(NothingToLearnError, match="could not tell right captions from wrong ones"):
        fit_completion(replace(sample, decided=False), noise, QUICK, 0)


def test_a_verdict_stands_in_the_place_of_a_model(model):
    assert verdict_of(untouched("nobody knows.")) == "no captions: nobody knows."
    assert verdict_of(model.to_bytes()) == LEARNED


def test_a_decoder_without_its_captioner_says_so(world, model: CompletionModel):
    noise = world[2]
    with pytest.raises(InputError, match="gru needs a captioner"):
        build_decoder("gru", model.bank, None, Agreement(noise), encode, 0)
    with pytest.raises(InputError, match="the captioner that was fitted is a gru"):
        build_decoder("transformer", model.bank, model.captioner, Agreement(noise), encode, 0)


def test_a_picture_that_stands_in_the_bank_gets_its_own_caption_back(world, model: CompletionModel):
    sample, _, noise = world
    decoder = build_decoder("default", model.bank, model.captioner, Agreement(noise), encode, 0)
    trusted = np.nonzero(sample.noise_prob < QUICK.trusted_below)[0].tolist()
    written = decoder(some(pictures_of(sample, noise), trusted)).captions
    assert np.mean([caption == sample.captions[row] for row, caption in zip(trusted, written, strict=True)]) > 0.9
