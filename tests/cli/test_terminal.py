"""One line per step on a terminal, however narrow; lines to keep elsewhere."""

import io
import re
from datetime import datetime

import pytest
from rich.console import Console

from curate.cli.terminal import PlainProgress, TerminalProgress, clock
from curate.events import InputRead, RunStarted
from curate.monitor import Monitor
from curate.progress import PartReport, StepReport, StepStart


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def carried_out(monitor, time):
    """A run of three steps: one by parts, one in one go, one that was done before."""
    monitor.run_started(RunStarted("runs/x", "p.yaml", "local", "1.0"))
    monitor.input_read(
        InputRead(pairs=1_000_000, shards=1, parts=40, shard_errors=2, added=[f"{n}.tar" for n in range(7)])
    )
    monitor.step_started(StepStart("embed", rows=1_000_000, rows_done=500_000, parts=40, parts_done=20, workers=2))
    time.now += 100
    monitor.part_done("embed", PartReport(20, 25_000))
    yield "embed"
    monitor.part_done("embed", PartReport(21, 25_000, error="gone"))
    time.now += 100
    monitor.step_done(StepReport("embed", 200.0, 475_000))
    monitor.step_started(StepStart("noise fit", "at most 50,000 pairs, 5 folds, 2 rounds"))
    monitor.said("round 1 of 2 " + "and so on " * 20)
    monitor.warned("hardly\x1b[31m anything to learn from")
    yield "noise fit"
    time.now += 60
    monitor.step_done(StepReport("noise fit", 60.0, 50_000))
    monitor.step_started(StepStart("noise", rows=1_000_000, rows_done=1_000_000, parts=40, parts_done=40))
    monitor.step_done(StepReport("noise", 0.0, 0))
    yield "noise"


def drawn(width):
    """What stands on a terminal of so many columns at each stop: step -> lines."""
    time, stops = Time(), {}
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, _environ={})
    with TerminalProgress(console) as shown:
        for stop in carried_out(Monitor([shown], time), time):
            picture = Console(file=io.StringIO(), width=width, color_system=None)
            picture.print(shown.lines)
            stops[stop] = picture.file.getvalue().splitlines()
    return stops, console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_step_is_one_line_that_fits(width):
    stops, _ = drawn(width)
    assert [len(lines) for lines in stops.values()] == [1, 2, 3]
    assert all(len(line) <= width for lines in stops.values() for line in lines)


@pytest.mark.parametrize("width", [60, 100])
def test_a_step_shows_pairs_rate_time_left_and_workers(width):
    stops, _ = drawn(width)
    line = stops["embed"][0]
    assert all(word in line for word in ("embed", "525,000/1,000,000", "250/s", "31:40 left"))
    assert width < 80 or "2 workers" in line


@pytest.mark.parametrize("width", [60, 100])
def test_a_fit_says_what_it_does_and_takes_no_room_from_others(width):
    stops, _ = drawn(width)
    embed, fit = stops["noise fit"]
    assert "noise fit" in fit
    assert "round 1 of 2" in fit
    assert all(word in embed for word in ("embed", "525,000/1,000,000", "2,375/s"))


def test_failed_parts_and_steps_done_before_are_told():
    stops, _ = drawn(100)
    assert "1 of 40 parts failed" in stops["noise"][0]
    assert "done before" in stops["noise"][2]


def test_warnings_stand_above_and_carry_no_control_characters():
    _, text = drawn(100)
    assert "warning  hardly [31m anything to learn from" in text


def test_the_input_and_what_is_new_are_told():
    _, text = drawn(100)
    assert "input    1,000,000 pairs in 1 shard, cut into 40 parts" in text
    assert "input    2 damaged places in shards" in text
    assert "input    new since the last run: 0.tar, 1.tar, 2.tar, 3.tar, 4.tar and 2 more" in text


def test_plain_lines_can_be_read_later():
    console, time = Console(file=io.StringIO(), width=40), Time()
    list(carried_out(Monitor([PlainProgress(console, lambda: datetime(2026, 1, 31, 12))], time), time))
    lines = console.file.getvalue().splitlines()
    assert all(re.match(r"12:00:00 \w", line) for line in lines)
    told = [line[9:] for line in lines]
    assert "embed        begins, 1,000,000 pairs in 40 parts, 500,000 done before, 2 workers" in told
    assert "embed        525,000/1,000,000 pairs, 250/s, 1:40 gone, about 31:40 left" in told
    assert "embed        525,000/1,000,000 pairs, 250/s, 1 part failed, 1:40 gone, about 31:40 left" in told
    assert "noise fit    begins, at most 50,000 pairs, 5 folds, 2 rounds" in told
    assert "warning: hardly [31m anything to learn from" in told
    assert "noise fit    done: 50,000 pairs in 1 min 0 s" in told
    assert "noise        1,000,000 pairs, done before" in told
    assert sum("noise  " in line for line in told) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert clock(seconds) == text
