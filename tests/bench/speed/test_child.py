import json
import sys
import time

import pytest

from curate.bench.speed.child import Child, ChildCommand, StartedAnew, interleaved, loaded, measured_once
from curate.bench.speed.process_tree import tree_memory, watched_memory
from curate.errors import CurateError

SERVER = """
import sys, json, time
given = json.loads(sys.argv[1])
print(json.dumps({"ready": True}), flush=True)
held = []
for number, _ in enumerate(sys.stdin):
    if number == given.get("dies_at"):
        sys.exit("out of luck")
    held.append(bytearray(given.get("bytes", 0)))
    print(json.dumps({"number": number, "images": 1, "seconds": given.get("seconds", 0.0)}), flush=True)
"""


def command(name="a", **given) -> ChildCommand:
    return ChildCommand(name, (sys.executable, "-c", SERVER, json.dumps(given)))


def test_children_are_measured_in_turn():
    told: list[str] = []
    with loaded([command("a"), command("b")]) as (children, refused):
        answers, failed = interleaved(children, 2, told.append)
    assert [text.split(": ")[1] for text in told] == ["a", "b", "a", "b"]
    assert [one["number"] for one in answers["b"]] == [0, 1]
    assert not refused
    assert not failed


def test_one_that_dies_says_its_last_words_and_the_others_go_on():
    with loaded([command("a", dies_at=1), command("b")]) as (children, _):
        answers, failed = interleaved(children, 3, lambda _: None)
    assert list(answers) == ["b"]
    assert len(answers["b"]) == 3
    assert "out of luck" in failed["a"]


def test_one_that_cannot_start_does_not_stop_the_others():
    wrong = ChildCommand("wrong", (sys.executable, "-c", "import nothing_of_that_name", "{}"))
    absent = ChildCommand("absent", ("/no/such/python", "{}"))
    with loaded([wrong, absent, command("b")]) as (children, refused):
        assert [child.name for child in children] == ["b"]
    assert "nothing_of_that_name" in refused["wrong"]
    assert "cannot be started" in refused["absent"]


def test_starting_is_told_apart():
    slow = command("slow", seconds=0.001)
    answer = StartedAnew(slow).measure()
    assert answer["seconds"] == 0.001
    assert 0 < answer["start_up_seconds"] < 30


def test_memory_of_the_child_counts():
    _, little = measured_once(command("little"))
    with Child(command("much", bytes=200 * 2**20)) as child, watched_memory(child.process, 0.01) as memory:
        child.measure()
        time.sleep(0.1)
    assert memory.peak > little + 150 * 2**20


def test_memory_of_grandchildren_counts():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    grandchild = "import time; held = bytearray(100 * 2**20); time.sleep(60)"
    import subprocess

    process = subprocess.Popen([sys.executable, "-c", code, grandchild], start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while tree_memory(process.pid) < 100 * 2**20:
            assert time.monotonic() < deadline, "the grandchild's memory is not seen"
            time.sleep(0.05)
    finally:
        import os
        import signal

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_process_that_is_gone_has_no_memory():
    assert tree_memory(2**22 - 1) == 0


def test_a_child_that_ends_before_it_is_ready_is_an_error():
    with pytest.raises(CurateError, match="a: ended with exit code 3: bad luck"):
        Child(ChildCommand("a", (sys.executable, "-c", "import sys; print('bad luck', file=sys.stderr); sys.exit(3)")))
