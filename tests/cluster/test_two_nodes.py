"""A Ray cluster of two nodes leaves the bytes that one machine leaves."""

import os
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from curate.execution import RayRunner
from tests.conftest import Pipeline


@pytest.fixture
def two_nodes():
    """The address of a cluster whose nodes have one CPU each: where one reads, the other has to run the model."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def test_two_nodes_leave_the_bytes_of_one_machine(finished, two_nodes, tmp_path, monkeypatch):
    driver = tmp_path / "driver"
    driver.mkdir()
    # Nodes were started in another folder: a relative path has to mean the same file to them.
    monkeypatch.chdir(driver)
    given = finished.raw["encoder"]
    encoder = {**given, **{name: os.path.relpath(given[name], driver) for name in ("model", "pretrained")}}
    ours = Pipeline(Path(), Path("run"), encoder)
    ours.raw["input"] = {**finished.raw["input"], "path": os.path.relpath(finished.raw["input"]["path"], driver)}
    runner = RayRunner(address=two_nodes)
    try:
        assert runner.model_workers("cpu", 8) == (1, {"num_cpus": 1})
        heard = ours.run(runner=runner)
    finally:
        runner.close()
    assert sorted(number for name, number in heard.parts if name == "embed") == list(range(8))
    assert ours.contents() == finished.contents()
