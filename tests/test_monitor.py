"""Figures of a run: what follows from what a runner tells, and who hears of it when."""

import logging
import threading

import pytest

from curate.events import (
    InputRead,
    RunFailed,
    RunFinished,
    RunStarted,
    StepFigures,
    StepFinished,
    StepProgress,
    StepStarted,
    Warned,
)
from curate.monitor import EveryFew, Monitor
from curate.progress import PartReport, StepReport, StepStart


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Heard:
    """Remembers all events with the figures of their moment."""

    def __init__(self):
        self.events = []

    def __call__(self, event, figures):
        self.events.append((event, figures))

    def names(self):
        return [event.name for event, _ in self.events]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def monitor(clock, heard):
    return Monitor([heard], clock)


EMBED = StepStart("embed", rows=100, rows_done=40, parts=10, parts_done=4, workers=2)


def test_rate_and_time_left_are_of_what_this_run_worked_on(monitor, clock, heard):
    monitor.step_started(EMBED)
    clock.now += 5
    monitor.part_done("embed", PartReport(4, 10, head_seconds=1, body_seconds=2))
    step = heard.events[-1][0].step
    assert (step.rows_done, step.rows_worked, step.parts_done) == (50, 10, 5)
    assert step.rows_per_second == 2
    assert step.seconds_left == 25
    assert (step.head_seconds, step.body_seconds) == (1, 2)


def test_a_failed_part_is_counted_as_failed_alone(monitor, heard):
    monitor.step_started(EMBED)
    monitor.part_done("embed", PartReport(4, 10, error="gone"))
    step = heard.events[-1][0].step
    assert (step.rows_done, step.rows_worked, step.parts_done, step.parts_failed) == (40, 0, 4, 1)


def test_time_left_is_what_earlier_runs_took_while_nothing_is_done(monitor, clock):
    monitor.expect({"noise fit": 30.0})
    monitor.step_started(StepStart("noise fit"))
    clock.now += 12
    monitor.said("round 1 of 2")
    assert monitor.figures.steps[-1].seconds_left == 18
    clock.now += 30
    monitor.said("round 2 of 2")
    assert monitor.figures.steps[-1].seconds_left is None


def test_time_left_is_unknown_where_nothing_tells(monitor):
    monitor.step_started(StepStart("noise fit"))
    assert monitor.figures.steps[-1].seconds_left is None


def test_pairs_are_counted_by_status(monitor):
    monitor.step_started(EMBED)
    monitor.part_done("embed", PartReport(4, 10, statuses={"ok": 9, "corrupt_image": 1}))
    monitor.part_done("embed", PartReport(5, 10, statuses={"ok": 10}))
    assert monitor.figures.statuses == {"ok": 19, "corrupt_image": 1}


def test_a_finished_step_keeps_its_figures(monitor, clock):
    monitor.step_started(EMBED)
    clock.now += 3
    monitor.step_done(StepReport("embed", 3.0, 60))
    clock.now += 100
    (step,) = monitor.figures.steps
    assert step.finished
    assert (step.seconds, step.rows_worked, step.seconds_left) == (3, 60, 0)


def test_a_run_that_fails_says_in_which_step(monitor, heard):
    monitor.run_started(RunStarted("runs/x", "p.yaml", "local", "1"))
    monitor.step_started(EMBED)
    monitor.failed("no space left", 1)
    event, figures = heard.events[-1]
    assert event == RunFailed("no space left", 1, "embed")
    assert (figures.state, figures.error, figures.exit_code) == ("failed", "no space left", 1)
    assert not figures.steps[-1].finished


def test_the_state_follows_the_run(monitor):
    assert monitor.figures.state == "running"
    monitor.finished(RunFinished(3, {"ok": 3}, {}, 0, None, []))
    assert (monitor.figures.state, monitor.figures.exit_code) == ("finished", 0)
    monitor.interrupted(130)
    assert (monitor.figures.state, monitor.figures.exit_code) == ("interrupted", 130)


def test_input_sizes_are_in_the_figures(monitor):
    monitor.input_read(InputRead(pairs=9, shards=2, parts=3, shard_errors=1))
    found = monitor.figures
    assert (found.pairs, found.shards, found.parts, found.shard_errors) == (9, 2, 3, 1)


def test_what_the_library_logs_is_heard_and_nothing_else_changes(monitor, heard, capsys):
    logger = logging.getLogger("curate.noise.fit")
    before = logging.getLogger("curate").level
    with monitor.hearing_logs():
        monitor.step_started(StepStart("noise fit"))
        logger.info("round %d of %d", 1, 2)
        logger.warning("hardly anything to learn from")
        logging.getLogger("else").warning("not ours")
    logger.info("nobody hears this")
    assert heard.names() == ["step_started", "step_progress", "warning"]
    assert heard.events[1][0].step.doing == "round 1 of 2"
    assert heard.events[2][0] == Warned("hardly anything to learn from", "noise fit")
    assert heard.events[2][1].warnings == 1
    assert logging.getLogger("curate").level == before
    assert "round" not in capsys.readouterr().err


def test_a_thread_that_logs_while_a_listener_logs_blocks_nobody(clock):
    """A listener warns while it is told; the log's own lock would be taken the other way round."""
    inside, go_on = threading.Event(), threading.Event()

    def listener(event, figures):
        if isinstance(event, StepStarted):
            inside.set()
            go_on.wait(10)
            logging.getLogger("curate.metrics").warning("from a listener")

    monitor = Monitor([listener], clock)
    with monitor.hearing_logs():
        first = threading.Thread(target=monitor.step_started, args=(EMBED,), daemon=True)
        first.start()
        inside.wait(10)
        second = threading.Thread(target=logging.getLogger("curate.x").warning, args=("from a fold",), daemon=True)
        second.start()
        second.join(0.2)
        go_on.set()
        first.join(10)
        second.join(10)
        assert not first.is_alive()
        assert not second.is_alive()
    assert monitor.figures.warnings == 2


def test_a_step_in_which_nothing_happens_is_told_of_all_the_same():
    told = threading.Event()
    monitor = Monitor([lambda event, figures: isinstance(event, StepProgress) and told.set()])
    monitor.step_started(StepStart("noise fit"))
    with monitor.ticking(0.01):
        assert told.wait(10)


def test_a_listener_that_fails_beside_the_run_ends_it(clock):
    failed = threading.Event()

    def listener(event, figures):
        if isinstance(event, StepProgress):
            failed.set()
            raise BrokenPipeError

    monitor = Monitor([listener], clock)
    monitor.step_started(EMBED)
    with monitor.ticking(0.01):
        assert failed.wait(10)
    with pytest.raises(BrokenPipeError):
        monitor.step_done(StepReport("embed", 1.0, 60))


def progress(doing="", rows=0):
    return StepProgress(StepFigures("embed", doing=doing, rows_worked=rows))


def test_progress_is_passed_on_once_in_a_while(clock, heard):
    few = EveryFew(10, heard, clock)
    for second in range(25):
        clock.now = 1000.0 + second
        few(progress(rows=second), None)
    assert [event.step.rows_worked for event, _ in heard.events] == [10, 20]


def test_what_is_no_progress_is_passed_on_at_once(clock, heard):
    few = EveryFew(10, heard, clock)
    step = StepFigures("embed")
    for event in (StepStarted(step), Warned("x"), progress(doing="round 1"), progress("round 1"), StepFinished(step)):
        few(event, None)
    assert heard.names() == ["step_started", "warning", "step_progress", "step_finished"]


def test_a_listener_that_fails_keeps_no_other_from_hearing(heard, clock):
    def broken(event, figures):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Monitor([broken, heard], clock).failed("no space left", 1)
    assert heard.names() == ["run_failed"]
