"""What a person at the terminal gets: exit codes, messages without tracebacks, and answers a program can read."""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import __version__
from curate.cli.shared import percentage
from tests.tiny import tiny_model


def test_the_version_is_told(curate):
    assert curate("--version") == (0, f"curate {__version__}\n", "")


def test_run_prints_a_summary_that_says_what_to_type_next(curate, pipeline):
    code, out, _ = curate("run", pipeline.file(), "--json", pipeline.output.parent / "answer.json")
    assert code == 0
    assert re.search(r"pairs\s+160", out)
    assert all(
        word in out for word in ("clean", "uncertain", "noisy", "most suspicious", "annotations", "curate inspect")
    )
    answer = json.loads((pipeline.output.parent / "answer.json").read_text())
    assert answer["pairs"] == 160
    assert sum(answer["labels"].values()) == 160
    assert len(answer["shown"]) == 5
    code, out, _ = curate("run", pipeline.file())
    assert code == 0
    assert "nothing to do" in out


def test_a_second_run_loads_neither_torch_nor_ray(curate, pipeline):
    curate("run", pipeline.file(), "--quiet")
    code = (
        "import sys\n"
        "from curate.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(sorted({'torch', 'ray', 'open_clip', 'sklearn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "run", str(pipeline.file()), "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_plan_tells_what_is_to_do(curate, pipeline):
    code, out, _ = curate("plan", pipeline.file(), "--json", pipeline.output.parent / "plan.json")
    assert code == 0
    steps = {step["step"]: step for step in json.loads((pipeline.output.parent / "plan.json").read_text())["steps"]}
    assert steps["embed"]["to_do"] == 8
    assert steps["embed"]["pairs_to_do"] == 160
    assert "not measured yet" in out
    assert not (pipeline.output / "embed").exists()
    curate("run", pipeline.file(), "--limit", "120", "--quiet")
    _, out, _ = curate("plan", pipeline.file())
    assert "not measured yet" not in out
    curate("run", pipeline.file(), "--quiet")
    code, out, _ = curate("plan", pipeline.file())
    assert out.count("nothing to do") == 5


def test_fits_from_a_run_annotates_and_from_no_run_is_your_input(curate, finished, pipeline, tmp_path):
    assert curate("plan", pipeline.file(), "--fits-from", finished.output)[0] == 0
    code, _, told = curate("run", pipeline.file(), "--fits-from", finished.output, "--quiet")
    assert (code, told) == (0, "")
    assert pipeline.contents() == finished.contents()
    code, _, told = curate("run", pipeline.file(), "--fits-from", tmp_path / "nothing")
    assert code == 2
    assert "no finished noise fit there" in told


def test_fits_of_another_encoder_are_your_input(curate, finished, pipeline, tmp_path):
    pipeline.raw["encoder"] = asdict(tiny_model(tmp_path / "other-model", seed=1))
    code, _, told = curate("run", pipeline.file(), "--fits-from", finished.output)
    assert code == 2
    assert "weights_sha256" in told


def test_report_writes_a_page_that_knows_where_the_pictures_are(curate, pipeline, tmp_path):
    curate("run", pipeline.file(), "--quiet")
    code, out, _ = curate("report", pipeline.output)
    assert code == 0
    assert "report.html" in out
    assert "data:image/jpeg" in (pipeline.output / "report.html").read_text()
    assert curate("report", pipeline.output, "--out", tmp_path / "page.html", "--pairs", 3)[0] == 0
    assert (tmp_path / "page.html").exists()
    code, _, told = curate("report", tmp_path)
    assert code == 2
    assert "Is it a run directory" in told
    code, _, told = curate("report", pipeline.output, "--out", tmp_path / "no" / "page.html")
    assert code == 2
    assert "--out" in told


def test_export_writes_shards_into_an_empty_folder_only(curate, pipeline, tmp_path):
    curate("run", pipeline.file(), "--quiet")
    code, out, _ = curate("export", pipeline.output, "--out", tmp_path / "kept", "--where", "noise_rank < 0.5")
    assert code == 0
    assert re.search(r"\d+ pairs in 1 files", out)
    assert f"--train-data {tmp_path}/kept/00000.tar" in out
    code, _, told = curate("export", pipeline.output, "--out", tmp_path / "kept")
    assert code == 2
    assert "is not empty" in told
    code, out, _ = curate("export", pipeline.output, "--out", tmp_path / "table", "--format", "csv")
    assert (code, len(list((tmp_path / "table").iterdir()))) == (0, 1)
    code, _, told = curate("export", pipeline.output, "--out", tmp_path / "done", "--caption", "completed")
    assert code == 2
    assert "completed no captions" in told
    code, _, told = curate("export", pipeline.output, "--out", tmp_path / "hf", "--format", "hf", "--weighted")
    assert code == 2
    assert "--weighted: is for --format webdataset" in told
    code, out, _ = curate(
        "export", pipeline.output, "--out", tmp_path / "hf", "--format", "hf", "--shard-pairs", "100"
    )
    assert (code, len(list((tmp_path / "hf").iterdir()))) == (0, 2)


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        ({"stages": ["embed", {"noise": {"fold": 3}}]}, 2, "did you mean 'folds'?"),
        ({"encoder": {"model": "ViT-B-23"}}, 2, "ViT-B-32"),
        ({"encoder": {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79"}}, 2, "laion2b_s34b_b79k"),
        ({"output": "nosuch://bucket/run"}, 2, "nosuch"),
    ],
)
def test_a_mistake_in_the_pipeline_is_your_input(curate, pipeline, change, code, expected):
    pipeline.raw.update(change)
    found, _, told = curate("run", pipeline.file())
    assert found == code
    assert expected in told


def test_no_shard_matches(curate, pipeline, tmp_path):
    pipeline.raw["input"]["path"] = str(tmp_path / "nothing" / "*.tar")
    code, _, told = curate("run", pipeline.file())
    assert code == 2
    assert "nothing" in told


def test_a_parquet_file_with_a_wrong_column(curate, pipeline, tmp_path):
    pq.write_table(pa.table({"jpg": [b"x"], "captoin": ["a cat"]}), tmp_path / "one.parquet")
    pipeline.raw["input"] = {"format": "parquet", "path": str(tmp_path / "one.parquet")}
    code, _, told = curate("run", pipeline.file())
    assert code == 2
    assert "captoin" in told
    assert "input.columns.caption" in told


def test_a_missing_pipeline_file_is_your_input(curate, tmp_path):
    code, _, told = curate("run", tmp_path / "none.yaml")
    assert code == 2
    assert "no such file" in told


def test_an_unknown_option_is_your_input(curate):
    assert curate("run", "x.yaml", "--wrokers", "3")[0] == 2


def test_doctor_names_the_torch_pair(curate, tmp_path):
    code, out, _ = curate("doctor", "--store", tmp_path / "run", "--json", tmp_path / "doctor.json")
    assert code == 0
    findings = {finding["name"]: finding for finding in json.loads((tmp_path / "doctor.json").read_text())}
    assert findings["torch with torchvision"]["state"] == "ok"
    assert findings["store"]["state"] == "ok"
    assert "torch" in out


@pytest.mark.parametrize(
    ("count", "total", "shown"),
    [(0, 10, "0.0%"), (10, 10, "100.0%"), (1, 8843, "<0.1%"), (8842, 8843, ">99.9%"), (3, 8, "37.5%"), (0, 0, "")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(count, total, shown):
    assert percentage(count, total) == shown
