"""The Ray runner: the same bytes as the local one, and a refusal with the arithmetic where it cannot be scheduled."""

import shutil
import sys
from dataclasses import replace

import pytest
import torch

from curate.errors import CurateError, InputError
from curate.execution import RayRunner, share_out
from curate.models.encoder import EncoderOptions, load_encoder, resolve_encoder
from tests.conftest import Pipeline, worked_on
from tests.test_python_step import BRIGHTNESS, LENGTHS
from tests.test_run import noise_by_key, shuffled_corpus
from tests.test_training import training_of, weights
from tests.test_urls import UrlPipeline
from tests.web import serving


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
    assert heard.statuses == {"ok": 160}
    assert next(start.workers for start in heard.started if start.name == "embed") == 2
    assert other.contents() == finished.contents()


def test_ray_refines_to_the_same_bytes_as_local(finished, ray_runner, tmp_path):
    refine = {"refine": {"rounds": 1, "epochs": 1, "trusted_below": 0.9}}
    made = []
    for runner in (None, ray_runner):
        copy = finished.copied_to(tmp_path / ("local" if runner is None else "ray"))
        copy.raw["stages"] = [*finished.raw["stages"], refine]
        copy.run(runner=runner)
        made.append(copy.contents())
    assert made[0] == made[1]
    assert any(name.startswith("refine/") for name in made[0])


def test_ray_goes_on_where_local_stopped(finished, ray_runner, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "mixed", finished.raw["encoder"])
    other.raw["input"] = finished.raw["input"]
    other.run()
    for number in (1, 6):
        (other.output / "embed" / f"part-{number:08d}.parquet").unlink()
    heard = other.run(runner=ray_runner)
    assert sorted(heard.parts) == [("embed", 1), ("embed", 6)]
    assert other.contents() == finished.contents()


def test_ray_changes_no_bit_of_any_pair_in_another_order(finished, ray_runner, tmp_path):
    other = Pipeline(shuffled_corpus(tmp_path / "shuffled"), tmp_path / "ray", finished.raw["encoder"])
    other.raw["input"]["part_rows"] = 60
    other.run(runner=ray_runner)
    assert noise_by_key(other) == noise_by_key(finished)


def test_an_address_without_a_cluster_is_told_at_once():
    with pytest.raises(CurateError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        RayRunner(address="127.0.0.1:1")


@pytest.mark.parametrize(
    ("device", "cpus", "gpus", "arithmetic"),
    [
        ("cuda", 8, 0, r"1 model worker x 1 GPU .* has 0 GPU and 8 CPU"),
        ("cpu", 1, 0, r"1 model worker x 1 CPU \+ 1 decode worker x 1 CPU = 2 CPU, the cluster has 1"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_the_arithmetic(device, cpus, gpus, arithmetic):
    with pytest.raises(InputError, match=arithmetic):
        share_out(device, 10, cpus, gpus, None)


@pytest.mark.parametrize(
    ("device", "parts", "cpus", "gpus", "most", "workers"),
    [
        ("cpu", 100, 2, 0, None, 1),
        ("cpu", 100, 16, 0, None, 15),
        ("cpu", 100, 16, 0, 4, 4),
        ("cpu", 3, 16, 0, None, 3),
        ("cuda", 100, 16, 8, None, 8),
        ("cuda", 100, 2, 8, 2, 2),
    ],
)
def test_model_workers_leave_a_cpu_to_decode(device, parts, cpus, gpus, most, workers):
    found, each = share_out(device, parts, cpus, gpus, most)
    assert found == workers
    assert found * each["num_cpus"] + 1 <= cpus


def test_ray_finds_the_same_concepts_and_completes_the_same_captions(completed, ray_runner, tmp_path):
    copy = completed.copied_to(tmp_path)
    for folder in ("artifacts/concepts", "concepts", "caption", "annotations"):
        shutil.rmtree(copy.output / folder)
    assert worked_on(copy.run(runner=ray_runner)) == {"concepts fit", "concepts", "caption", "annotations"}
    assert copy.contents() == completed.contents()


def test_texts_of_a_fit_are_embedded_where_the_towers_are_planned(tiny_encoder, ray_runner):
    options = EncoderOptions(**tiny_encoder)
    spec = resolve_encoder(options)
    here = load_encoder(options, spec).encode_texts(["a red square", "a dog"])
    assert (ray_runner.encode_texts(options, spec, ["a red square", "a dog"]) == here).all()
    with pytest.raises(InputError, match=r"1 model worker x 1 GPU .* has 0 GPU"):
        ray_runner.encode_texts(options, replace(spec, device="cuda"), ["a dog"])


def test_ray_writes_the_same_captions_with_a_checkpoint(with_coca, ray_runner, tmp_path):
    copy = with_coca.copied_to(tmp_path)
    for number in (0, 1, 6):
        (copy.output / "caption" / f"part-{number:08d}.parquet").unlink()
    heard = copy.run(runner=ray_runner)
    assert sorted(heard.parts) == [("caption", 0), ("caption", 1), ("caption", 6)]
    assert copy.contents() == with_coca.contents()


def test_ray_train_leaves_the_weights_that_a_training_here_leaves(finished, ray_runner, tmp_path):
    work = training_of(finished.copied_to(tmp_path))
    ray_runner.train(work)
    other = replace(work, folder="artifacts/here")
    other.train()
    theirs, ours = weights(work), weights(other)
    assert all(torch.equal(weight, ours[name]) for name, weight in theirs.items())


def test_ray_train_says_why_it_cannot_train(finished, ray_runner, tmp_path):
    with pytest.raises(CurateError, match="too few"):
        ray_runner.train(replace(training_of(finished.copied_to(tmp_path)), trusted_below=0.0))


def test_ray_carries_out_stages_of_the_users_own_to_the_same_bytes(finished, ray_runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "stages_for_ray.py").write_text(BRIGHTNESS + LENGTHS)
    stages = [{"python": "stages_for_ray:Brightness"}, {"python": "stages_for_ray:Lengths"}]
    made = []
    for name, runner in (("local", None), ("ray", ray_runner)):
        copy = finished.copied_to(tmp_path / name)
        copy.raw["stages"] = [*finished.raw["stages"], *stages]
        assert worked_on(copy.run(runner=runner)) == {"python-Brightness", "python-Lengths", "annotations"}
        made.append(copy.contents())
    assert made[0] == made[1]


def test_ray_names_the_part_in_which_a_stage_of_the_users_own_fails(finished, ray_runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "fails_for_ray.py").write_text(LENGTHS.replace("        words = ", "        words = 1 / 0 + "))
    copy = finished.copied_to(tmp_path)
    copy.raw["stages"] = [*finished.raw["stages"], {"python": "fails_for_ray:Lengths"}]
    with pytest.raises(CurateError, match=r"part 0: 00000\.tar: Lengths raised ZeroDivisionError: .*_ray\.py:17"):
        copy.run(runner=ray_runner)


def test_a_cluster_that_was_joined_before_is_not_left(ray_runner):
    import ray

    RayRunner(workers=1).close()
    assert ray.is_initialized()


def test_ray_downloads_to_the_same_bytes_as_local(tiny_encoder, ray_runner, tmp_path):
    with serving() as web:
        local = UrlPipeline(web, tmp_path / "local", tiny_encoder)
        remote = UrlPipeline(web, tmp_path / "ray", tiny_encoder)
        local.run()
        remote.run(runner=ray_runner)
    assert remote.contents() == local.contents()
    assert set(remote.annotations().status) == {"ok"}
