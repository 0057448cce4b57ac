"""Metrics are what Prometheus reads, wherever they are asked for."""

import re
import socket
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import InputError
from curate.events import RunFigures, StepFigures
from curate.metrics import MetricsFile, exposition, serve_metrics

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:\\[\\"n]|[^\\"\n])*",?)*)\})? (\S+)'
)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:\\[\\"n]|[^\\"\n])*)"')
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parsed(text):
    """Family -> (type, {labels: value}), strictly by the text format: help and type first, each family once."""
    families, current = {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert NAME.fullmatch(current)
            assert current not in families
            families[current] = [None, {}]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            assert kind in {"gauge", "counter"}
            assert kind != "counter" or name.endswith("_total")
            families[current][0] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] == current
            pairs = LABEL.findall(found[2] or "")
            labels = tuple((key, re.sub(r'\\[\\"n]', lambda m: UNESCAPED[m[0]], value)) for key, value in pairs)
            assert labels not in families[current][1]
            families[current][1][labels] = float(found[3])
    return families


def value(families, name, **labels):
    return families[f"curate_{name}"][1][tuple({"run": "runs/x", **labels}.items())]


STEP = StepFigures(
    "embed", rows=100, rows_done=50, rows_worked=10, parts=10, parts_done=5, parts_failed=1, workers=2, seconds=5
)
FIGURES = RunFigures(
    "runs/x", "local", pairs=100, shards=4, parts=10, statuses={"ok": 9, "corrupt_image": 1}, steps=(STEP,)
)


def test_every_figure_is_a_metric():
    families = parsed(exposition(FIGURES, 12.5))
    assert value(families, "run_state", state="running") == 1
    assert value(families, "run_state", state="failed") == 0
    assert value(families, "run_updated_timestamp_seconds") == 12.5
    assert value(families, "rows_read_total", status="corrupt_image") == 1
    assert value(families, "step_rows", step="embed") == 100
    assert value(families, "step_rows_done", step="embed") == 50
    assert value(families, "step_rows_worked_total", step="embed") == 10
    assert value(families, "step_rows_per_second", step="embed") == 2
    assert value(families, "step_parts", step="embed") - value(families, "step_parts_done", step="embed") == 5
    assert value(families, "step_parts_failed_total", step="embed") == 1
    assert value(families, "step_seconds", step="embed") == 5
    assert value(families, "step_seconds_left", step="embed") == 25
    assert value(families, "step_worker_seconds_total", step="embed", work="head") == 0


def test_what_is_not_known_has_no_sample():
    families = parsed(exposition(RunFigures("runs/x", steps=(StepFigures("noise fit"),)), 0))
    assert "curate_step_seconds_left" not in families
    assert "curate_rows_read_total" not in families


@given(st.text(), st.text(), st.integers(0, 2**62))
def test_any_name_can_be_read_back(run, step, rows):
    families = parsed(exposition(RunFigures(run, steps=(StepFigures(step, rows=rows),)), 0))
    (labels,) = families["curate_step_rows"][1]
    assert labels == (("run", run), ("step", step))


def test_the_textfile_is_whole_and_alone(tmp_path):
    file = tmp_path / "curate.prom"
    write = MetricsFile(file, lambda: 1.0)
    assert parsed(file.read_text())
    write(None, FIGURES)
    assert file.read_text() == exposition(FIGURES, 1.0)
    assert list(tmp_path.iterdir()) == [file]


def test_a_textfile_that_cannot_be_written_is_your_input(tmp_path):
    with pytest.raises(InputError, match=r"--metrics-file .* cannot be written"):
        MetricsFile(tmp_path / "no" / "curate.prom")


def test_a_textfile_that_cannot_be_written_any_more_is_one_warning(tmp_path, caplog):
    (tmp_path / "folder").mkdir()
    write = MetricsFile(tmp_path / "folder" / "curate.prom")
    (tmp_path / "folder" / "curate.prom").unlink()
    (tmp_path / "folder").rmdir()
    write(None, FIGURES)
    write(None, FIGURES)
    assert len(caplog.records) == 1
    assert "cannot be written any more" in caplog.text


def test_a_port_answers_with_the_figures_of_the_moment():
    now = [RunFigures("runs/x")]
    with serve_metrics(0, lambda: now[0]) as address:
        for figures in (now[0], FIGURES):
            now[0] = figures
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert len(parsed(answer.read().decode())["curate_step_rows"][1] if figures.steps else []) == len(
                    figures.steps
                )
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address.removesuffix("metrics"), timeout=10)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=10)


def test_a_port_that_is_taken_is_your_input():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with (
            pytest.raises(InputError, match=r"--metrics-port .* Address already in use"),
            serve_metrics(taken.getsockname()[1], RunFigures),
        ):
            pass
