"""One trial: a run, disturbed at a moment, resumed, and compared with the undisturbed one."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curate.bench.chaos.disturbances import Disturbance, Site, Started
from curate.bench.chaos.moments import Moment, draw_moment, wait_for
from curate.bench.chaos.mounts import unmount_below
from curate.bench.chaos.outcomes import Outcome
from curate.bench.chaos.processes import Ended, Prefork, RunProcess, start_process
from curate.bench.chaos.setting import DISTURBED_SHARD, PART_ROWS, SHARD_PAIRS, Setting
from curate.bench.chaos.snapshot import Snapshot, compare, done_again, take_snapshot
from curate.errors import CurateError

TRIES = 5
"""How often another moment is drawn where a run had ended before its moment came."""


@dataclass(frozen=True)
class Trial:
    """What is drawn for a trial before it begins.

    Attributes:
        seed, number: of the trial.
        disturbance: what happens.
    """

    seed: int
    number: int
    disturbance: Disturbance


def carry_out(trial: Trial, setting: Setting, undisturbed: Snapshot, prefork: Prefork) -> Outcome:
    """Do a trial in a folder of its own, which stays only if something is wrong.

    Args:
        trial: what is done.
        setting: the inputs.
        undisturbed: what the run has to come to.
        prefork: starts local runs.

    Raises:
        CurateError: no moment came before the run had ended, or a run hangs.
    """
    folder = setting.folder / "trials" / f"{trial.seed}-{trial.number:04d}"
    rng = random.Random(f"{trial.seed}-{trial.number}-{trial.disturbance.kind}")
    for _ in range(TRIES):
        _clear(folder)
        outcome = _tried(trial, Site(folder, setting, rng), undisturbed, prefork)
        if outcome is not None:
            if outcome.recovered:
                _clear(folder)
            return outcome
    raise CurateError(f"{trial.disturbance.kind}: the run ended {TRIES} times before it was disturbed; see {folder}")


def _tried(trial: Trial, site: Site, undisturbed: Snapshot, prefork: Prefork) -> Outcome | None:
    """The outcome; None: the run ended before its moment came."""
    disturbance, began = trial.disturbance, time.monotonic()
    site.disk.mkdir(parents=True)
    site.setting.copy_corpus(site.corpus, "as_written")
    pipeline = site.folder / "pipeline.yaml"
    moment = draw_moment(site.rng, _folders(undisturbed), disturbance.input_is_read)
    with disturbance.prepared(site) as started:
        site.setting.write_pipeline(pipeline, *disturbance.addresses(site), disturbance.variant)
        try:
            run = _start(started, pipeline, site.folder / "disturbed.log", prefork)
            try:
                arrived = wait_for(moment, partial(disturbance.files_in, site), run.has_ended)
                struck = arrived and disturbance.strike(site, run)
                ended = run.wait()
            finally:
                run.end()
            if not struck or (ended.code == 0 and 0 not in disturbance.codes):
                # Nothing was left to be disturbed.
                return None
            disturbance.undo(site)
            broken = _broken_promises(disturbance, ended)
            disturbance.collect(site)
            before = take_snapshot(site.output)
            if not (disturbance.ends_by_itself and ended.code == 0):
                broken += _resume(disturbance.resumed(site), pipeline, site, prefork)
                disturbance.collect(site)
            outcome = _outcome(trial, moment, ended, broken, before, take_snapshot(site.output), undisturbed, began)
            if not outcome.recovered and site.disk.is_mount():
                # What is to be looked into would go with the mount.
                shutil.copytree(site.output, site.folder / "kept")
            return outcome
        finally:
            unmount_below(site.folder)


def _start(started: Started, pipeline: Path, log: Path, prefork: Prefork) -> RunProcess:
    arguments = ["run", str(pipeline), *started.options]
    if started.environment is None:
        return prefork.start(started.module, arguments, log)
    return start_process(started.module, arguments, started.environment, log)


def _resume(started: Started, pipeline: Path, site: Site, prefork: Prefork) -> list[str]:
    """Run again; what is wrong with that."""
    resumed = _start(started, pipeline, site.folder / "resumed.log", prefork).wait()
    return [] if resumed.code == 0 else [f"resumed: exit code {resumed.code}: {_last_line(resumed.told)}"]


def _broken_promises(disturbance: Disturbance, ended: Ended) -> list[str]:
    broken = []
    if ended.code not in disturbance.codes:
        broken.append(f"exit code {ended.code}: {_last_line(ended.told)}")
    if "Traceback" in ended.told:
        broken.append("a traceback")
    if ended.code > 0 and disturbance.says and not any(text in ended.told for text in disturbance.says):
        broken.append(f"does not say how to go on: {_last_line(ended.told)}")
    return broken


def _outcome(
    trial: Trial,
    moment: Moment,
    ended: Ended,
    broken: list[str],
    before: Snapshot,
    after: Snapshot,
    undisturbed: Snapshot,
    began: float,
) -> Outcome:
    difference = compare(undisturbed, after)
    redone = done_again(before, after, undisturbed)
    if trial.disturbance.variant in ("changed", "cut"):
        redone = tuple(name for name in redone if _hangs_on_other_shards(name))
    return Outcome(
        seed=trial.seed,
        number=trial.number,
        kind=trial.disturbance.kind,
        moment=str(moment),
        exit_code=ended.code,
        seconds=round(time.monotonic() - began, 1),
        rows_lost=difference.lost,
        rows_duplicated=difference.duplicated,
        rows_invented=difference.invented,
        files_different=difference.files,
        temporary_left=after.temporary,
        redone=redone,
        broken=tuple(broken),
    )


def _hangs_on_other_shards(name: str) -> bool:
    """Of a run whose `DISTURBED_SHARD` is another: only embeddings of the other shards need not be made again."""
    parts_a_shard = -(-SHARD_PAIRS // PART_ROWS)
    first = int(DISTURBED_SHARD.partition(".")[0]) * parts_a_shard
    changed = {f"embed/part-{number:08d}.parquet" for number in range(first, first + parts_a_shard)}
    return name.startswith("embed/") and name not in changed


def _folders(undisturbed: Snapshot) -> dict[str, int]:
    """How many files an undisturbed run leaves in each folder."""
    folders: dict[str, int] = {}
    for name in undisturbed.files:
        folder = name.rpartition("/")[0]
        if folder:
            folders[folder] = folders.get(folder, 0) + 1
    return folders


def _clear(folder: Path) -> None:
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _last_line(told: str) -> str:
    lines = told.strip().splitlines()
    return lines[-1] if lines else "it says nothing"
