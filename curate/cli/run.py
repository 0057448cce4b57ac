"""`curate run` and `curate plan`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from curate.cli.shared import (
    FitsFrom,
    JsonFile,
    Limit,
    Overrides,
    PipelineFile,
    Quiet,
    RunnerName,
    Workers,
    duration,
    interruptible,
    open_runner,
    out,
    print_imports,
    show_progress,
    write_json,
)
from curate.cli.show import print_summary

if TYPE_CHECKING:
    from curate.execution import Runner
    from curate.plan import Plan

NOT_MEASURED = "not measured yet"


def run(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Annotate a corpus. Run it again to go on after an interruption: what is done is not done twice."""
    from curate.config import load_config
    from curate.execution import execute
    from curate.plan import make_plan, output_url
    from curate.state import lock_run, remember_config, save_timings
    from curate.store import RunStore
    from curate.summary import summarize

    started = time.monotonic()
    config = load_config(pipeline, overrides or [])
    console = Console(highlight=False, quiet=quiet)
    with interruptible(), lock_run(RunStore(output_url(config, limit))), open_runner(runner, workers) as chosen:
        with console.status("reading the input"):
            plan = make_plan(config, chosen.index, limit, fits_from)
        remember_config(plan.store, config)
        _tell_changes(console, plan)
        with show_progress(console) as heard:
            reports = execute(plan, chosen, heard)
            save_timings(RunStore(config.output), reports)
    summary = summarize(plan.store)
    seconds = time.monotonic() - started
    print_summary(console, summary, plan.store.url, reports, seconds)
    if json_file is not None:
        steps = [asdict(report) for report in reports]
        write_json(json_file, {"run": plan.store.url, "seconds": seconds, "steps": steps, **summary.to_json()})


def plan(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
) -> None:
    """Say what a run would do: steps, parts, what is done, how long it may take, whether the cluster can do it."""
    from curate.config import load_config
    from curate.plan import make_plan
    from curate.state import estimate_seconds

    config = load_config(pipeline, overrides or [])
    with open_runner(runner, workers) as chosen:
        with out.status("reading the input"):
            made = make_plan(config, chosen.index, limit, fits_from)
        resources = _resources(chosen, made)
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
    if any(row["estimate"] == NOT_MEASURED for row in rows):
        out.print(f"estimate a trial measures it: curate run {pipeline} --limit 500", markup=False, soft_wrap=True)
    _tell_changes(out, made)
    if json_file is not None:
        write_json(json_file, {"run": made.store.url, "pairs": made.manifest.rows, "steps": rows})


def _tell_changes(console: Console, plan: Plan) -> None:
    for verb, names in (
        ("new", plan.change.added),
        ("changed", plan.change.changed),
        ("gone", plan.change.vanished),
    ):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            console.print(f"input    {verb} since the last run: {shown}", markup=False)


def _resources(runner: Runner, plan: Plan) -> str:
    from curate.execution import LocalRunner, RayRunner

    if isinstance(runner, RayRunner):
        workers, each = runner.model_workers(plan.spec.device, len(plan.manifest.parts))
        return f"Ray: {workers} model workers with {each}, the other CPUs decode"
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
