"""`curate run` for machines: events, metrics and figures of real runs, of failed ones and of those that do nothing."""

import json
import os
import signal

import pytest

from curate.events import RunInterrupted
from tests.corpus import write_corpus
from tests.test_metrics import parsed


def events(out):
    """Every line is an event; nothing else is there."""
    lines = [json.loads(line) for line in out.splitlines()]
    assert all({"time", "event", "run"} <= line.keys() for line in lines)
    return lines


def test_json_logs_are_all_that_a_run_writes(curate, pipeline):
    code, out, told = curate("run", pipeline.file(), "--json-logs")
    assert (code, told) == (0, "")
    lines = events(out)
    assert [line["event"] for line in lines[:2]] == ["run_started", "input_read"]
    assert lines[1]["pairs"] == 160
    started = [line["step"] for line in lines if line["event"] == "step_started"]
    finished = [line["step"] for line in lines if line["event"] == "step_finished"]
    assert started == finished == ["embed", "noise fit", "noise", "duplicates", "annotations"]
    embed = next(line for line in lines if line["event"] == "step_finished" and line["step"] == "embed")
    assert (embed["rows_done"], embed["rows_worked"], embed["parts_done"], embed["parts_failed"]) == (160, 160, 8, 0)
    assert embed["rows_per_second"] > 0
    assert embed["body_seconds"] > 0
    doing = [line["doing"] for line in lines if line["event"] == "step_progress" and line["step"] == "noise fit"]
    assert "round 1 of 1" in doing
    last = lines[-1]
    assert (last["event"], last["exit_code"], last["statuses"]) == ("run_finished", 0, {"ok": 160})
    assert last["next"][0] == f"curate report {pipeline.output}"


def test_json_logs_of_a_run_with_nothing_to_do(curate, pipeline):
    curate("run", pipeline.file(), "--quiet")
    code, out, told = curate("run", pipeline.file(), "--json-logs")
    assert (code, told) == (0, "")
    finished = [line for line in events(out) if line["event"] == "step_finished"]
    assert {line["rows_worked"] for line in finished} == {0}
    assert events(out)[-1]["event"] == "run_finished"


def test_json_logs_of_a_run_that_fails(curate, pipeline, tmp_path):
    write_corpus(tmp_path / "few", count=20)
    pipeline.raw["input"]["path"] = str(tmp_path / "few" / "*.tar")
    code, out, told = curate("run", pipeline.file(), "--json-logs", "--metrics-file", tmp_path / "m.prom")
    assert (code, told) == (2, "")
    last = events(out)[-1]
    assert (last["event"], last["exit_code"], last["step"]) == ("run_failed", 2, "noise fit")
    assert "at least 100 usable pairs" in last["error"]
    states = parsed((tmp_path / "m.prom").read_text())["curate_run_state"][1]
    assert {labels[1][1] for labels, value in states.items() if value} == {"failed"}
    assert state_of(pipeline)["state"] == "failed"
    assert "at least 100 usable pairs" in state_of(pipeline)["error"]


def test_json_logs_of_a_pipeline_that_is_wrong(curate, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("input: {path: x.tar}\noutptu: y\n")
    code, out, told = curate("run", file, "--json-logs")
    assert (code, told) == (2, "")
    (line,) = events(out)
    assert (line["event"], line["exit_code"]) == ("run_failed", 2)
    assert "outptu" in line["error"]


def test_an_output_that_cannot_be_made_ends_with_1(curate, pipeline, tmp_path):
    (tmp_path / "file").write_text("")
    pipeline.raw["output"] = str(tmp_path / "file" / "run")
    code, out, told = curate("run", pipeline.file(), "--json-logs")
    assert (code, told) == (1, "")
    assert events(out)[-1]["event"] == "run_failed"


def test_metrics_of_a_run_are_its_figures(curate, pipeline, tmp_path):
    file = tmp_path / "curate.prom"
    code, _, _ = curate("run", pipeline.file(), "--quiet", "--metrics-file", file, "--metrics-port", "0")
    assert code == 0
    families = parsed(file.read_text())
    run = ("run", str(pipeline.output))
    assert families["curate_run_state"][1][run, ("state", "finished")] == 1
    assert families["curate_rows_read_total"] == ["counter", {(run, ("status", "ok")): 160}]
    for step in ("embed", "noise", "annotations"):
        assert families["curate_step_rows_done"][1][run, ("step", step)] == 160
        assert families["curate_step_parts_done"][1][run, ("step", step)] == 8
        assert families["curate_step_seconds"][1][run, ("step", step)] > 0
    assert families["curate_step_rows_worked_total"][1][run, ("step", "noise fit")] == 160
    state = state_of(pipeline)
    assert [step["rows_worked"] for step in state["steps"]] == [160] * 5
    seconds = {step["step"]: step["seconds"] for step in state["steps"]}
    assert seconds["embed"] == pytest.approx(families["curate_step_seconds"][1][run, ("step", "embed")], abs=0.001)


def test_a_metrics_file_that_cannot_be_written_is_your_input(curate, pipeline, tmp_path):
    code, _, told = curate("run", pipeline.file(), "--metrics-file", tmp_path / "no" / "m.prom")
    assert code == 2
    assert "--metrics-file" in told
    assert not pipeline.output.exists()


def state_of(pipeline):
    return json.loads((pipeline.output / "_state" / "run.json").read_text())


def test_the_state_keeps_what_earlier_runs_worked_on(curate, pipeline):
    curate("run", pipeline.file(), "--quiet")
    first = state_of(pipeline)
    assert (first["state"], first["exit_code"], first["pairs"], first["runner"]) == ("finished", 0, 160, "local")
    assert first["statuses"] == {"ok": 160}
    curate("run", pipeline.file(), "--quiet")
    second = state_of(pipeline)
    assert second["started"] > first["started"]
    assert {step["rows_worked"] for step in second["steps"]} == {0}
    assert second["last_worked"] == first["last_worked"]
    assert second["last_worked"]["embed"]["run_started"] == first["started"]


def test_a_trial_names_the_command_for_all_pairs(curate, pipeline):
    options = ("--workers", "2", "--set", "seed=0")
    _, out, _ = curate("run", pipeline.file(), "--limit", "120", *options)
    assert f"curate run {pipeline.file()} --workers 2 --set=seed=0\n" in out


def test_ctrl_c_while_the_summary_is_printed_is_an_interruption_too(curate, with_noise, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("curate.cli.run.print_summary", interrupted)
    code, _, told = curate("run", with_noise.copied_to(tmp_path).file(), "--quiet")
    assert code == 130
    assert "run the same command again" in told


class InterruptedAgain:
    """Sends Ctrl-C once more while the last word is being told."""

    def __call__(self, event, figures):
        if isinstance(event, RunInterrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_takes_nobody_the_last_word(curate, pipeline, monkeypatch):
    monkeypatch.setattr("curate.state.RunFile", lambda store: InterruptedAgain())
    monkeypatch.setattr("curate.execution.execute", lambda *given: os.kill(os.getpid(), signal.SIGINT))
    code, _, told = curate("run", pipeline.file(), "--quiet")
    assert code == 130
    assert "run the same command again" in told
