from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from curate.noise import fusion
from curate.noise.fusion import Evidence, Fusion, fit_fusion, sum_of
from tests.noise.synthetic import auroc, unit

FOLDS = 4


def evidence(rows=600, noisy=0.4, seed=0, columns=5):
    """Column 0 tells mismatches well, column 1 less well, the rest is noise; (evidence, is mismatched)."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(rows) < noisy
    strength = np.array([3.0, 1.0] + [0.0] * (columns - 2))

    def signals(count, matching):
        return (rng.standard_normal((count, columns)) + strength * matching[:, None]).astype(np.float32)

    made = Evidence(
        observed=signals(rows, ~wrong),
        fold=(np.arange(rows) % FOLDS).astype(np.int8),
        random=signals(2 * rows, np.zeros(2 * rows)),
        random_fold=(np.arange(2 * rows) % FOLDS).astype(np.int8),
        hard=signals(rows, np.full(rows, 0.3)),
        hard_fold=(np.arange(rows) % FOLDS).astype(np.int8),
        hard_source=np.arange(rows),
    )
    return made, wrong


def regressed(made, start):
    """Coefficients of the regressions alone, without the start that the result is blended with."""
    return regression(made, start).coefficients


def regression(made, start):
    fitted, share, random = fit_fusion(made, start), fusion.REGRESSION_SHARE, start.score(made).random
    coefficients = fitted.coefficients - (1 - share) * start.coefficients / random.std()
    intercepts = fitted.intercepts + (1 - share) * random.mean() / random.std()
    return Fusion(coefficients / share, intercepts / share)


def test_the_informative_signal_is_found_among_noise():
    made, wrong = evidence()
    start = sum_of([1, 2], 5, FOLDS)
    before, after, learned_only = (
        auroc(wrong, -each.score(made).observed) for each in (start, fit_fusion(made, start), regression(made, start))
    )
    assert before < 0.75
    assert after > before + 0.1
    assert learned_only > 0.95
    learned = regressed(made, start)
    assert (learned[:, 0] > 2 * np.abs(learned[:, 1:]).max(axis=1)).all()


def test_signals_without_information_do_no_harm():
    made, wrong = evidence(columns=30)
    alone = sum_of([0], 30, FOLDS)
    before, after = (auroc(wrong, -each.score(made).observed) for each in (alone, fit_fusion(made, alone)))
    assert after > before - 0.01


def test_no_pair_has_a_say_in_its_own_score(monkeypatch):
    """Whatever the rows of a fold are, its own regression is the same, and that of all other folds is not."""
    monkeypatch.setattr(fusion, "PASSES", 1)
    made, _ = evidence()
    start = sum_of([0], 5, FOLDS)
    changed = {}
    for name, fold in (("observed", made.fold), ("random", made.random_fold), ("hard", made.hard_fold)):
        signals = getattr(made, name).copy()
        # The first signal, which the start rests on, stays: who is believed does not change.
        signals[fold == 2, 1:] = 7 - 2 * signals[fold == 2, 1:]
        changed[name] = signals
    before, after = (directions(fit_fusion(each, start)) for each in (made, replace(made, **changed)))
    np.testing.assert_allclose(before[2], after[2], rtol=1e-9)
    for other in (0, 1, 3):
        assert np.abs(before[other] - after[other]).max() > 0.1


def directions(fitted):
    """What each fold's regression makes of all signals but the first, whatever its units; float [folds, f - 1]."""
    return unit(fitted.coefficients[:, 1:])


def test_what_one_fold_alone_says_is_not_learned_there():
    """A signal that tells matches from mismatches in fold 0 only, as a leak would: fold 0 must not profit."""
    made, _ = evidence(columns=6)
    leak = made.observed.copy()
    leak[made.fold == 0, 5] += 5
    learned = regressed(replace(made, observed=leak), sum_of([0], 6, FOLDS))
    assert abs(learned[0, 5]) < 0.1
    assert (learned[1:, 5] > 0.2).all()


@pytest.fixture
def many_near_misses(monkeypatch):
    """Near misses weigh as much as they do where they are the usual mistake."""
    monkeypatch.setattr(fusion, "MIN_HARD_PROPORTION", 1.0)


@pytest.mark.usefixtures("many_near_misses")
def test_popular_captions_are_not_learned_as_noise():
    """A signal that only says how often a caption is drawn as a near one: in observed and in shuffled pairs alike."""
    rng = np.random.default_rng(0)
    made, _ = evidence(rows=800)
    popularity = rng.standard_normal(800).astype(np.float32)
    chance = np.exp(0.7 * popularity)
    source = rng.choice(800, 4800, p=chance / chance.sum())
    hard = (rng.standard_normal((4800, 5)) + 0.3).astype(np.float32)
    hard[:, 4] = popularity[source]
    observed, random = made.observed.copy(), made.random.copy()
    observed[:, 4] = popularity
    random[:, 4] = popularity[np.tile(np.arange(800), 2)]
    fold = (source % FOLDS).astype(np.int8)
    popular = replace(made, observed=observed, random=random, hard=hard, hard_fold=fold, hard_source=source)
    learned = regressed(popular, sum_of([0], 5, FOLDS))
    assert (np.abs(learned[:, 4]) < 0.15 * learned[:, 0]).all()


@pytest.mark.usefixtures("many_near_misses")
def test_near_misses_with_captions_of_mismatched_pairs_count_little():
    """They are no evidence of how a right caption nearly misses."""
    made, wrong = evidence(rows=1000)
    odd = made.hard.copy()
    odd[wrong[made.hard_source], 3] += 4
    learned = regressed(replace(made, hard=odd), sum_of([0], 5, FOLDS))
    assert (learned[:, 3] > -0.2 * learned[:, 0]).all()


def test_pairs_that_seem_mismatched_count_little_as_matches():
    """A signal that mismatched pairs have and neither matching nor shuffled ones: hardly a sign of a match."""
    made, wrong = evidence(rows=1000)
    observed = made.observed.copy()
    observed[wrong, 3] += 1
    learned = regressed(replace(made, observed=observed), sum_of([0], 5, FOLDS))
    assert (learned[:, 3] < 0.55 * learned[:, 0]).all()


def test_without_near_misses_the_shuffled_pairs_do():
    made, wrong = evidence()
    none = replace(
        made,
        hard=made.hard[:0],
        hard_fold=made.hard_fold[:0],
        hard_source=made.hard_source[:0],
    )
    learned = regression(none, sum_of([1], 5, FOLDS))
    assert auroc(wrong, -learned.score(none).observed) > 0.95


@pytest.mark.parametrize("noisy", [0.0, 1.0])
def test_all_right_and_all_wrong_are_no_error(noisy):
    made, _ = evidence(noisy=noisy)
    fitted = fit_fusion(made, sum_of([0], 5, FOLDS))
    assert np.isfinite(fitted.coefficients).all()
    assert np.isfinite(fitted.score(made).observed).all()


def test_the_start_is_a_plain_mean():
    made, _ = evidence()
    scored = sum_of([0, 3], 5, FOLDS).score(made)
    np.testing.assert_allclose(scored.observed, made.observed[:, [0, 3]].mean(axis=1), atol=1e-6)


def test_scores_are_those_of_each_folds_own_regression():
    made, _ = evidence()
    fitted = fit_fusion(made, sum_of([0], 5, FOLDS))
    scored = fitted.score(made)
    for field in fields(scored):
        signals = getattr(made, field.name)
        fold = made.fold if field.name == "observed" else getattr(made, f"{field.name}_fold")
        expected = (signals * fitted.coefficients[fold]).sum(axis=1) + fitted.intercepts[fold]
        np.testing.assert_allclose(getattr(scored, field.name), expected, atol=1e-5)


def test_a_score_depends_neither_on_the_rows_beside_it_nor_on_how_they_lie_in_memory():
    made, _ = evidence(columns=40)
    # Two large terms that cancel: what is left differs in single precision if it is summed in another order.
    made.observed[:, 39] = made.observed[:, 0]
    coefficients = np.random.default_rng(0).standard_normal((1, 40))
    coefficients[0, [0, 39]] = 1e10, -1e10
    fitted = fusion.Fusion(coefficients, np.zeros(1))
    whole = fitted(made.observed, 0)
    picked = fitted(np.asfortranarray(made.observed), 0)
    alone = np.concatenate([fitted(made.observed[row : row + 1], 0) for row in range(len(whole))])
    assert whole.tobytes() == picked.tobytes() == alone.tobytes()
