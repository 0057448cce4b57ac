"""Thousands of hostile inputs, read by a process of its own that may die or hang: what became of each."""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import resource
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curate.bench.hostile.examine import DAMAGES, Drawn, Outcome, Verdict, examine
from curate.bench.hostile.inputs import GROUPS, Group
from curate.bench.hostile.watch import Watch, snapshot

Told = Callable[[str, int, int | None], None]
Record = dict[str, Any]

SHARES: dict[Group, float] = {"picture": 0.46, "caption": 0.24, "tar": 0.14, "table": 0.11, "pipeline": 0.05}
"""Of the inputs, by group."""
PACKED: dict[Group, int] = {"picture": 40, "caption": 40, "tar": 20, "table": 20, "pipeline": 10}
"""Inputs that are read at a time."""
SECONDS = 60.0
"""An input on its own that takes longer hangs; a pack of them has three times as long."""
MEMORY_BYTES = 8 << 30
"""Address space of the reading process: what asks for more is refused it."""
VERDICTS: tuple[Verdict, ...] = ("promised", "crash", "hang", "outside", "wrong")
_CANARY = "root:x:0:0:this file must stay as it is\n"


@dataclass(frozen=True)
class Job:
    """Inputs of one group that are read together."""

    inputs: tuple[Drawn, ...]

    def one_by_one(self) -> list[Job]:
        """Each input on its own."""
        return [Job((drawn,)) for drawn in self.inputs]


def draw_inputs(count: int, seed: int) -> list[Drawn]:
    """Hostile inputs: every kind at least once if there are enough of its group, the rest by weight.

    Args:
        count: how many, at least one for each group.
        seed: the same one gives the same inputs.
    """
    draw = random.Random(f"hostile {seed}")
    chosen: list[Drawn] = []
    for group, share in SHARES.items():
        kinds = [kind for kind, damage in DAMAGES.items() if damage.group == group]
        wanted = max(1, round(count * share))
        weights = [DAMAGES[kind].weight for kind in kinds]
        names = [*kinds, *draw.choices(kinds, weights, k=max(0, wanted - len(kinds)))][:wanted]
        chosen += [Drawn(kind, f"{seed} {kind} {number}") for number, kind in enumerate(names)]
    return chosen


def pack(inputs: Sequence[Drawn], seed: int) -> list[Job]:
    """Inputs in jobs of one group each, kinds well mixed."""
    draw, jobs = random.Random(f"pack {seed}"), []
    for group in GROUPS:
        members = [drawn for drawn in inputs if drawn.group == group]
        draw.shuffle(members)
        jobs += [Job(tuple(members[at : at + PACKED[group]])) for at in range(0, len(members), PACKED.get(group, 1))]
    return jobs


def bench_hostile(count: int, seed: int, work: Path, workers: int, told: Told) -> list[Outcome]:
    """Read hostile inputs and say what became of each.

    Args:
        count: of inputs.
        seed: of the draw.
        work: an empty folder.
        workers: processes that read at once.
        told: hears how far it is.
    """
    surroundings = work / "surroundings"
    surroundings.mkdir()
    (surroundings / "passwd").write_text(_CANARY)
    jobs = pack(draw_inputs(count, seed), seed)
    output = work / "output"
    output.mkdir()
    free: queue.SimpleQueue[_Reader] = queue.SimpleQueue()

    def read(job: Job) -> list[Outcome]:
        reader = free.get()
        before = snapshot(work, output)
        found = reader.read(job)
        after = snapshot(work, output)
        free.put(reader)
        return found if before == after else [_outside(outcome, before, after) for outcome in found]

    outcomes: list[Outcome] = []
    with ExitStack() as opened, ThreadPoolExecutor(workers) as threads:
        for number in range(workers):
            free.put(opened.enter_context(_Reader(output / f"reader-{number}")))
        for found in threads.map(read, jobs):
            outcomes += found
            told("hostile inputs", len(outcomes), count)
    return outcomes


def _outside(outcome: Outcome, before: dict[str, Any], after: dict[str, Any]) -> Outcome:
    files = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return Outcome(outcome.drawn, "outside", f"changed while it was read: {', '.join(files[:5])}")


class _Reader:
    """A process that reads jobs; another takes its place where it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._jobs = 0
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, job: Job) -> list[Outcome]:
        """What became of the inputs; those of a job that ended badly are read again one by one."""
        limit = SECONDS if len(job.inputs) == 1 else 3 * SECONDS
        found = self._asked(job, limit)
        if isinstance(found, list):
            return found
        if len(job.inputs) == 1:
            return [Outcome(job.inputs[0], found, f"the reading process {found} alone")]
        outcomes = [outcome for single in job.one_by_one() for outcome in self.read(single)]
        if all(outcome.verdict == "promised" for outcome in outcomes):
            first, *others = outcomes
            return [Outcome(first.drawn, found, "only together with others of its pack"), *others]
        return outcomes

    def _asked(self, job: Job, seconds: float) -> list[Outcome] | Verdict:
        self._jobs += 1
        place = self._folder / f"job-{self._jobs}"
        place.mkdir()
        pipe = self._ready()
        pipe.send((job, place))
        try:
            if pipe.poll(seconds):
                found: list[Outcome] = pipe.recv()
                return found
        except (EOFError, ConnectionResetError):
            self._end()
            return "crash"
        finally:
            shutil.rmtree(place)
        self._end()
        return "hang"

    def _ready(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_read_jobs, args=(theirs, self._folder), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def _end(self) -> None:
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _read_jobs(pipe: Connection, folder: Path) -> None:
    """The reading process: a job in, its outcomes out, until the pipe is closed."""
    sys.dont_write_bytecode = True
    warnings.filterwarnings("ignore", module="PIL")
    # C libraries complain there about every broken picture.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    watch = Watch(folder)
    while True:
        try:
            job, place = pipe.recv()
        except EOFError:
            return
        outcomes = examine(job.inputs, place)
        refused = watch.taken()
        if refused:
            what = "; ".join(refused[:3])
            outcomes = [Outcome(outcome.drawn, "outside", what) for outcome in outcomes]
        pipe.send(outcomes)


def count_verdicts(outcomes: Sequence[Outcome]) -> dict[str, Counter[Verdict]]:
    """How many inputs of each kind came to what, in the order of DAMAGES."""
    counts: dict[str, Counter[Verdict]] = {kind: Counter() for kind in DAMAGES}
    for outcome in outcomes:
        counts[outcome.drawn.kind][outcome.verdict] += 1
    return {kind: of_kind for kind, of_kind in counts.items() if of_kind}


def records_of(outcomes: Sequence[Outcome], seed: int, environment: Record) -> list[Record]:
    """Flat records, one per kind and figure; the first is the environment."""
    records: list[Record] = [{"bench": "hostile", "metric": "environment", **environment}]
    for kind, counts in count_verdicts(outcomes).items():
        shared = {"bench": "hostile", "kind": kind, "seed": seed, "unit": "inputs"}
        records.append({**shared, "metric": "inputs", "value": sum(counts.values())})
        records += [{**shared, "metric": verdict, "value": counts[verdict]} for verdict in VERDICTS]
    return records


def failures(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """Those that are not as promised."""
    return (outcome for outcome in outcomes if outcome.verdict != "promised")
