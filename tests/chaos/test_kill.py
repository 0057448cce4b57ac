"""Pull the plug: kill -9 at any moment, run again, and the result is the undisturbed run's, byte for byte."""

import json
import os
import shutil
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


@pytest.mark.parametrize("step", ["embed", "noise", "duplicates", "annotations"])
def test_killed_in_a_step_then_resumed_gives_the_same_bytes(finished, fresh, step):
    process = start(fresh)
    wait_for_file(fresh.output / step, process)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed = start(fresh)
    told, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, told
    assert fresh.contents() == finished.contents()


LATE_FOLDERS = ("artifacts/concepts", "concepts", "artifacts/caption", "caption", "annotations")


@pytest.mark.parametrize("step", ["artifacts/concepts", "artifacts/caption", "caption"])
def test_killed_in_concepts_or_captions_then_resumed_gives_the_same_bytes(completed, tmp_path, step):
    fresh = completed.copied_to(tmp_path)
    for folder in LATE_FOLDERS[LATE_FOLDERS.index(step) :]:
        shutil.rmtree(fresh.output / folder)
    process = start(fresh)
    wait_for_file(fresh.output / step, process)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    fresh.run()
    assert fresh.contents() == completed.contents()


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(finished, fresh):
    process = start(fresh)
    wait_for_file(fresh.output / "embed", process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again" in told
    assert "Traceback" not in told
    fresh.run()
    assert fresh.contents() == finished.contents()


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


def test_interrupted_twice_ends_at_once_without_a_traceback(finished, fresh):
    process = start(fresh)
    wait_for_file(fresh.output / "embed", process)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again" in told
    assert "Traceback" not in told
    fresh.run()
    assert fresh.contents() == finished.contents()


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
