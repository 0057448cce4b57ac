"""`curate run` and `curate plan`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from curate import __version__
from curate.cli.shared import (
    KEPT,
    SIGNALS,
    FitsFrom,
    JsonFile,
    Limit,
    Overrides,
    PipelineFile,
    Quiet,
    RetryFailed,
    RunnerName,
    TerminalConsole,
    Workers,
    duration,
    err,
    ignore_signals,
    interruptible,
    open_runner,
    out,
    print_imports,
    show_progress,
    write_json,
)
from curate.cli.show import print_summary
from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    from types import FrameType

    from curate.calibration import Calibration
    from curate.config import PipelineConfig
    from curate.events import InputRead, RunFinished
    from curate.execution import Runner
    from curate.monitor import Monitor
    from curate.next_steps import NextStep
    from curate.plan import Plan
    from curate.retries import RetryCounts
    from curate.summary import Summary

NOT_MEASURED = "not measured yet"


class _Stop:
    """Ctrl-C, or SIGTERM, which a cluster sends before it takes the machine away: both end a run alike.

    The first waits for the parts in hand, the next does not.
    """

    def __init__(self) -> None:
        self.code, self.at_once, self.told = 128 + signal.SIGINT, False, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.code, self.at_once, self.told = 128 + number, self.told, True
        raise KeyboardInterrupt

    def listen(self) -> None:
        """Hear both signals."""
        for number in SIGNALS:
            signal.signal(number, self)

    def exit(self) -> NoReturn:
        """End the process with the signal's code."""
        if self.at_once:
            # Threads would be waited for; what they write is whole or absent.
            sys.stdout.flush()
            os._exit(self.code)
        raise typer.Exit(self.code) from None


def run(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    retry_failed: RetryFailed = False,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Write events to stdout, one JSON object a line, and nothing else.")
    ] = False,
    metrics_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE.prom", help="Keep Prometheus metrics in a textfile."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port; 0: on one that is free."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Annotate a corpus. Run it again to go on after an interruption: what is done is not done twice."""
    from curate.config import load_config
    from curate.events import RunStarted
    from curate.execution import execute
    from curate.lock import lock_run
    from curate.monitor import EveryFew, Monitor
    from curate.next_steps import next_steps
    from curate.plan import make_plan, output_url
    from curate.remembered_summary import remembered_summary
    from curate.retries import counting_retries
    from curate.state import RUN_FILE_SECONDS, RunFile, estimate_seconds, remember_config, save_timings
    from curate.store import RunStore

    console, monitor = TerminalConsole(highlight=False, quiet=quiet or json_logs), Monitor()
    with ExitStack() as held, _last_word(monitor, json_logs) as stop:
        retried = held.enter_context(counting_retries())
        metrics = _listening(held, monitor, json_logs, metrics_file, metrics_port)
        config = load_config(pipeline, overrides or [])
        store = RunStore(output_url(config, limit))
        # Held until the last word is in the run's own file.
        held.enter_context(lock_run(store, tell=partial(console.print, markup=False, soft_wrap=True)))
        monitor.add(EveryFew(RUN_FILE_SECONDS, RunFile(store)))
        with show_progress(console, monitor):
            monitor.run_started(RunStarted(store.url, str(pipeline), runner, __version__, limit, fits_from, metrics))
            with open_runner(runner, workers) as chosen:
                # Ray takes SIGTERM for itself.
                stop.listen()
                plan = make_plan(config, chosen.index, limit, fits_from, retry_failed, store)
                remember_config(store, config)
                monitor.input_read(_input_of(plan))
                monitor.expect(estimate_seconds(plan))
                reports = execute(plan, chosen, monitor)
            save_timings(RunStore(config.output), reports)
        summary = remembered_summary(store)
        seconds = monitor.figures.seconds
        whole = None if limit is None else _whole_run(pipeline, runner, workers, fits_from, overrides or [])
        following = next_steps(summary, store.url, whole)
        retries = retried.counts
        monitor.finished(_finish(summary, following, retries))
    with interruptible():
        print_summary(console, summary, store.url, reports, seconds, following, retries)
        if json_file is not None:
            steps = [asdict(report) for report in reports]
            figures = {"run": store.url, "seconds": seconds, "steps": steps, "retries": retries}
            write_json(json_file, {**figures, **summary.to_json()})


def _whole_run(
    pipeline: Path, runner: str, workers: int | None, fits_from: str | None, overrides: Sequence[str]
) -> str:
    """The command of a trial without its limit."""
    chosen = {
        "--runner": None if runner == "local" else runner,
        "--workers": None if workers is None else str(workers),
        "--fits-from": fits_from,
    }
    options = [word for name, value in chosen.items() if value is not None for word in (name, value)]
    return shlex.join(["curate", "run", str(pipeline), *options, *(f"--set={each}" for each in overrides)])


@contextmanager
def _last_word(monitor: Monitor, json_logs: bool) -> Iterator[_Stop]:
    """However a run ends, its listeners hear of it. Where events are logged nothing else is printed."""
    stop, before = _Stop(), {number: signal.getsignal(number) for number in SIGNALS}
    stop.listen()
    try:
        yield stop
    except KeyboardInterrupt:
        ignore_signals()
        monitor.interrupted(stop.code)
        if not json_logs:
            err.print(f"\ninterrupted: {KEPT}", markup=False, soft_wrap=True)
        stop.exit()
    except (CurateError, OSError) as error:
        code = 2 if isinstance(error, InputError) else 1
        monitor.failed(str(error), code)
        if not json_logs:
            raise
        raise typer.Exit(code) from None
    except Exception as bug:
        monitor.failed(f"{type(bug).__name__}: {bug}", 1)
        raise
    finally:
        if not stop.told:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listening(
    held: ExitStack, monitor: Monitor, json_logs: bool, metrics_file: Path | None, metrics_port: int | None
) -> str | None:
    """Let those hear the monitor that were asked for; the address of the metrics, if they are served.

    Raises:
        InputError: the file cannot be written or the port cannot be had.
    """
    from curate.json_logs import PROGRESS_SECONDS, JsonLogs
    from curate.metrics import FILE_SECONDS, MetricsFile, serve_metrics
    from curate.monitor import EveryFew

    if json_logs:
        monitor.add(EveryFew(PROGRESS_SECONDS, JsonLogs(sys.stdout)))
    if metrics_file is not None:
        monitor.add(EveryFew(FILE_SECONDS, MetricsFile(metrics_file)))
    return None if metrics_port is None else held.enter_context(serve_metrics(metrics_port, lambda: monitor.figures))


def _input_of(plan: Plan) -> InputRead:
    from curate.events import InputRead

    found, change = plan.manifest, plan.change
    return InputRead(
        pairs=found.rows,
        shards=len(found.shards),
        parts=len(found.parts),
        shard_errors=len(found.errors),
        added=change.added,
        changed=change.changed,
        gone=change.vanished,
    )


def _finish(summary: Summary, following: Sequence[NextStep], retries: RetryCounts) -> RunFinished:
    from curate.events import RunFinished

    return RunFinished(
        pairs=summary.pairs,
        statuses=summary.statuses,
        labels=summary.labels,
        shard_errors=summary.shard_errors,
        separable=summary.noise.get("separable"),
        next=[step.command for step in following],
        retries=retries,
    )


def plan(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    retry_failed: RetryFailed = False,
    overrides: Overrides = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure each step on a few hundred pairs, and say what all costs."),
    ] = False,
    pairs: Annotated[
        float | None, typer.Option(min=1, help="With --calibrate: what so many pairs would cost, such as 12.8e9.")
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="With --calibrate: on so many cores like those here.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="With --calibrate: on so many GPUs like the one here.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what a run would do: steps, parts, what is done, how long it may take, whether the cluster can do it."""
    from curate.cli.cost import cost_json, print_cost
    from curate.cli.terminal import change_lines
    from curate.config import load_config
    from curate.plan import make_plan
    from curate.state import estimate_seconds

    if not calibrate and (pairs, cores, gpus) != (None, None, None):
        raise InputError("--pairs, --cores and --gpus say what is predicted with --calibrate; add it")
    config = load_config(pipeline, overrides or [])
    with open_runner(runner, workers) as chosen:
        with out.status("reading the input"):
            made = make_plan(config, chosen.index, limit, fits_from, retry_failed)
        resources = _resources(chosen, made)
        measured = _calibrated(config, made, chosen, gpus) if calibrate else None
    rows = _plan_rows(made, estimate_seconds(made))
    table = Table("step", "parts", "done", "to do", "pairs to do", "estimate", title=f"{made.manifest.rows:,} pairs")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("step", "parts", "done", "to_do", "pairs_to_do", "estimate")))
    out.print(table)
    out.print(f"input    {len(made.manifest.shards)} shards, {len(made.manifest.parts)} parts", markup=False)
    spec = made.spec
    out.print(f"encoder  {spec.model}, {spec.device}, {spec.precision}, batches of {spec.batch_size}", markup=False)
    out.print(f"workers  {resources}\noutput   {made.store.url}", markup=False)
    print_imports(made.imported)
    if measured is None and any(row["estimate"] == NOT_MEASURED for row in rows):
        out.print(f"estimate a trial measures it: curate run {pipeline} --limit 500", markup=False, soft_wrap=True)
    change = made.change
    for line in change_lines(change.added, change.changed, change.vanished):
        out.print(line, markup=False)
    facts = {"run": made.store.url, "pairs": made.manifest.rows, "steps": rows}
    if measured is not None:
        many = None if pairs is None else int(pairs)
        bill = measured.bill(many, cores, gpus)
        print_cost(measured, bill, many, cores, gpus)
        facts["cost"] = cost_json(measured, bill, many, cores, gpus)
    if json_file is not None:
        write_json(json_file, facts)


def _calibrated(config: PipelineConfig, plan: Plan, runner: Runner, gpus: int | None) -> Calibration:
    from curate.calibration import calibrate, check_gpus

    check_gpus(plan.spec.device, gpus)

    with out.status("measuring each step on a few pairs"), interruptible("nothing of the measurement is kept"):
        return calibrate(config, plan, runner)


def _resources(runner: Runner, plan: Plan) -> str:
    from curate.execution import LocalRunner, RayRunner

    if isinstance(runner, RayRunner):
        workers, each = runner.model_workers(plan.spec.device, len(plan.manifest.parts))
        return f"Ray: {workers} model workers with {each}, decoding beside them"
    assert isinstance(runner, LocalRunner)
    return f"local: {runner.workers} threads"


def _plan_rows(plan: Plan, estimates: dict[str, float]) -> list[dict[str, Any]]:
    from curate.plan import FitStep, RowStep

    rows: list[dict[str, Any]] = []
    for step in plan.steps:
        seconds = estimates.get(f"{step.name} fit" if isinstance(step, FitStep) else step.name)
        if isinstance(step, RowStep):
            tasks = plan.tasks(step)
            pairs = sum(task.part.rows for task in tasks)
            counts = (step.name, len(step.fingerprints), len(step.done), len(tasks), pairs)
        elif isinstance(step, FitStep):
            counts = (f"{step.name} fit", 1, int(step.done), int(not step.done), 0)
        else:
            pairs = 0 if step.done else plan.manifest.rows
            counts = (step.name, 1, int(step.done), int(not step.done), pairs)
        estimate = "nothing to do" if not counts[3] else NOT_MEASURED if seconds is None else duration(seconds)
        names = ("step", "parts", "done", "to_do", "pairs_to_do")
        rows.append({**dict(zip(names, counts, strict=True)), "estimate": estimate, "seconds": seconds})
    return rows
