"""Moments are the seed's, hit every step, and are waited for."""

import random
import threading

from curate.bench.chaos.moments import LONGEST_DELAY, Moment, count_files, draw_moment, wait_for

FOLDERS = {"embed": 8, "artifacts/noise": 3, "annotations": 8}


def drawn(seed, count):
    rng = random.Random(seed)
    return [draw_moment(rng, FOLDERS, input_is_read=False) for _ in range(count)]


def test_the_same_seed_gives_the_same_moments():
    assert drawn("0-7", 20) == drawn("0-7", 20)
    assert drawn("0-7", 20) != drawn("1-7", 20)


def test_every_step_and_the_time_before_is_hit_at_a_file_it_has():
    moments = drawn(0, 400)
    assert {moment.folder for moment in moments} == {"", *FOLDERS}
    assert all(1 <= moment.files <= FOLDERS[moment.folder] for moment in moments if moment.folder)
    assert {moment.files for moment in moments if moment.folder == "embed"} == set(range(1, 9))
    delays = [moment.delay for moment in moments]
    assert min(delays) == 0.0
    assert 0.9 * LONGEST_DELAY < max(delays) <= LONGEST_DELAY


def test_a_moment_can_be_kept_out_of_the_time_before_the_input_is_read():
    rng = random.Random(0)
    assert {draw_moment(rng, FOLDERS, input_is_read=True).folder for _ in range(100)} == set(FOLDERS)


def test_the_nth_file_is_waited_for(tmp_path):
    (tmp_path / "embed").mkdir()
    (tmp_path / "embed" / "one").touch()
    second = threading.Timer(0.05, (tmp_path / "embed" / ".tmp-two").touch)
    second.start()
    assert wait_for(Moment("embed", 2, 0.0), lambda folder: count_files(tmp_path / folder), lambda: False)
    second.join()


def test_a_run_that_has_ended_is_not_waited_for(tmp_path):
    assert not wait_for(Moment("embed", 1, 0.0), lambda folder: count_files(tmp_path / folder), lambda: True)
    assert not wait_for(Moment("", 0, 0.0), lambda folder: count_files(tmp_path / folder), lambda: True)


def test_the_first_moment_is_when_the_run_has_its_lock(tmp_path):
    (tmp_path / "_state" / "owners").mkdir(parents=True)
    (tmp_path / "_state" / "owners" / "00000000.json").touch()
    assert wait_for(Moment("", 0, 0.0), lambda folder: count_files(tmp_path / folder), lambda: False)
