"""Many trials, one after the other: which are drawn, which are done already, and what they are compared with."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from curate import __version__
from curate.bench.chaos.disturbances import ON_THREADS, Disturbance, disturbances, web_of
from curate.bench.chaos.mounts import unmount_below
from curate.bench.chaos.outcomes import Outcome, known_outcomes, note
from curate.bench.chaos.processes import Prefork
from curate.bench.chaos.ray_nodes import RayNodes
from curate.bench.chaos.setting import Setting, Variant, make_setting
from curate.bench.chaos.snapshot import Snapshot, take_snapshot
from curate.bench.chaos.trial import Trial, carry_out
from curate.bench.chaos.web import free_port
from curate.errors import CurateError, InputError

_SETTING_FILE = "setting.json"


@dataclass(frozen=True)
class Bench:
    """What all trials share.

    Attributes:
        setting: the inputs.
        port: of the web server.
        prefork: starts local runs.
        kinds: the disturbances that can be had here, by name.
        left_out: why each of the others cannot.
    """

    setting: Setting
    port: int
    prefork: Prefork
    kinds: Mapping[str, Disturbance]
    left_out: Mapping[str, str]


@contextmanager
def open_bench(folder: Path, only: Sequence[str]) -> Iterator[Bench]:
    """Get ready, and end in the end what was started.

    Args:
        folder: of the bench, made if needed; one that is there is gone on with.
        only: kinds that are wanted; empty: all.

    Raises:
        InputError: there is no such kind, no wanted one can be had here, or the folder is another version's.
        CurateError: the towers cannot be written.
        OSError: the folder cannot be written.
    """
    nodes, prefork = RayNodes(), Prefork()
    known = disturbances(nodes)
    unknown = [kind for kind in only if kind not in known]
    if unknown:
        raise InputError(f"--only {', '.join(unknown)}: there are {', '.join(known)}")
    wanted = {kind: each for kind, each in known.items() if not only or kind in only}
    reasons = {kind: each.why_not() for kind, each in wanted.items()}
    left_out = {kind: reason for kind, reason in reasons.items() if reason is not None}
    kinds = {kind: each for kind, each in wanted.items() if kind not in left_out}
    if not kinds:
        raise InputError("; ".join(f"{kind}: {reason}" for kind, reason in left_out.items()))
    # Processes look for paths from another folder.
    folder = folder.resolve()
    unmount_below(folder)
    try:
        setting, port = _setting(folder, prefork)
        yield Bench(setting, port, prefork, kinds, left_out)
    finally:
        prefork.close()
        nodes.close()


def _setting(folder: Path, prefork: Prefork) -> tuple[Setting, int]:
    file = folder / _SETTING_FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        setting = make_setting(folder, port)
        written = prefork.start(["curate.bench.chaos.towers"], [str(folder)], folder / "towers.log").wait()
        if written.code:
            raise CurateError(f"the towers cannot be written: {written.told[-2000:]}")
        file.write_text(json.dumps({"version": __version__, "port": port}), encoding="utf-8")
        return setting, port
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        version, port = held["version"], int(held["port"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is not a bench's: {error}. Name a new --work.") from None
    if version != __version__:
        raise InputError(f"{folder}: was begun by version {version}, this is {__version__}. Name a new --work.")
    return Setting(folder), port


def draw_kinds(weights: Mapping[str, int], runs: int, seed: int) -> list[str]:
    """The kinds of so many trials: in every stretch each kind comes as often as it weighs, in a drawn order."""
    rng = random.Random(seed)
    stretch = [kind for kind, weight in sorted(weights.items()) for _ in range(weight)]
    drawn: list[str] = []
    # Every kind once before any comes again: few trials are a mix, too.
    first = sorted(weights)
    rng.shuffle(first)
    drawn += first
    while len(drawn) < runs:
        rng.shuffle(stretch)
        drawn += stretch
    return drawn[:runs]


def run_trials(bench: Bench, runs: int, seed: int, told: Callable[[str], None]) -> Iterator[Outcome]:
    """Outcomes of all trials, those of an earlier bench in the same folder first.

    Args:
        bench: what they share.
        runs: how many.
        seed: of kinds and moments.
        told: hears what is being done.

    Raises:
        CurateError: an undisturbed run fails, or a trial could not be carried out.
    """
    weights = {kind: each.weight for kind, each in bench.kinds.items()}
    folder = bench.setting.folder
    known = {(each.seed, each.number, each.kind): each for each in known_outcomes(folder)}
    undisturbed: dict[Variant, Snapshot] = {}
    for number, kind in enumerate(draw_kinds(weights, runs, seed)):
        done = known.get((seed, number, kind))
        if done is not None:
            yield done
            continue
        disturbance = bench.kinds[kind]
        with web_of(disturbance, bench.setting, bench.port):
            variant = disturbance.variant
            if variant not in undisturbed:
                told(f"an undisturbed run, input {variant.replace('_', ' ')}")
                undisturbed[variant] = _undisturbed(bench, variant)
            told(f"trial {number + 1} of {runs}: {disturbance.about}")
            outcome = carry_out(Trial(seed, number, disturbance), bench.setting, undisturbed[variant], bench.prefork)
        note(outcome, folder)
        yield outcome


def _undisturbed(bench: Bench, variant: Variant) -> Snapshot:
    """A finished run on this input, made if it is not there."""
    folder = bench.setting.folder / "undisturbed" / variant
    corpus, output, whole = folder / "corpus", folder / "run", folder / "whole"
    if not whole.exists():
        # What an interrupted bench has left is no undisturbed run.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        bench.setting.copy_corpus(corpus, variant)
        pipeline = folder / "pipeline.yaml"
        bench.setting.write_pipeline(pipeline, str(corpus), str(output), variant)
        ended = bench.prefork.start(["curate"], ["run", str(pipeline), *ON_THREADS], folder / "run.log").wait()
        if ended.code:
            raise CurateError(f"an undisturbed run fails with exit code {ended.code}: {ended.told[-2000:]}")
        whole.touch()
    return take_snapshot(output)
