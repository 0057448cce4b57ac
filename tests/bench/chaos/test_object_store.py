"""The faulty store fails as it says and by its seed, and what it answers past its faults is right."""

import time

import pytest
import s3fs

from curate.bench.chaos.object_store import DELAY, FAULTS, TRUNCATED, Faults, faulty_store
from curate.errors import InputError


def drawn(seed, rate, kinds=FAULTS, count=400):
    faults = Faults(seed, rate, kinds)
    return [faults.draw(has_body=number % 2 == 0) for number in range(count)], faults


def test_the_same_seed_draws_the_same_faults():
    assert drawn(3, 0.2)[0] == drawn(3, 0.2)[0]
    assert drawn(3, 0.2)[0] != drawn(4, 0.2)[0]


def test_faults_come_at_the_rate_and_are_counted():
    found, faults = drawn(1, 0.2)
    assert 50 < sum(fault is not None for fault in found) < 110
    assert sum(faults.injected.values()) == sum(fault is not None for fault in found)
    assert set(faults.injected) == set(FAULTS)
    assert faults.requests == 400


def test_only_an_answer_with_a_body_stops_in_the_middle():
    found, _ = drawn(1, 0.9, [TRUNCATED])
    assert all(fault is None for fault in found[1::2])
    assert any(fault is not None for fault in found[::2])


@pytest.mark.parametrize(("rate", "kinds"), [(0.1, ["flood"]), (1.0, FAULTS), (-0.1, FAULTS)])
def test_impossible_faults_are_refused(rate, kinds):
    with pytest.raises(InputError, match="there are 500, 503, reset, truncated, delay"):
        Faults(0, rate, kinds)


def test_a_store_without_faults_keeps_what_it_is_given():
    with faulty_store(0, 0.0) as store:
        through, past = (
            s3fs.S3FileSystem(**options, skip_instance_cache=True)
            for options in (store.storage_options, store.calm_storage_options)
        )
        through.pipe_file(f"{store.url}/a/b", b"x" * 100_000)
        assert past.cat_file(f"{store.url}/a/b") == b"x" * 100_000
        assert through.info(f"{store.url}/a/b")["size"] == 100_000
        with pytest.raises(FileExistsError):
            through.pipe_file(f"{store.url}/a/b", b"y", mode="create")
        assert store.requests >= 3
        assert store.injected == {}


def test_an_answer_may_be_late():
    with faulty_store(0, 0.99, [DELAY]) as store:
        through = s3fs.S3FileSystem(**store.storage_options, skip_instance_cache=True)
        started = time.monotonic()
        through.pipe_file(f"{store.url}/late", b"x")
        assert time.monotonic() - started >= 0.2
        assert store.injected == {DELAY: 1}
