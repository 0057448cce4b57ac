"""What a fit promises: honesty first, then calibration, then plain words about what it can't do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.errors import InputError
from curate.noise import fit as module
from curate.noise.agreement import project
from curate.noise.crossfit import fit_cca, weighted_moments
from curate.noise.fit import MOST_COPIES
from curate.noise.grouping import near
from curate.noise.signals import JOINT_ONLY, SIGNAL_NAMES
from tests.noise.synthetic import (
    auroc,
    calibration_error,
    corpus,
    features_of,
    halved,
    joined,
    quick_fit,
    sample_of,
    score_sample,
    taken,
)

# A corpus may be as odd as it likes: what there is to say is said by an error or a verdict, not by numpy.
pytestmark = pytest.mark.filterwarnings("error")


def in_sample_auroc(sample, believed):
    """How a model that has seen the pairs tells those it was told to believe from the others."""
    features = features_of(sample)
    moments = weighted_moments(features.image, features.text, believed.astype(np.float32) + np.float32(0.02))
    return auroc(believed, project(fit_cca(moments, 24, ridge_rows=1.0), features).similarity())


def test_nothing_is_learned_from_a_corpus_without_correspondence():
    """A model that saw the pairs memorizes them, so that any of them can be made to look right; ours knows nothing."""
    rng = np.random.default_rng(0)
    sample = sample_of(rng.standard_normal((400, 300)), rng.standard_normal((400, 200)))
    assert in_sample_auroc(sample, rng.random(400) < 0.5) > 0.95
    model = quick_fit(sample, image_dimensions=100)
    scores = score_sample(model, sample)
    assert model.diagnostics["separable"] == "no"
    assert abs(float(scores.signals["crossfit_csls"].mean())) < 0.2
    assert ((scores.noise_prob > 0.3) & (scores.noise_prob < 0.7)).all()


def with_copies_of_wrong_pairs(wrong=20, copies=8):
    """A corpus in which some wrong pairs come eight times; (sample, is mismatched, number of pairs without a copy).

    Copies have nearly the same picture, bytes of their own, and the same wrong caption.
    """
    sample, noisy = corpus(rows=600, mismatched=0.3)
    chosen = np.nonzero(noisy)[0][:wrong]
    lone = np.setdiff1d(np.arange(600), chosen)
    repeated = taken(sample, np.repeat(chosen, copies))
    jitter = 0.003 * np.random.default_rng(5).standard_normal(repeated.image.shape)
    repeated = replace(
        repeated,
        image=halved(repeated.image + jitter),
        image_sha256=[f"copy-{row}" for row in range(wrong * copies)],
    )
    return joined(taken(sample, lone), repeated), noisy[lone], len(lone)


def test_copies_of_a_wrong_pair_do_not_vouch_for_each_other():
    sample, noisy, lone = with_copies_of_wrong_pairs()
    model = quick_fit(sample)
    scores = score_sample(model, sample)
    assert (scores.fold[lone:].reshape(-1, 8) == scores.fold[lone::8, None]).all()
    agreement = scores.signals["crossfit_csls"]
    assert agreement[lone:].mean() == pytest.approx(agreement[:lone][noisy].mean(), abs=0.4)
    assert agreement[:lone][~noisy].mean() > 2
    probability = scores.noise_prob
    assert probability[lone:].mean() > probability[:lone][noisy].mean() - 0.25
    assert np.median(probability[lone:]) > 0.8
    assert probability[:lone][~noisy].mean() < 0.1


def test_twins_do_not_vouch_for_each_other_where_every_pair_has_one():
    """Pairs of a random corpus, each twice with nearly the same picture: only a leak could call them matches."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.standard_normal((200, 100)), 2, axis=0)
    image = image + 0.02 * rng.standard_normal(image.shape)
    sample = sample_of(image, np.repeat(rng.standard_normal((200, 60)), 2, axis=0))
    model = quick_fit(sample)
    scores = score_sample(model, sample)
    assert model.diagnostics["picture_groups"] == 200
    assert (scores.fold[::2] == scores.fold[1::2]).all()
    assert abs(float(scores.signals["crossfit_csls"].mean())) < 0.3
    assert model.diagnostics["separable"] == "no"


@pytest.mark.parametrize("rounds", [1, 2])
def test_no_model_was_trained_on_its_fold_or_a_twin_of_it(monkeypatch, rounds):
    """Every way training rows take: moments of CCA, both ridges, neighbours' weights, reference pairs."""
    sample, _, _ = with_copies_of_wrong_pairs(wrong=30, copies=3)
    seen = []
    honest = module.fit_kernel_ridge

    def spy(source, target, weights, landmarks):
        seen.append(source)
        return honest(source, target, weights, landmarks)

    monkeypatch.setattr(module, "fit_kernel_ridge", spy)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    model = quick_fit(sample, rounds=rounds, folds=4, signals="all")
    known = model.fitted.known
    features = model.fitted.sample
    for number, fold in enumerate(model.fitted.folds):
        held_out = known.fold == number
        trained = known.trained[:, number]
        assert not (trained & held_out).any()
        assert not near(known.sketch[trained], known.sketch[held_out]).any()
        assert not fold.neighbour_weights[~trained].any()
        assert fold.neighbour_weights[trained].all()
        assert held_out[fold.bank].all()
        for references in (fold.neighbours, fold.published.pairs):
            assert trained[references.rows].all()
    assert len(seen) == 4 * 2 * rounds
    for number, source in enumerate(seen[::2]):
        expected = features.image_unit[known.trained[:, number % 4]]
        np.testing.assert_allclose(source, expected, atol=1e-3)


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
def test_probabilities_are_calibrated(rate):
    sample, noisy = corpus(rows=1000, mismatched=rate)
    model = quick_fit(sample)
    scores = score_sample(model, sample)
    assert auroc(noisy, scores.noise_prob) > 0.98
    assert calibration_error(scores.noise_prob, noisy) < 0.04
    assert model.diagnostics["separable"] == "yes"
    assert model.diagnostics["noise_share"] == pytest.approx(rate, abs=0.04)


def test_a_clean_corpus_is_left_alone():
    sample, _ = corpus(rows=1000, mismatched=0)
    model = quick_fit(sample)
    assert (score_sample(model, sample).noise_prob < 0.5).mean() >= 0.95
    assert model.diagnostics["separable"] == "weak"


def test_the_second_round_helps_where_most_captions_are_wrong():
    sample, noisy = corpus(rows=700, mismatched=0.6, noise=1.0)
    first, second = (auroc(noisy, score_sample(quick_fit(sample, rounds=r), sample).noise_prob) for r in (1, 2))
    assert first > 0.9
    assert second > first + 0.005


def test_rank_orders_as_probability_does():
    sample, _ = corpus(rows=400)
    scores = score_sample(quick_fit(sample), sample)
    assert ((scores.noise_rank >= 0) & (scores.noise_rank <= 1)).all()
    assert scores.noise_rank.mean() == pytest.approx(0.5, abs=0.02)
    order = np.argsort(scores.noise_rank, kind="stable")
    assert (np.diff(scores.noise_prob[order]) >= 0).all()


@pytest.mark.parametrize("joint_space", [False, True], ids=["strangers", "joint"])
@pytest.mark.parametrize("name", SIGNAL_NAMES)
def test_a_single_signal_orders_the_pairs(name, joint_space):
    sample, _ = corpus(rows=220, joint_space=joint_space)
    if name in JOINT_ONLY and not joint_space:
        with pytest.raises(InputError, match=name):
            quick_fit(sample, signals=(name,))
        return
    model = quick_fit(sample, signals=(name,), rounds=1)
    scores = score_sample(model, sample)
    assert model.diagnostics["signals"] == [name]
    assert ((scores.noise_prob >= 0) & (scores.noise_prob <= 1)).all()
    towards_noise = scores.signals[name] * (1 if name in ("itc_loss", "neighbour_disagreement") else -1)
    order = np.argsort(towards_noise, kind="stable")
    # Standardised by fold or not, a signal that is published as it stands is the order of the pairs.
    assert (np.diff(scores.noise_prob[order]) >= -1e-5).all()


@pytest.mark.parametrize("signals", ["all", ("itc_loss", "crossfit_similarity"), ("osa", "topology")])
@pytest.mark.parametrize("joint_space", [False, True], ids=["strangers", "joint"])
def test_several_signals_are_fused(signals, joint_space):
    sample, noisy = corpus(rows=260, joint_space=joint_space)
    model = quick_fit(sample, signals=signals)
    scores = score_sample(model, sample)
    assert set(model.diagnostics["signals"]) <= set(scores.signals)
    assert auroc(noisy, scores.noise_prob) > 0.9


def two_strata():
    """Few wrong captions in one half, many in the other, and a handful of pairs of a third kind or of none."""
    clean, few = corpus(rows=400, mismatched=0.1)
    dirty, many = corpus(rows=400, mismatched=0.6)
    dirty = replace(dirty, image_sha256=[f"other {s}" for s in dirty.image_sha256])
    sample = replace(joined(clean, dirty), strata=None)
    strata = ["a"] * 400 + ["b"] * 380 + ["rare"] * 10 + [None] * 10
    return replace(sample, strata=strata), np.concatenate([few, many])


def test_strata_have_posteriors_of_their_own_where_they_are_large_enough():
    sample, noisy = two_strata()
    model = quick_fit(sample, stratum_pairs=200)
    pooled = quick_fit(replace(sample, strata=None))
    own, shared = score_sample(model, sample), score_sample(pooled, replace(sample, strata=None))
    fits = {name: figures["stratum"]["fit"] for name, figures in model.diagnostics["strata"].items()}
    assert fits == {"a": "own", "b": "own", "rare": "pooled"}
    assert "10 pairs, fewer than 200" in model.diagnostics["strata"]["rare"]["stratum"]["reason"]
    assert model.strata == ("a", "b")
    assert (own.noise_prob[780:] == shared.noise_prob[780:]).all()
    assert (own.noise_rank == shared.noise_rank).all()
    assert own.noise_prob[:400].mean() == pytest.approx(noisy[:400].mean(), abs=0.04)
    assert own.noise_prob[400:780].mean() == pytest.approx(noisy[400:780].mean(), abs=0.06)
    assert own.noise_prob[:400].mean() < shared.noise_prob[:400].mean()
    assert "strata" not in pooled.diagnostics


def test_no_stratum_large_enough_means_one_posterior_for_all():
    sample, _ = two_strata()
    model = quick_fit(sample, stratum_pairs=1000)
    assert model.strata == ()
    assert {figures["stratum"]["fit"] for figures in model.diagnostics["strata"].values()} == {"pooled"}


def test_equal_pairs_count_at_most_eight_times():
    sample, _ = corpus(rows=150)
    eight = joined(sample, taken(sample, [0] * (MOST_COPIES - 1)))
    many = joined(sample, taken(sample, [0] * 200))
    assert quick_fit(eight).to_bytes() == quick_fit(many).to_bytes()
    assert quick_fit(sample).to_bytes() != quick_fit(eight).to_bytes()


def test_equal_pairs_get_equal_scores():
    sample, _ = corpus(rows=200)
    repeated = joined(sample, taken(sample, [3, 3, 50]))
    scores = score_sample(quick_fit(repeated), repeated)
    for values in (scores.fold, scores.noise_prob, scores.noise_rank, *scores.signals.values()):
        assert (values[200:] == values[[3, 3, 50]]).all()


@pytest.mark.parametrize("rows", [0, 10, 99])
def test_too_few_pairs_are_refused(rows):
    sample, _ = corpus(rows=200)
    with pytest.raises(InputError, match=f"at least 100 usable pairs; this input has {rows}"):
        quick_fit(taken(sample, list(range(rows))))


def test_a_hundred_pairs_are_enough():
    sample, _ = corpus(rows=100)
    assert np.isfinite(score_sample(quick_fit(sample), sample).noise_prob).all()


def test_constant_pictures_or_captions_are_refused():
    sample, _ = corpus(rows=200)
    with pytest.raises(InputError, match="same picture"):
        quick_fit(replace(sample, image=np.repeat(sample.image[:1], 200, axis=0)))
    with pytest.raises(InputError, match="captions say the same"):
        quick_fit(replace(sample, text=np.repeat(sample.text[:1], 200, axis=0)))
    with pytest.raises(InputError, match="same picture"):
        quick_fit(replace(sample, image_sha256=["one"] * 200))


def test_three_clean_pairs_among_a_thousand_are_not_found_but_none_is_invented():
    sample, noisy = corpus(rows=1000, mismatched=0.997)
    model = quick_fit(sample)
    scores = score_sample(model, sample)
    assert noisy.sum() == 997
    assert model.diagnostics["separable"] == "no"
    assert ((scores.noise_prob > 0.3) & (scores.noise_prob < 0.7)).all()


def test_rows_without_a_direction_are_left_out_of_the_fit():
    sample, _ = corpus(rows=200)
    image, text = sample.image[:4].copy(), sample.text[:4].copy()
    image[0, 3], text[1, 5] = np.nan, np.inf
    image[2], text[3] = 0, 0
    broken = replace(taken(sample, range(4)), image_sha256=["w", "x", "y", "z"], image=image, text=text)
    assert quick_fit(joined(sample, broken)).to_bytes() == quick_fit(sample).to_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_embeddings_that_are_all_broken_are_told(value):
    sample, _ = corpus(rows=200)
    with pytest.raises(InputError, match=r"this input has 0 .and 200 whose embeddings are zero or not finite"):
        quick_fit(replace(sample, image=np.full_like(sample.image, value)))


def test_pictures_with_several_captions_do_not_hide_mismatches():
    """Other captions of a picture match it: taken for mismatches, or left in the bank, they would bias the share."""
    sample, _ = corpus(rows=120, mismatched=0, joint_space=True)
    rows = np.repeat(np.arange(120), 5)
    rng = np.random.default_rng(0)
    text = halved(sample.text[rows] + 0.05 * rng.standard_normal((600, sample.text.shape[1])))
    exchanged = rng.permutation(600)[:240]
    caption = np.arange(600)
    caption[exchanged] = np.roll(exchanged, 1)
    noisy = rows != rows[caption]
    names = [f"caption {row}" for row in caption]
    pictures = [sample.image_sha256[row] for row in rows]
    image, text = sample.image[rows], text[caption]
    several = replace(sample, image_sha256=pictures, captions=names, image=image, text=text, row_ids=None)
    model = quick_fit(several)
    assert model.diagnostics["noise_share"] == pytest.approx(noisy.mean(), abs=0.05)
    assert calibration_error(score_sample(model, several).noise_prob, noisy) < 0.05
