"""What to type after a run fits what it found."""

import shlex

import pytest

from curate.next_steps import next_steps
from curate.summary import Summary


def summary(labels=None, statuses=None, **noise):
    statuses = statuses or {"ok": 1000}
    pairs = sum(statuses.values())
    return Summary(pairs, pairs, labels or {}, statuses, {}, 0, "noisy", [], noise=noise)


LABELS = {"clean": 700, "uncertain": 100, "noisy": 200}


def commands(*arguments):
    return [step.command for step in next_steps(*arguments)]


def test_a_run_that_separates_is_cut_by_probability():
    assert commands(summary(LABELS, separable="yes"), "runs/x") == [
        "curate report runs/x",
        "curate inspect runs/x --top boundary",
        'curate export runs/x --where "noise_prob < 0.5" --out runs/x-kept',
    ]


@pytest.mark.parametrize(("separable", "where"), [("weak", "noise_prob < 0.5"), ("no", "status == 'ok'")])
def test_a_probability_that_means_little_cuts_little(separable, where):
    last = next_steps(summary(LABELS, separable=separable), "runs/x")[-1]
    assert f'--where "{where}"' in last.command
    assert "separable" in last.why


def test_without_a_noise_stage_there_is_no_boundary():
    assert commands(summary(), "runs/x") == [
        "curate report runs/x",
        "curate export runs/x --where \"status == 'ok'\" --out runs/x-kept",
    ]


def test_many_unusable_pairs_come_first():
    found = summary(LABELS, {"ok": 900, "missing_caption": 3, "corrupt_image": 20}, separable="yes")
    first = next_steps(found, "runs/x")[0]
    assert first.command == "curate inspect runs/x --status corrupt_image"
    assert first.why == "20 pairs, and why"


def test_a_few_unusable_pairs_are_nobodys_next_step():
    assert not any("--status" in each for each in commands(summary(LABELS, {"ok": 995, "corrupt_image": 5}), "runs/x"))


def test_a_trial_is_followed_by_the_whole():
    assert commands(summary(LABELS, separable="yes"), "runs/x", "curate run p.yaml")[-1] == "curate run p.yaml"


def test_a_path_with_spaces_can_be_typed():
    for command in commands(summary(LABELS, separable="yes"), "my runs/x"):
        assert "my runs/x" in shlex.split(command) or "my runs/x-kept" in shlex.split(command)
