"""What the rounds promise: nobody vouches for himself, early rejections can come back, and there is an end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from curate.errors import CurateError
from curate.noise import fit
from curate.noise import refine as module
from curate.noise.fit import canonical
from curate.noise.grouping import near
from curate.noise.heads import HeadOptions
from curate.noise.refine import RefineOptions, _Believed, _Refinement, refine_noise
from curate.noise.refined import RefinedModel
from curate.noise.signals import evidence_of
from tests.noise.synthetic import SMALL, auroc, corpus, quick_fit, score_sample, taken

pytestmark = pytest.mark.filterwarnings("error")
QUICK = HeadOptions(epochs=3, batch=64)


def quick_refine(sample, noise, options=SMALL, seed=0, **refine):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fit_mixture", "fit_strata"):
            patch.setattr(fit, name, partial(getattr(fit, name), draws=2))
        return refine_noise(sample, noise, options, RefineOptions(**{"heads": QUICK, **refine}), seed)


def refined_scores(model, sample):
    fold = score_sample(model.noise, sample).fold
    return model.score(fold, sample.image, sample.text, sample.strata)


@pytest.fixture(scope="module")
def noisy():
    return corpus(rows=400, mismatched=0.4)


@pytest.fixture(scope="module")
def plain(noisy):
    return quick_fit(noisy[0])


@pytest.fixture(scope="module")
def refined(noisy, plain):
    """Two rounds, never settled."""
    return quick_refine(noisy[0], plain, rounds=2, settled=0)


@pytest.fixture(scope="module")
def cold(noisy):
    """NLIP's signal alone, after a warm-up that was far too short."""
    return quick_fit(noisy[0], signals=("itc_loss",))


def test_early_rejections_can_come_back(noisy, cold):
    """What the warm-up says is worth little; rounds set it right, both ways."""
    sample, mismatched = noisy
    model = quick_refine(sample, cold, replace(SMALL, signals=("itc_loss",)), rounds=3)
    before, after = score_sample(cold, sample), refined_scores(model, sample)
    assert auroc(mismatched, before.noise_rank) < 0.8
    assert auroc(mismatched, after.noise_rank[-1]) > 0.97
    rejected = (before.noise_prob > 0.5) & ~mismatched
    assert rejected.sum() > 20
    assert (after.noise_prob[-1][rejected] < 0.5).mean() > 0.9
    assert auroc(mismatched, after.noise_prob[-1]) >= auroc(mismatched, after.noise_prob[0]) - 0.005


def test_where_noise_is_found_already_rounds_do_no_harm(noisy, plain, refined):
    sample, mismatched = noisy
    before, after = score_sample(plain, sample), refined_scores(refined, sample)
    assert auroc(mismatched, after.noise_rank[-1]) >= auroc(mismatched, before.noise_rank) - 0.005
    assert after.noise_prob.shape == (2, 400)


def test_the_sample_scores_what_the_rounds_believed_of_it(noisy, refined):
    """Heads, banks and posteriors are kept as they were used: counts of the rounds come out of the model again."""
    after = refined_scores(refined, noisy[0]).noise_prob
    rounds = refined.diagnostics["rounds"]
    assert [each["trusted"] for each in rounds] == (after < 0.5).sum(axis=1).tolist()
    was, now = after < 0.5
    assert rounds[1]["entered"] == (now & ~was).sum()
    assert rounds[1]["left"] == (was & ~now).sum()
    assert refined.diagnostics["ended"] == "all rounds done"


def test_rounds_end_when_the_trusted_pairs_settle(noisy, plain):
    model = quick_refine(noisy[0], plain, rounds=6, settled=0.02)
    changed = [each["changed"] for each in model.diagnostics["rounds"]]
    assert model.diagnostics["ended"] == "settled"
    assert len(model.rounds) == len(changed) < 6
    assert changed[-1] < 0.02
    assert all(share >= 0.02 for share in changed[:-1])


def test_without_trusted_pairs_there_are_no_rounds(noisy, plain):
    model = quick_refine(noisy[0], plain, trusted_below=1e-6)
    assert model.rounds == ()
    assert "too few trusted pairs: 0" in model.diagnostics["ended"]
    assert RefinedModel.from_bytes(model.to_bytes(), plain).rounds == ()


def refinement(sample, noise, **refine):
    rows = canonical(sample, np.arange(len(sample.captions)), 0)
    evidence = evidence_of("default", sample.joint_space)
    return _Refinement(sample, rows, noise, evidence, SMALL, RefineOptions(heads=QUICK, **refine), 0)


def test_no_heads_are_trained_on_their_fold_or_a_twin_of_it(noisy, plain, monkeypatch):
    seen = {}
    honest = module.train_heads

    def spy(start, pairs, options, seed):
        seen[tuple(seed)[2:]] = pairs.features.sketch
        return honest(start, pairs, options, seed)

    monkeypatch.setattr(module, "train_heads", spy)
    quick_refine(noisy[0], plain, rounds=2, settled=0)
    assert set(seen) == {(number, fold) for number in range(2) for fold in range(5)}
    known = plain.fitted.known
    for (_, fold), sketch in seen.items():
        assert not near(sketch, known.sketch[known.fold == fold]).any()


def test_a_folds_own_pairs_change_nothing_in_its_heads(noisy, plain):
    """Cross-fitting: other captions in the fold, the same heads; other captions elsewhere, other heads."""
    fit_ = refinement(noisy[0], plain)
    believed = _Believed(np.zeros(400, np.float32), np.ones(400, np.float32))
    before = fit_._trained(2, believed, 0)
    honest = fit_.features
    for fold, same in ((2, True), (3, False)):
        rows = fit_.held_out[fold]
        text = honest.text.copy()
        text[rows] = text[np.roll(rows, 1)]
        fit_.features = replace(honest, text=text)
        after = fit_._trained(2, believed, 0)
        assert np.array_equal(before.text_map, after.text_map) == same


def test_neither_row_order_nor_cores_change_a_byte(noisy, plain, refined, monkeypatch):
    sample = taken(noisy[0], np.random.default_rng(1).permutation(400))
    for cores in (1, 4):
        monkeypatch.setattr(fit.os, "cpu_count", lambda cores=cores: cores)
        assert quick_refine(sample, plain, rounds=2, settled=0).to_bytes() == refined.to_bytes()


def test_a_row_scores_the_same_whoever_stands_beside_it_and_after_writing_and_reading(noisy, refined):
    sample = noisy[0]
    read = RefinedModel.from_bytes(refined.to_bytes(), refined.noise)
    assert read.to_bytes() == refined.to_bytes()
    whole, part = refined_scores(refined, sample), refined_scores(read, taken(sample, range(7, 30)))
    for name in ("noise_prob", "noise_rank", "negative_impact"):
        assert np.array_equal(getattr(whole, name)[..., 7:30], getattr(part, name))


@pytest.fixture(scope="module", params=[False, True], ids=["strangers", "joint"])
def towers(request):
    """Pairs of both kinds of towers, which are mismatched, and their noise model."""
    sample, mismatched = corpus(rows=300, mismatched=0.3, joint_space=request.param)
    return sample, mismatched, quick_fit(sample)


@pytest.mark.parametrize("loss", ["nitc", "npc", "dsdmr", "infonce"])
def test_every_loss_goes_end_to_end_for_both_kinds_of_towers(towers, loss):
    sample, mismatched, noise = towers
    model = quick_refine(sample, noise, heads=replace(QUICK, loss=loss), rounds=2, settled=0)
    scores = refined_scores(model, sample)
    assert auroc(mismatched, scores.noise_rank[-1]) > 0.97
    assert np.isfinite(scores.negative_impact).all()


@pytest.mark.parametrize(
    "signals", [("crossfit_similarity",), ("clip_similarity",), ("clip_csls",), ("itc_loss",), "all"]
)
def test_a_signal_alone_is_made_anew_in_the_space_of_the_heads(signals):
    sample, mismatched = corpus(rows=300, mismatched=0.3, joint_space=True)
    noise = quick_fit(sample, signals=signals)
    model = quick_refine(sample, noise, replace(SMALL, signals=signals), rounds=1)
    scores = refined_scores(model, sample)
    assert auroc(mismatched, scores.noise_rank[-1]) > 0.95
    if signals != "all":
        assert len(model.rounds[0].evidence) == (6 if signals == ("clip_csls",) else 1)


def test_negative_impact_alone_is_made_anew_too(noisy):
    """Without a pair that is certainly clean it knows nothing, and says so."""
    sample = noisy[0]
    options = replace(SMALL, signals=("negative_impact",))
    model = quick_refine(sample, quick_fit(sample, signals=("negative_impact",)), options, trusted_below=0.9, rounds=1)
    scores = refined_scores(model, sample)
    assert np.isfinite(scores.noise_prob).all()


def test_pairs_of_a_stratum_have_their_own_posterior_in_every_round(noisy):
    """Half of the pairs from a place where nothing is wrong, and half from one where much is."""
    clean, bad = corpus(rows=300, mismatched=0.0, seed=3)[0], corpus(rows=300, mismatched=0.6, seed=3)[0]
    order = np.random.default_rng(0).permutation(300)
    first, second = order[:150], order[150:]
    sample = replace(
        taken(bad, range(300)),
        captions=[(clean if row in set(first.tolist()) else bad).captions[row] for row in range(300)],
        text=np.where(np.isin(np.arange(300), first)[:, None], clean.text, bad.text),
        strata=["clean" if row in set(first.tolist()) else "bad" for row in range(300)],
    )
    options = replace(SMALL, stratum_pairs=100)
    noise = quick_fit(sample, stratum_pairs=100)
    model = quick_refine(sample, noise, options, rounds=2, settled=0)
    assert model.strata == (("bad", "clean"), ("bad", "clean"))
    scores = refined_scores(model, sample)
    assert scores.noise_prob[-1][first].mean() < 0.2 < scores.noise_prob[-1][second].mean()
    assert [each["trusted"] for each in model.diagnostics["rounds"]] == (scores.noise_prob < 0.5).sum(axis=1).tolist()


def test_a_noise_model_of_other_pairs_is_refused(noisy, plain):
    with pytest.raises(CurateError, match="fitted on other pairs"):
        quick_refine(taken(noisy[0], range(350)), plain)
