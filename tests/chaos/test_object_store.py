"""Input and output on an S3 store that fails one request in twenty: a run ends by itself, with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
import yaml

from curate.bench.chaos.object_store import (
    DELAY,
    INTERNAL_ERROR,
    RESET,
    SLOW_DOWN,
    TRUNCATED,
    ObjectStore,
    faulty_store,
)
from curate.config import load_config
from curate.errors import CurateError
from curate.execution import LocalRunner, RayRunner, execute
from curate.plan import make_plan
from curate.retries import counting_retries
from tests.conftest import SilentProgress
from tests.stores import reach

RATE = 0.05
COUNTED_AS = {
    INTERNAL_ERROR: "500 ",
    SLOW_DOWN: "503 ",
    RESET: "connection reset",
    TRUNCATED: "truncated body",
}


@dataclass
class RemoteRun:
    """The corpus of a local pipeline on an object store, and a run of it there."""

    store: ObjectStore
    pipeline: Path

    @property
    def output(self) -> str:
        return f"{self.store.url}/run"

    def files(self):
        return s3fs.S3FileSystem(**self.store.calm_storage_options, skip_instance_cache=True, use_listings_cache=False)

    def contents(self):
        """Every file of the run that has to be the same bytes wherever it is made; read past the faults."""
        files, root = self.files(), self.output.removeprefix("s3://")
        found = {path.removeprefix(f"{root}/"): path for path in files.find(root)}
        return {name: files.cat_file(path) for name, path in found.items() if not name.startswith("_state")}

    def start(self, *arguments):
        command = [sys.executable, "-m", "curate", "run", str(self.pipeline), "--workers", "2", *arguments]
        environment = {**os.environ, **self.store.environment, "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, *arguments):
        """Run it to its end; what it told."""
        process = self.start(*arguments)
        told, _ = process.communicate(timeout=400)
        assert process.returncode == 0, told
        assert "Traceback" not in told
        return told


@pytest.fixture
def remote(finished, shards, tmp_path):
    with faulty_store(7, RATE) as store:
        files = s3fs.S3FileSystem(**store.calm_storage_options, skip_instance_cache=True)
        for tar in sorted(shards.glob("*.tar")):
            files.pipe_file(f"{store.url}/corpus/{tar.name}", tar.read_bytes())
        given = {**finished.raw["input"], "path": f"{store.url}/corpus/*.tar"}
        path = tmp_path / "remote.yaml"
        path.write_text(yaml.safe_dump({**finished.raw, "input": given, "output": f"{store.url}/run"}))
        yield RemoteRun(store, path)


def all_kinds_are_counted(total, injected):
    """Whatever was injected was sent again and counted as what it was; nothing else was."""
    assert sum(injected.values()) > 0
    for kind, text in COUNTED_AS.items():
        assert not injected.get(kind) or sum(count for name, count in total.items() if text in name), (
            kind,
            total,
            injected,
        )
    assert sum(total.values()) <= sum(count for kind, count in injected.items() if kind != DELAY)


def counted(folder):
    """What the JSON of a run says of requests sent again: by kind over all steps and the rest, and by step."""
    told = json.loads(folder.read_text())
    return Counter(next(iter(told["retries"].values()))), {step["name"]: step["retries"] for step in told["steps"]}


def test_a_run_through_faults_ends_with_the_same_bytes_and_counts_its_retries(remote, finished, tmp_path):
    told = remote.finish("--json", str(tmp_path / "run.json"))
    assert remote.contents() == finished.contents()
    total, by_step = counted(tmp_path / "run.json")
    all_kinds_are_counted(total, remote.store.injected)
    assert any(by_step[name] for name in ("embed", "noise"))
    assert f"retried {sum(total.values())} requests to {remote.store.url} (" in " ".join(told.split())


def test_workers_of_a_cluster_count_theirs(remote, finished, monkeypatch):
    reach(remote.store.environment, monkeypatch)
    runner, progress = RayRunner(workers=1), SilentProgress()
    try:
        with counting_retries() as retried:
            execute(make_plan(load_config(remote.pipeline, []), runner.index), runner, progress)
    finally:
        runner.close()
    assert remote.contents() == finished.contents()
    all_kinds_are_counted(Counter(retried.counts[remote.store.url]), remote.store.injected)
    by_workers = [report for report in progress.reports if report.retries]
    assert by_workers


def test_killed_and_resumed_through_faults_gives_the_same_bytes(remote, finished):
    files, folder = remote.files(), f"{remote.output}/embed"
    process = remote.start()
    deadline = time.monotonic() + 200
    while not files.exists(folder) and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = {path: files.info(path)["LastModified"] for path in files.find(folder)}
    assert before
    remote.finish()
    assert remote.contents() == finished.contents()
    assert {path: files.info(path)["LastModified"] for path in before} == before


def test_a_shard_that_vanishes_while_running_is_said_and_the_others_are_done(remote, monkeypatch):
    reach(remote.store.environment, monkeypatch)
    runner, config = LocalRunner(2), load_config(remote.pipeline, [])
    plan = make_plan(config, runner.index)
    remote.files().rm(f"{remote.store.url}/corpus/00002.tar")
    with pytest.raises(CurateError) as refused:
        execute(plan, runner, SilentProgress())
    told = str(refused.value)
    assert told.startswith("embed: 2 of 8 parts could not be done; the others are kept.")
    assert "corpus/00002.tar vanished while running. Put it back, or run again to work on what is left." in told
    done = [name for name in remote.contents() if name.startswith("embed/")]
    assert len(done) == 6
