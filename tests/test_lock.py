"""One writer for a run directory, on one machine and between machines."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier

import pytest

from curate.bench.chaos.object_store import faulty_store
from curate.errors import CurateError, InputError
from curate.lock import OWNERS, LockTiming, about, lock_run, owner_here
from curate.store import RunStore
from tests.stores import reach

QUICK = "LockTiming(beat_seconds=0.2, stale_seconds=2.0, settle_seconds=0.5)"
TIMING = LockTiming(beat_seconds=0.2, stale_seconds=2.0, settle_seconds=0.5)


@pytest.fixture(scope="module")
def bucket():
    with faulty_store(0, 0.0) as store:
        yield store


@pytest.fixture
def shared(bucket, monkeypatch, request):
    """A run directory that several machines reach, in this process's environment."""
    reach(bucket.environment, monkeypatch)
    return f"{bucket.url}/{request.node.name.partition('[')[0]}"


@pytest.fixture
def machine():
    """Start a process on a machine of a given name that takes the lock and then does what it is told."""
    running = []

    def start(url, host, then="time.sleep(600)"):
        code = textwrap.dedent(f"""
            import os, sys, time
            from curate.errors import CurateError
            from curate.lock import LockTiming, lock_run, owner_here
            from curate.store import RunStore
            store = RunStore({url!r})
            try:
                with lock_run(store, owner_here({host!r}), {QUICK}, tell=lambda line: print("waits", flush=True)):
                    print("holds", flush=True)
                    {then}
            except CurateError as error:
                print(type(error).__name__, error, flush=True)
        """)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def stopped(process):
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def records(store):
    return sorted(store.list_stamps(OWNERS))


def test_a_second_writer_is_told_who_holds_it_and_since_when(tmp_path):
    store = RunStore(str(tmp_path))
    with lock_run(store), pytest.raises(InputError) as refused, lock_run(RunStore(str(tmp_path))):
        pass
    told = str(refused.value)
    assert "another run is at work in this directory" in told
    assert f"pid {os.getpid()} of " in told
    assert "last sign of life 0 s ago" in told or "last sign of life 1 s ago" in told


def test_a_lock_that_was_released_is_taken_at_once_and_one_record_stays(tmp_path):
    for _ in range(3):
        with lock_run(RunStore(str(tmp_path))):
            pass
    store = RunStore(str(tmp_path))
    assert records(store) == ["00000003.json"]
    assert store.read_json(f"{OWNERS}/00000003.json")["released"]
    assert store.guard is None


def test_of_a_run_that_was_killed_on_this_machine_nothing_is_waited_for(tmp_path, machine):
    process = machine(str(tmp_path), None)
    assert process.stdout.readline() == "holds\n"
    process.kill()
    process.wait()
    with lock_run(RunStore(str(tmp_path)), tell=pytest.fail):
        pass


def test_a_pid_that_another_process_has_now_is_no_owner(shared):
    store = RunStore(shared)
    before = owner_here()
    store.create_bytes(f"{OWNERS}/00000004.json", replace(before, started="1").to_bytes())
    with lock_run(store, timing=TIMING, tell=pytest.fail):
        assert records(store) == ["00000005.json"]


def test_a_live_process_of_this_machine_keeps_an_object_store(shared, machine):
    assert machine(shared, None).stdout.readline() == "holds\n"
    began = time.monotonic()
    with (
        pytest.raises(InputError, match=r"another run is at work.*: pid \d+ of .* on host "),
        lock_run(RunStore(shared)),
    ):
        pass
    assert time.monotonic() - began < 30


def test_two_machines_on_one_object_store_are_refused_not_interleaved(shared, machine):
    assert machine(shared, "a").stdout.readline() == "holds\n"
    second = machine(shared, "b")
    assert second.stdout.readline() == "waits\n"
    told = second.stdout.read()
    assert told.startswith("InputError")
    assert "on host a, since" in told


def test_two_machines_on_a_folder_whose_kernel_locks_do_not_reach_across(tmp_path, machine):
    # What the other machine does is seen in the folder; its kernel's lock is not.
    store = RunStore(str(tmp_path))
    other = replace(owner_here("a"), beat=1)
    store.create_bytes(f"{OWNERS}/00000001.json", other.to_bytes())
    second = machine(str(tmp_path), "b")
    assert second.stdout.readline() == "waits\n"
    store.write_bytes(f"{OWNERS}/00000001.json", replace(other, beat=2).to_bytes())
    assert second.stdout.read().startswith("InputError")


def test_a_machine_without_a_sign_of_life_is_followed_and_its_writer_refuses_to_go_on(shared, machine):
    first = machine(shared, "a", "while True: store.write_json('n', 'of a')")
    assert first.stdout.readline() == "holds\n"
    with stopped(first):
        began = time.monotonic()
        with lock_run(RunStore(shared), owner_here("b"), TIMING):
            waited = time.monotonic() - began
            assert TIMING.stale_seconds <= waited
            store = RunStore(shared)
            store.write_json("n", "of b")
            os.kill(first.pid, signal.SIGCONT)
            told = first.stdout.read()
    assert told.startswith("LockLostError")
    assert "another took the directory over (pid" in told
    assert store.read_json("n") == "of b"


def test_of_eight_that_take_over_a_stale_lock_one_wins(shared):
    store = RunStore(shared)
    store.create_bytes(f"{OWNERS}/00000001.json", owner_here("gone").to_bytes())
    all_there, all_told = Barrier(8), Barrier(8)

    def contend(number):
        all_there.wait()
        try:
            with lock_run(RunStore(shared), owner_here(f"h{number}"), TIMING, tell=lambda line: None):
                all_told.wait()
                return "holds"
        except InputError:
            all_told.wait()
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(contend, range(8))) == ["holds"] + 7 * ["refused"]
    assert records(store) == ["00000002.json"]


def test_a_clock_that_jumps_makes_no_live_lock_stale_and_no_dead_one_alive(shared):
    store, name = RunStore(shared), f"{OWNERS}/00000001.json"
    owner = replace(owner_here("a"), seen="2001-01-01T00:00:00+00:00")
    store.create_bytes(name, owner.to_bytes())

    def beats(line):
        store.write_bytes(name, replace(owner, beat=1, seen="1999-01-01T00:00:00+00:00").to_bytes())

    with pytest.raises(InputError, match="another run is at work"), lock_run(store, owner_here("b"), TIMING, beats):
        pass
    ahead = replace(owner, seen="2999-01-01T00:00:00+00:00")
    store.write_bytes(name, ahead.to_bytes())
    with lock_run(store, owner_here("b"), TIMING, tell=lambda line: None):
        assert records(store) == ["00000002.json"]


def test_the_guard_of_a_worker_looks_for_itself(shared):
    store = RunStore(shared)
    with lock_run(store, owner_here("a"), TIMING):
        worker = RunStore(shared, pickle.loads(pickle.dumps(store.guard)))
        worker.write_bytes("one", b"1")
        store.create_bytes(f"{OWNERS}/00000009.json", owner_here("b").to_bytes())
        late = RunStore(shared, pickle.loads(pickle.dumps(store.guard)))
        with pytest.raises(CurateError, match=r"another took the directory over .*on host b"):
            late.write_bytes("two", b"2")


def test_a_record_that_is_none_is_named(tmp_path):
    store = RunStore(str(tmp_path))
    store.write_bytes(f"{OWNERS}/00000001.json", b'{"user": "ann"}')
    with pytest.raises(CurateError, match=r"00000001.json: not the record of a run .* delete it"), lock_run(store):
        pass


def test_an_owner_of_another_day_is_told_with_the_date():
    owner = replace(owner_here("a"), since="2020-05-04T10:02:00+00:00", seen="2020-05-04T10:02:00+00:00")
    assert ", since 2020-05-0" in about(owner)


def test_a_second_run_ends_with_2_and_says_who_is_at_work(pipeline, curate):
    with lock_run(RunStore(str(pipeline.output))):
        code, _, told = curate("run", pipeline.file())
    assert code == 2
    assert f"another run is at work in this directory: pid {os.getpid()} of " in " ".join(told.split())


def test_readers_need_no_lock(finished, curate):
    with lock_run(RunStore(str(finished.output))):
        code, told, _ = curate("inspect", finished.output)
    assert code == 0
    assert "pairs" in told


def test_a_record_tells_in_json_who_it_is(tmp_path):
    with lock_run(RunStore(str(tmp_path))):
        held = json.loads((tmp_path / OWNERS / "00000001.json").read_text())
    assert held["pid"] == os.getpid()
    assert held["host"] == os.uname().nodename
    assert not held["released"]
