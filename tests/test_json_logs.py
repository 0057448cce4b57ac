"""Events as lines of JSON."""

import io
import json
from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from curate.events import RunFigures, RunStarted, StepFigures, StepProgress, Warned
from curate.json_logs import JsonLogs
from curate.monitor import Monitor
from curate.progress import PartReport, StepReport, StepStart

NOON = datetime(2026, 1, 31, 12, 0, 0, 5000, timezone.utc)


def lines_of(tell):
    stream = io.StringIO()
    tell(Monitor([JsonLogs(stream, lambda: NOON)], lambda: 5.0))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_says_when_what_and_of_which_run():
    (line,) = lines_of(lambda monitor: monitor.run_started(RunStarted("runs/x", "p.yaml", "ray", "1.0", limit=5)))
    assert list(line)[:3] == ["time", "event", "run"]
    assert line["time"] == "2026-01-31T12:00:00.005Z"
    assert (line["event"], line["run"], line["runner"], line["limit"]) == ("run_started", "runs/x", "ray", 5)


def test_all_events_of_a_step_have_the_same_fields():
    def step(monitor):
        monitor.step_started(StepStart("embed", rows=10, parts=1))
        monitor.part_done("embed", PartReport(0, 10))
        monitor.step_done(StepReport("embed", 1.0, 10))

    lines = lines_of(step)
    assert [line["event"] for line in lines] == ["step_started", "step_progress", "step_finished"]
    assert {*lines[0]} == {*lines[1]} == {*lines[2]} == {"time", "event", "run", *StepFigures("embed").to_json()}


def test_the_last_line_says_how_it_ended():
    (failed,) = lines_of(lambda monitor: monitor.failed("no space left", 1))
    assert (failed["event"], failed["error"], failed["exit_code"], failed["step"]) == (
        "run_failed",
        "no space left",
        1,
        None,
    )
    (stopped,) = lines_of(lambda monitor: monitor.interrupted(143))
    assert (stopped["event"], stopped["exit_code"], stopped["seconds"]) == ("run_interrupted", 143, 0.0)


@given(st.text())
def test_no_message_breaks_a_line(message):
    stream = io.StringIO()
    JsonLogs(stream, lambda: NOON)(Warned(message), RunFigures("runs/x"))
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    assert json.loads(stream.getvalue())["message"] == message


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        JsonLogs(stream)(StepProgress(StepFigures("embed")), RunFigures())
        assert json.loads((tmp_path / "log").read_text())["step"] == "embed"
