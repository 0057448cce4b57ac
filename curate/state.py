"""What a run remembers of this machine under `_state/`: a lock, its figures, and how fast each step was."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from curate.config import PipelineConfig
from curate.errors import CurateError, InputError
from curate.events import Event, RunFigures
from curate.json_logs import time_text, utc_now
from curate.plan import FitStep, Plan, RowStep
from curate.progress import StepReport
from curate.store import RunStore

TIMINGS_FILE = "_state/timings.json"
PIPELINE_FILE = "_state/pipeline.json"
RUN_FILE = "_state/run.json"
RUN_FILE_SECONDS = 10.0
"""How often the figures are written while a step goes on."""


@contextmanager
def lock_run(store: RunStore) -> Iterator[None]:
    """Keep a second run out of a local run directory; the kernel frees the lock however this process ends.

    Raises:
        InputError: another run is at work there.
        CurateError: the lock lies behind a link out of the run directory.
    """
    root = store.local_root
    if root is None:
        yield
        return
    store.check_inside("_state/lock")
    (root / "_state").mkdir(parents=True, exist_ok=True)
    with (root / "_state" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{store.url}: another run is at work in this directory; wait for it or stop it"
            ) from None
        yield


def save_timings(store: RunStore, reports: Sequence[StepReport]) -> None:
    """Remember the pairs per second of every step that did something."""
    known = store.read_object(TIMINGS_FILE) or {}
    measured = {report.name: report.seconds / report.rows for report in reports if report.rows}
    if measured:
        store.write_json(TIMINGS_FILE, {**known, **measured})


def estimate_seconds(plan: Plan) -> dict[str, float]:
    """Seconds that each step may take, from what it took here or in a trial; steps never run before are left out."""
    per_row = RunStore(plan.config.output).read_object(TIMINGS_FILE) or {}
    seconds: dict[str, float] = {}
    for step in plan.steps:
        if isinstance(step, RowStep):
            rows, timed = sum(task.part.rows for task in plan.tasks(step)), step.name
        elif isinstance(step, FitStep):
            rows, timed = min(plan.manifest.rows, step.fit_rows), f"{step.name} fit"
        else:
            rows, timed = plan.manifest.rows, step.name
        if timed in per_row:
            seconds[timed] = per_row[timed] * rows
    return seconds


class RunFile:
    """Keeps the figures of a run in its `_state/run.json`. Hears a `Monitor`, best through `EveryFew`.

    The file holds `RunFigures` as JSON with `started` and `updated` (UTC). `last_worked` has for each step the figures
    of the last run that worked on any of its pairs, this one or an earlier one, with that run's `run_started`.
    """

    def __init__(self, store: RunStore, now: Callable[[], datetime] = utc_now) -> None:
        self._store, self._now = store, now
        self._started = time_text(now())
        self._last_worked: dict[str, Any] = (store.read_object(RUN_FILE) or {}).get("last_worked", {})

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener.

        Raises:
            CurateError: the run directory cannot be written.
        """
        updated = time_text(self._now())
        worked = {
            step.step: {**step.to_json(), "run_started": self._started} for step in figures.steps if step.rows_worked
        }
        self._last_worked = {**self._last_worked, **worked}
        held = {**figures.to_json(), "started": self._started, "updated": updated, "last_worked": self._last_worked}
        self._store.write_json(RUN_FILE, held)


def remember_config(store: RunStore, config: PipelineConfig) -> None:
    """Keep the pipeline as run, and the folder that its relative paths start from."""
    store.write_json(
        PIPELINE_FILE, {"folder": str(Path.cwd()), "pipeline": config.model_dump(mode="json", exclude_unset=True)}
    )


def remembered_config(store: RunStore) -> PipelineConfig | None:
    """The pipeline that made a run, its input's relative paths made absolute; None: the run does not say."""
    held = store.read_object(PIPELINE_FILE)
    if held is None:
        return None
    try:
        config, folder = PipelineConfig.model_validate(held["pipeline"]), str(held["folder"])
    except (KeyError, ValidationError):
        raise CurateError(
            f"{store.path(PIPELINE_FILE)}: does not hold a pipeline that this version reads. Name the pipeline file "
            "with --pipeline, or delete this one and run again."
        ) from None
    paths = [_from_folder(path, folder) for path in config.input.paths]
    root = config.input.image_root
    given = {"path": paths, **({} if root is None else {"image_root": _from_folder(root, folder)})}
    return config.model_copy(update={"input": config.input.model_copy(update=given)})


def _from_folder(path: str, folder: str) -> str:
    return path if "://" in path or "::" in path else str(Path(folder) / path)
