"""The Ray runner: the same bytes as the local one, and a refusal with the arithmetic where it cannot be scheduled."""

import os

import pytest

from curate.errors import CurateError, InputError
from curate.run import RayRunner
from tests.conftest import Pipeline


@pytest.fixture(scope="module")
def ray_runner():
    """A local cluster with 3 logical CPUs."""
    runner = RayRunner(workers=2)
    yield runner
    runner.close()


def test_ray_gives_the_same_bytes_as_local(finished, ray_runner, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "ray", finished.raw["encoder"])
    other.raw["input"] = finished.raw["input"]
    heard = other.run(runner=ray_runner)
    assert sorted(number for name, number in heard.parts if name == "embed") == list(range(8))
    assert other.contents() == finished.contents()


def test_ray_goes_on_where_local_stopped(finished, ray_runner, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "mixed", finished.raw["encoder"])
    other.raw["input"] = finished.raw["input"]
    other.run()
    for number in (1, 6):
        (other.output / "embed" / f"part-{number:08d}.parquet").unlink()
    heard = other.run(runner=ray_runner)
    assert sorted(heard.parts) == [("embed", 1), ("embed", 6)]
    assert other.contents() == finished.contents()


def test_an_address_without_a_cluster_is_told_at_once():
    with pytest.raises(CurateError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        RayRunner(address="127.0.0.1:1")


def test_a_gpu_that_the_cluster_does_not_have_is_refused_with_the_arithmetic(ray_runner):
    with pytest.raises(InputError, match=r"1 GPU per model worker .* has 0 GPU"):
        ray_runner.model_workers("cuda", 10)


def test_workers_leave_a_cpu_to_decode(ray_runner):
    cpus = max(3, os.cpu_count() or 1)
    workers, each = ray_runner.model_workers("cpu", 100)
    assert workers + 1 <= cpus
    assert each == {"num_cpus": 1}
