"""A Ray cluster of two nodes leaves the bytes that one machine leaves, also when it loses one of them."""

import os
import threading
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from curate.execution import RayRunner
from tests.conftest import Pipeline


@pytest.fixture
def two_nodes():
    """A cluster whose nodes have one CPU each, so that its workers cannot all run on one; and the second node."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster, second
    cluster.shutdown()


def lose_when(cluster, node, folder, files):
    """kill -9 of a node as soon as so many column files are in a folder."""
    deadline = time.monotonic() + 500
    while len(list(folder.glob("part-*"))) < files and time.monotonic() < deadline:
        time.sleep(0.01)
    cluster.remove_node(node, allow_graceful=False)


def test_a_node_is_lost_at_half_of_the_pictures_and_the_bytes_are_those_of_one_machine(
    finished, two_nodes, tmp_path, monkeypatch
):
    cluster, second = two_nodes
    driver = tmp_path / "driver"
    driver.mkdir()
    # Nodes were started in another folder: a relative path has to mean the same file to them.
    monkeypatch.chdir(driver)
    given = finished.raw["encoder"]
    encoder = {**given, **{name: os.path.relpath(given[name], driver) for name in ("model", "pretrained")}}
    ours = Pipeline(Path(), Path("run"), encoder)
    ours.raw["input"] = {**finished.raw["input"], "path": os.path.relpath(finished.raw["input"]["path"], driver)}
    runner = RayRunner(address=cluster.address)
    try:
        assert runner.model_workers("cpu", 8) == (2, {"num_cpus": 0.5})
        loss = threading.Thread(target=lose_when, args=(cluster, second, ours.output / "embed", 4))
        loss.start()
        heard = ours.run(runner=runner)
        loss.join()
    finally:
        runner.close()
    assert sorted(number for name, number in heard.parts if name == "embed") == list(range(8))
    assert ours.contents() == finished.contents()
