"""Which trials a bench draws, and what it refuses."""

from collections import Counter

import pytest

from curate.bench.chaos.disturbances import KINDS
from curate.bench.chaos.suite import draw_kinds, open_bench
from curate.errors import InputError

WEIGHTS = {"kill_driver": 4, "disk_full": 4, "lose_ray_node": 1}


def test_kinds_are_the_seeds():
    assert draw_kinds(WEIGHTS, 30, 1) == draw_kinds(WEIGHTS, 30, 1)
    assert draw_kinds(WEIGHTS, 30, 1) != draw_kinds(WEIGHTS, 30, 2)


def test_more_runs_begin_with_the_same_trials():
    assert draw_kinds(WEIGHTS, 200, 0)[:20] == draw_kinds(WEIGHTS, 20, 0)


def test_every_kind_comes_first_once_and_then_as_often_as_it_weighs():
    drawn = draw_kinds(WEIGHTS, 3 + 9 * 2, 0)
    assert set(drawn[:3]) == set(WEIGHTS)
    assert Counter(drawn[3:]) == {"kill_driver": 8, "disk_full": 8, "lose_ray_node": 2}


def test_an_unknown_kind_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(InputError, match="asteroid") as refused, open_bench(tmp_path, ["asteroid"]):
        pass
    assert all(kind in str(refused.value) for kind in KINDS)


def test_a_folder_of_another_version_is_refused(tmp_path):
    (tmp_path / "setting.json").write_text('{"version": "0.0.1", "port": 1}')
    with pytest.raises(InputError, match="Name a new --work"), open_bench(tmp_path, ["kill_driver"]):
        pass
