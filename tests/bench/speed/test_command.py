import json
import runpy
from pathlib import Path

import pytest
import torch

from curate.bench.speed import bare_loop, decode, eager_loop, end_to_end, pipeline_run
from curate.bench.speed.drawn_corpus import TINY, tiny_towers
from curate.bench.speed.measure import Sizes, SpeedBench, _drawn_pipeline, bench_speed
from curate.bench.speed.workload import write_workload

GPU_SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    return write_workload([], 64, 24, 6, (*tiny_towers(folder), "cpu"), folder / "corpus")


def test_the_command_measures_and_writes_records(curate, tmp_path):
    model = tmp_path / "tiny.json"
    model.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    code, out, _ = curate(
        "bench", "speed", "--rows", "bare_loop", "--images", "16", "--image-size", "64", "--repeats", "2",
        "--model", model, "--device", "cpu", "--work", tmp_path / "work", "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert code == 0
    first, *records = json.loads((tmp_path / "out.json").read_text())
    assert first["metric"] == "environment"
    speeds = {r["method"]: r for r in records if r["metric"] == "images_per_second"}
    assert set(speeds) == {"bare_loop", "decode_all_cores", "limit"}
    assert all(r["value"] > 0 and r["repeats"] == 2 for r in speeds.values())
    assert "batches of" in speeds["bare_loop"]["how"]
    assert "bare_loop" in out


def test_contestants_embed_every_image(work, tmp_path):
    end = end_to_end._make({"work": work.to_json(), "runner": "local", "folder": str(tmp_path)})()
    assert end["images"] == 24
    assert end["seconds"] > 0
    assert list(tmp_path.iterdir()) == []
    assert bare_loop._make(work.to_json())()["images"] == 24
    assert eager_loop._make({"work": work.to_json(), "images": 5})()["images"] == 5
    alone = {"work": work.to_json(), "method": "exact", "size": 32, "all_cores": False}
    assert decode._make(alone)()["images"] == 24


def test_memory_is_that_of_a_whole_run(tmp_path):
    bench = SpeedBench([], [0], 1, "unused", "cpu", tmp_path, sizes=Sizes(memory_rows=240, memory_times=(1,)))
    (once,) = bench_speed(bench, ["memory"], lambda _: None)
    assert (once["pairs"], once["unit"]) == (240, "MiB")
    assert once["value"] > 100
    assert not list(tmp_path.glob("memory-*"))


def test_the_gpu_script_runs_without_one(tmp_path, monkeypatch, capsys):
    model = tmp_path / "tiny.json"
    model.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    written = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--images", "12", "--part-rows", "6", "--image-size", "64", "--repeats", "1"]
    monkeypatch.setattr(
        "sys.argv", ["gpu.py", *given, "--model", str(model), "--work", str(tmp_path), "--json", str(written)]
    )
    runpy.run_path(str(GPU_SCRIPT), run_name="__main__")
    first, *records = json.loads(written.read_text())
    assert first["accelerator"] == "none"
    found = {(r["metric"], r["method"]): r for r in records}
    assert found["end_to_end/limit", "local"]["value"] > 0
    assert found["images_per_second", "end_to_end_local"]["memory_gib"] > 0
    assert "end_to_end/limit" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_script_says_that_there_is_none(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        runpy.run_path(str(GPU_SCRIPT), run_name="__main__")


def test_a_second_run_does_nothing(tmp_path):
    bench = SpeedBench([], [0], 1, "unused", "cpu", tmp_path)
    given = {**_drawn_pipeline(bench, 240, 120, 200), "output": str(tmp_path / "run")}
    measure = pipeline_run._make({"pipeline": given, "runner": "local"})
    assert measure()["rows"]["embed"] == 240
    assert measure()["rows"]["embed"] == 0
