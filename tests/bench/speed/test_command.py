import json

import pytest

from curate.bench.speed import bare_loop, decode, eager_loop, end_to_end, pipeline_run
from curate.bench.speed.drawn_corpus import TINY, tiny_towers
from curate.bench.speed.measure import Sizes, SpeedBench, _drawn_pipeline, bench_speed
from curate.bench.speed.workload import write_workload


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
    assert "fp32" in speeds["bare_loop"]["how"]
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


def test_memory_grows_only_with_what_is_told(tmp_path):
    sizes = Sizes(memory_rows=120, memory_times=(1, 2))
    bench = SpeedBench([], [0], 1, "unused", "cpu", tmp_path, sizes=sizes)
    once, twice, ratio = bench_speed(bench, ["memory"], lambda _: None)
    assert (once["pairs"], twice["pairs"]) == (120, 240)
    assert ratio["metric"] == "2x/1x"
    assert ratio["value"] == pytest.approx(twice["value"] / once["value"])
    assert once["value"] > 100


def test_a_second_run_does_nothing(tmp_path):
    bench = SpeedBench([], [0], 1, "unused", "cpu", tmp_path)
    given = {**_drawn_pipeline(bench, 200, 100, 200), "output": str(tmp_path / "run")}
    measure = pipeline_run._make({"pipeline": given, "runner": "local"})
    assert measure()["rows"]["embed"] == 200
    assert measure()["rows"]["embed"] == 0
