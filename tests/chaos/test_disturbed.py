"""Twenty whole runs are disturbed at random moments, resumed, and are byte for byte the undisturbed one."""

import json
import subprocess
import sys

import pytest

RUNS = 20
# Those without Ray or an S3 store, which have tests of their own.
KINDS = (
    "kill_driver",
    "kill_download",
    "sigterm",
    "ctrl_c",
    "ctrl_c_twice",
    "disk_full",
    "read_only",
    "file_size_limit",
    "shard_vanishes",
    "shard_changes",
    "shard_cut",
    "clock_forward",
    "clock_back",
)


def chaos(*arguments):
    command = [sys.executable, "-m", "curate", "bench", "chaos", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_disturbed_runs_lose_invent_and_change_nothing(tmp_path):
    command = ("--runs", RUNS, "--only", ",".join(KINDS), "--work", tmp_path / "work")
    answer = tmp_path / "chaos.json"
    done = chaos(*command, "--json", answer)
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads(answer.read_text())
    assert records[0]["metric"] == "environment"
    totals = {}
    for record in records[1:]:
        totals[record["metric"]] = totals.get(record["metric"], 0) + record["value"]
    assert totals == {
        "runs": RUNS,
        "recovered": RUNS,
        "rows_lost": 0,
        "rows_duplicated": 0,
        "rows_invented": 0,
        "files_different": 0,
        "temporary_left": 0,
        "redone": 0,
        "broken": 0,
    }
    journal = (tmp_path / "work" / "trials.jsonl").read_bytes()
    again = chaos(*command, "--json", tmp_path / "again.json")
    assert again.returncode == 0
    assert json.loads((tmp_path / "again.json").read_text()) == records
    assert (tmp_path / "work" / "trials.jsonl").read_bytes() == journal
    assert not list((tmp_path / "work" / "trials").iterdir())
