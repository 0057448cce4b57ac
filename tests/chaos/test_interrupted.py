"""What a run says that is interrupted, and what a second one says while it is at work."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import Pipeline


def start(pipeline, *arguments):
    command = [sys.executable, "-m", "curate", "run", str(pipeline.file()), "--workers", "2", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_file(folder, process, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if folder.is_dir() and any(folder.iterdir()):
            return
        if process.poll() is not None:
            raise AssertionError(f"ended before it could be killed: {process.stdout.read()}")
        time.sleep(0.001)
    raise AssertionError(f"nothing in {folder} after {seconds} s")


@pytest.fixture
def fresh(finished, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "killed", finished.raw["encoder"])
    other.raw["input"] = finished.raw["input"]
    return other


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_logs_json_to_its_end(fresh, number):
    process = start(fresh, "--json-logs")
    wait_for_file(fresh.output / "embed", process)
    process.send_signal(number)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    lines = [json.loads(line) for line in told.splitlines()]
    assert lines[0]["event"] == "run_started"
    assert (lines[-1]["event"], lines[-1]["exit_code"]) == ("run_interrupted", 128 + number)
    assert json.loads((fresh.output / "_state" / "run.json").read_text())["state"] == "interrupted"


def test_a_second_run_in_the_same_directory_is_refused(fresh):
    process = start(fresh)
    wait_for_file(fresh.output / "embed", process)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        second = subprocess.run(
            [sys.executable, "-m", "curate", "run", str(fresh.file())], capture_output=True, text=True, check=False
        )
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.communicate(timeout=120)
    assert second.returncode == 2
    assert "another run is at work" in second.stderr
