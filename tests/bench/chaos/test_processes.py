"""Processes are heard, found, limited and ended."""

import signal
import subprocess
import sys
import time

import pytest

from curate.bench.chaos.processes import descendants, kill_all, start_process, titles, wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc, which is Linux only")

SLEEPER = f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])"
LIMITED = """
import pathlib, sys, time
while True:
    try:
        pathlib.Path(sys.argv[1]).write_text("x" * 1000)
    except OSError as error:
        sys.exit(f"told all the same: {error.strerror}")
    time.sleep(0.01)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code):
        (tmp_path / "worked_on.py").write_text(code)
        return ("worked_on",)

    return write


def test_what_a_process_writes_and_how_it_ends_is_heard(module, tmp_path):
    code = "import os, sys; print(os.environ['WORD'], sys.argv[1], flush=True); sys.exit('an end')"
    ended = start_process(module(code), ["arguments"], {"WORD": "hears"}, tmp_path / "told.log").wait()
    assert (ended.code, ended.told) == (1, "hears arguments\nan end\n")


def test_a_process_that_can_write_no_file_can_still_say_so(module, tmp_path):
    run = start_process(module(LIMITED), [str(tmp_path / "file")], {}, tmp_path / "told.log")
    while not (tmp_path / "file").exists():
        time.sleep(0.01)
    run.limit_file_size(0)
    ended = run.wait()
    assert ended.code == 1
    assert "told all the same: File too large" in ended.told


def test_a_killed_process_ends_with_the_signal(module, tmp_path):
    run = start_process(module("import time; time.sleep(60)"), [], {}, tmp_path / "told.log")
    run.send(signal.SIGKILL)
    assert run.wait().code == -signal.SIGKILL


def test_processes_below_a_process_are_found_and_ended():
    process = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        deadline = time.monotonic() + 30
        while not (below := descendants(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(below) == 1
        assert "time.sleep(60)" in titles(below)[below[0]]
        kill_all(below)
        process.wait(30)
        assert wait_until_gone(below, 30) == []
        assert titles(below) == {}
    finally:
        process.kill()
        process.wait()
