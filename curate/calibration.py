"""The bill before the run: the real stages on a few hundred pairs, and what that makes of any number of them.

Pictures are read, decoded and embedded for real. Fits and the steps behind them are timed at two larger sizes, on
pairs with real captions whose embeddings are mixed from those that were made: what a fit costs depends on how many
pairs there are, not on what they show.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import embedding_matrix, side_by_side
from curate.config import InputConfig, PipelineConfig
from curate.errors import CurateError, InputError
from curate.execution import Runner, execute
from curate.plan import EMBED, FitStep, Plan, RowStep, TrainStep, make_plan, with_manifest
from curate.plan.specs import ENCODER_FILE
from curate.progress import PartReport, StepReport, StepStart
from curate.schema import Status
from curate.sources.base import Part
from curate.stages.embed import Embed
from curate.steps import PartTask, artifact_folder
from curate.store import DoneIndex, RunStore, part_file

log = logging.getLogger(__name__)

SAMPLED_PARTS = 24
"""Pairs are drawn from so many places, evenly spread over all shards."""
EMBEDDED_ROWS = 384
"""Pairs that are decoded and embedded after the models are loaded and warm; a quarter as many load and warm them."""
FIT_SIZES = (1000, 3000)
"""Pairs that fits and the steps behind them are timed on."""
LEAST_FIT_ROWS = 300
"""Fits refuse to learn from fewer usable pairs than 100."""
FIT_PART_ROWS = 250
"""Pairs in a part of these."""
_PIECE_ROWS = 16
_SEED = 0

Kind = Literal["rows", "fit", "whole"]


@dataclass(frozen=True)
class StepCost:
    """What one step costs, as measured.

    Attributes:
        name: of the step; a fit's ends in " fit".
        kind: rows: its pairs are shared out among workers; fit: one process, on a bounded sample; whole: one process,
            on all pairs.
        fixed_seconds: before the first pair.
        head_seconds, body_seconds: a worker's time for a pair, reading and decoding, models and writing.
        exponent: seconds of a fit grow with this power of its pairs, at least 1.
        most_rows: bound of a fit's sample; None: there is none.
        bytes_per_row: left on disk for each pair (of a fit: of its sample).
    """

    name: str
    kind: Kind
    fixed_seconds: float
    head_seconds: float
    body_seconds: float
    exponent: float = 1.0
    most_rows: int | None = None
    bytes_per_row: float = 0.0


@dataclass(frozen=True)
class StepBill:
    """What one step is predicted to take.

    Attributes:
        name, kind: as in StepCost.
        pairs: worked on.
        seconds: from its begin to its end.
        gpu_hours: of the GPUs that its workers hold.
        bytes: left on disk.
    """

    name: str
    kind: Kind
    pairs: int
    seconds: float
    gpu_hours: float
    bytes: int


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        device: cpu or cuda: where the towers ran.
        workers: that shared the rows.
        pairs: of the corpus.
        seconds: that measuring took.
        costs: of the steps, in their order.
    """

    device: str
    workers: int
    pairs: int
    seconds: float
    costs: tuple[StepCost, ...]

    def bill(self, pairs: int | None = None, cores: int | None = None, gpus: int | None = None) -> list[StepBill]:
        """What a run over so many pairs costs.

        Args:
            pairs: default: those of the corpus.
            cores: that decode and, without a GPU, run models; default: the workers that were measured.
            gpus: default 1.

        Raises:
            InputError: GPUs are named and the towers were measured on a CPU.
        """
        check_gpus(self.device, gpus)
        return [self._step(cost, self.pairs if pairs is None else pairs, cores, gpus or 1) for cost in self.costs]

    def _step(self, cost: StepCost, pairs: int, cores: int | None, gpus: int) -> StepBill:
        rows = pairs if cost.most_rows is None else min(pairs, cost.most_rows)
        on_gpu = self.device == "cuda" and cost.name == EMBED
        seconds = cost.fixed_seconds + _wall_seconds(cost, rows, cores or self.workers, gpus if on_gpu else None)
        hours = gpus * seconds / 3600 if on_gpu else 0.0
        return StepBill(cost.name, cost.kind, rows, seconds, hours, round(cost.bytes_per_row * rows))


def _wall_seconds(cost: StepCost, rows: int, cores: int, gpus: int | None) -> float:
    """Row steps are shared out; on a GPU the slower of decoding and model counts, as they overlap."""
    if cost.kind != "rows":
        return float(cost.body_seconds * rows**cost.exponent)
    if gpus is None:
        return (cost.head_seconds + cost.body_seconds) * rows / cores
    return max(cost.head_seconds * rows / cores, cost.body_seconds * rows / gpus)


def check_gpus(device: str, gpus: int | None) -> None:
    """Whether GPUs that a bill is asked for can be predicted from the device where the towers run.

    Raises:
        InputError: it is a CPU.
    """
    if gpus is not None and device != "cuda":
        raise InputError(
            "--gpus: the towers run on the CPU here, which says nothing of a GPU; calibrate on a machine with one"
        )


def calibrate(config: PipelineConfig, plan: Plan, runner: Runner) -> Calibration:
    """Measure what each step of a pipeline costs on this machine; leaves nothing behind.

    Args:
        config: the pipeline.
        plan: of it; what is done already is measured nonetheless.
        runner: that the run would have.

    Raises:
        InputError: the pipeline downloads its pictures, trains towers, or has a step behind the embeddings that looks
            at the pictures again: these cannot be predicted from a few hundred pairs.
        CurateError: not one sampled pair is usable, or a step fails.
    """
    _check_predictable(config, plan)
    started = time.monotonic()
    sample = draw_pairs(plan)
    workers = runner.workers_for("cpu", sys.maxsize)
    store = RunStore(f"{plan.store.url.rstrip('/')}-calibration-{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory() as folder:
        _write_tars(Path(folder), sample.pictures)
        try:
            small = _config_on(config, Path(folder), store.url)
            store.write_json(ENCODER_FILE, plan.store.read_json(ENCODER_FILE))
            made = make_plan(small, runner.index, fits_from=plan.fits_from)
            embed = _embed_cost(made, runner, workers)
            costs = [embed, *_later_costs(made, runner, workers, sample.pairs)]
        finally:
            store.delete_folder("")
    seconds = time.monotonic() - started
    return Calibration(plan.spec.device, workers, plan.manifest.rows, seconds, tuple(costs))


def _check_predictable(config: PipelineConfig, plan: Plan) -> None:
    reasons = {
        "input.format: urls: downloading takes what the network takes": config.input.format == "urls",
        "refine.trainable: the number of rounds is not known": any(isinstance(step, TrainStep) for step in plan.steps),
        "caption.decoder: coca looks at the pictures again": config.stages.caption is not None
        and config.stages.caption.decoder == "coca",
        "python: stages of your own may look at the pictures again": bool(config.stages.python),
    }
    for reason, holds in reasons.items():
        if holds:
            raise InputError(f"--calibrate cannot predict this pipeline. {reason}. Try `curate run --limit N`.")


# What is measured on.


@dataclass(frozen=True)
class DrawnPairs:
    """Pairs from all over a corpus.

    Attributes:
        pictures: image bytes (None without one) and caption of those that are embedded.
        pairs: many more, without their pictures.
    """

    pictures: list[tuple[bytes | None, str | None]]
    pairs: pa.Table


def draw_pairs(plan: Plan) -> DrawnPairs:
    """The first pairs of parts that are evenly spread over the corpus."""
    numbers = _spread(list(plan.manifest.parts), SAMPLED_PARTS)
    pictured = math.ceil((EMBEDDED_ROWS + EMBEDDED_ROWS // 4) / len(numbers))
    wanted = math.ceil(FIT_SIZES[-1] / len(numbers))
    pictures: list[list[tuple[bytes | None, str | None]]] = []
    tables: list[pa.Table] = []
    for number in numbers:
        part = plan.manifest.parts[number]
        read = _first_rows(plan, part, wanted)
        head = read.slice(0, pictured)
        pictures.append(list(zip(_column(head, "image"), _column(head, "caption"), strict=True)))
        tables.append(read.drop_columns(["image"]))
    # One from each place in turn: any stretch of them is spread over the corpus too.
    mixed = [row[place] for place in range(pictured) for row in pictures if place < len(row)]
    pairs = pa.concat_tables(tables)
    return DrawnPairs(mixed, pairs.filter(pc.equal(pairs.column("status"), Status.OK.value)))


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers)))
    return [numbers[place] for place in np.unique(places.round().astype(int))]


def _first_rows(plan: Plan, part: Part, rows: int) -> pa.Table:
    tables: list[pa.Table] = []
    for batch in plan.source.read(plan.manifest.shards[part.shard], part, _PIECE_ROWS):
        tables.append(batch)
        if sum(table.num_rows for table in tables) >= rows:
            break
    return pa.concat_tables(tables).slice(0, rows)


def _column(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table.column(name).to_pylist()
    return values


def _write_tars(folder: Path, pictures: Sequence[tuple[bytes | None, str | None]]) -> None:
    """As img2dataset would have written them."""
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, (picture, caption) in enumerate(pictures):
            members = {"jpg": picture, "txt": None if caption is None else caption.encode()}
            for extension, data in members.items():
                if data is not None:
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _config_on(config: PipelineConfig, folder: Path, output: str) -> PipelineConfig:
    """The same pipeline on the sampled pictures, cut so small that all workers have something to do."""
    given = InputConfig(
        format="webdataset",
        path=str(folder / "*.tar"),
        part_rows=_PIECE_ROWS,
        max_image_pixels=config.input.max_image_pixels,
    )
    return config.model_copy(update={"input": given, "output": output})


# Measuring.


@dataclass
class _Heard:
    """Reports of an execution, by step."""

    reports: dict[str, StepReport] = dataclasses.field(default_factory=dict)

    def step_started(self, start: StepStart) -> None:
        """See Progress."""

    def part_done(self, name: str, report: PartReport) -> None:
        """See Progress."""

    def step_done(self, report: StepReport) -> None:
        """See Progress."""
        self.reports[report.name] = report


def _embed_cost(plan: Plan, runner: Runner, workers: int) -> StepCost:
    """Two stretches of pictures: the first loads and warms the models, the second is what a pair costs."""
    step = next(step for step in plan.steps if isinstance(step, RowStep) and step.name == EMBED)
    tasks = plan.tasks(step)
    first, second = tasks[: len(tasks) // 5 or 1], tasks[len(tasks) // 5 or 1 :]
    loading, warm = (_carried_out(plan, step, runner, some) for some in (first, second or first))
    per_row = (warm.head_seconds + warm.body_seconds) / warm.rows
    return StepCost(
        name=EMBED,
        kind="rows",
        fixed_seconds=max(0.0, loading.seconds - per_row * loading.rows / workers),
        head_seconds=warm.head_seconds / warm.rows,
        body_seconds=warm.body_seconds / warm.rows,
        bytes_per_row=plan.store.folder_bytes(EMBED) / plan.manifest.rows,
    )


def _carried_out(plan: Plan, step: RowStep, runner: Runner, tasks: Sequence[PartTask]) -> StepReport:
    started = time.monotonic()
    reports = list(runner.run(step.work, tasks, plan.store))
    failed = [report.error for report in reports if report.error is not None]
    if failed:
        raise CurateError(f"{step.name}: {failed[0]}")
    return StepReport(
        step.name,
        time.monotonic() - started,
        sum(report.rows for report in reports),
        sum(report.head_seconds for report in reports),
        sum(report.body_seconds for report in reports),
    )


def _later_costs(plan: Plan, runner: Runner, workers: int, pairs: pa.Table) -> list[StepCost]:
    embedded = pa.concat_tables(
        plan.store.read_table(part_file(EMBED, number)) for number in sorted(plan.manifest.parts)
    )
    timed: list[dict[str, StepReport]] = []
    sizes = fit_sizes(pairs.num_rows)
    for size in sizes:
        store = RunStore(f"{plan.store.url}/{size}")
        at_size = _with_embeddings(dataclasses.replace(plan, store=store), pairs.slice(0, size), embedded)
        heard = _Heard()
        execute(at_size, runner, heard)
        timed.append(heard.reports)
    bounds = {step.name: step.fit_rows for step in at_size.steps if isinstance(step, FitStep)}
    small, large = timed[0], timed[-1]
    costs = []
    for name, report in large.items():
        if name == EMBED:
            continue
        if name.endswith(" fit"):
            fit = name.removesuffix(" fit")
            size_on_disk = store.folder_bytes(artifact_folder(fit))
            costs.append(_fit_cost(name, sizes, (small[name], report), bounds[fit], size_on_disk))
        elif report.head_seconds + report.body_seconds:
            costs.append(_row_cost(report, workers, len(at_size.manifest.parts), store.folder_bytes(name)))
        else:
            costs.append(_fit_cost(name, sizes, (small[name], report), None, store.folder_bytes(name)))
    return costs


def fit_sizes(pairs: int) -> list[int]:
    """The numbers of pairs that fits are timed on: two, or one where there are too few pairs for a fit of a third."""
    large = min(FIT_SIZES[-1], pairs)
    small = min(FIT_SIZES[0], large // 3)
    return [small, large] if small >= LEAST_FIT_ROWS else [large]


def _row_cost(report: StepReport, workers: int, parts: int, size_on_disk: int) -> StepCost:
    busy = report.head_seconds + report.body_seconds
    return StepCost(
        name=report.name,
        kind="rows",
        fixed_seconds=max(0.0, report.seconds - busy / min(workers, parts)),
        head_seconds=report.head_seconds / report.rows,
        body_seconds=report.body_seconds / report.rows,
        bytes_per_row=size_on_disk / report.rows,
    )


def _fit_cost(
    name: str, sizes: Sequence[int], reports: tuple[StepReport, StepReport], most_rows: int | None, size_on_disk: int
) -> StepCost:
    fixed, per_row, exponent = growth(sizes, [report.seconds for report in reports])
    return StepCost(
        name=name,
        kind="whole" if most_rows is None else "fit",
        fixed_seconds=fixed,
        head_seconds=0.0,
        body_seconds=per_row,
        exponent=exponent if most_rows is not None else 1.0,
        most_rows=most_rows,
        bytes_per_row=size_on_disk / sizes[-1],
    )


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float, float]:
    """How time grows, from two measurements: (fixed, factor, exponent) of fixed + factor * pairs ** exponent.

    A straight line where time grows more slowly than the pairs, else a power of at most 2. Of one measurement all
    of the time is taken to grow with the pairs.
    """
    small, large, before, after = sizes[0], sizes[-1], seconds[0], seconds[-1]
    exponent = min(2.0, math.log(after / before) / math.log(large / small)) if before < after and small < large else 0
    if exponent >= 1:
        return 0.0, after / large**exponent, exponent
    slope = max(0.0, after - before) / (large - small) if small < large else after / large
    return max(0.0, after - slope * large), slope, 1.0


# Many pairs of few.


def _with_embeddings(plan: Plan, pairs: pa.Table, embedded: pa.Table) -> Plan:
    """A plan over pairs whose embeddings are there already, in a run directory of its own."""
    starts = range(0, pairs.num_rows, FIT_PART_ROWS)
    shard = next(iter(plan.manifest.shards))
    parts = {
        number: Part(shard, start, min(FIT_PART_ROWS, pairs.num_rows - start), 0, 0, f"sample {start}")
        for number, start in enumerate(starts)
    }
    manifest = dataclasses.replace(plan.manifest, parts=parts, next_number=len(parts))
    planned = with_manifest(dataclasses.replace(plan, index=DoneIndex(plan.store)), manifest)
    step = next(step for step in planned.steps if isinstance(step, RowStep) and step.name == EMBED)
    whole = mixed_embeddings(pairs, embedded, np.random.default_rng(_SEED))
    for task in planned.tasks(step):
        piece = whole.slice(task.part.first_row, task.part.rows)
        plan.store.write_table(part_file(EMBED, task.number), piece, task.facts)
    return with_manifest(dataclasses.replace(planned, index=DoneIndex(plan.store)), manifest)


def mixed_embeddings(pairs: pa.Table, embedded: pa.Table, random: np.random.Generator) -> pa.Table:
    """Columns of the embed step for pairs that were not embedded.

    Pictures and captions of a pair lie between those of two pairs that were: no two are equal, and what belonged
    together does so still. Status, size and checksum are of one of the two, the checksum with the row's number.

    Args:
        pairs: as their source read them.
        embedded: the embed step's columns of some pairs.
        random: draws the two.

    Raises:
        CurateError: fewer than two embedded pairs are usable.
    """
    usable = np.flatnonzero(np.array([status == Status.OK for status in _column(embedded, "status")]))
    if len(usable) < 2:
        raise CurateError("--calibrate: fewer than two of the sampled pairs are usable; `status` of a trial says why")
    first, second = (random.choice(usable, pairs.num_rows) for _ in range(2))
    second = np.where(first == second, usable[(np.searchsorted(usable, first) + 1) % len(usable)], second)
    made = {}
    kept = embedded.take(pa.array(usable))
    place = {row: number for number, row in enumerate(usable)}
    for name in Embed.provides.names:
        known = embedding_matrix(kept.column(name)).astype(np.float32)
        left, right = (known[[place[row] for row in rows]] for rows in (first, second))
        made[name] = _lists(_unit(left + right))
    donors = embedded.take(pa.array(first))
    own = [name for name in pairs.column_names if name not in ("status", "error")]
    rest = [name for name in donors.column_names if name not in own and name not in made]
    told = donors.select(rest)
    place_of = told.column_names.index("image_sha256")
    checksums = [f"{number:08x}{value[8:]}" for number, value in enumerate(_column(told, "image_sha256"))]
    told = told.set_column(place_of, "image_sha256", pa.array(checksums, pa.string()))
    columns = side_by_side(pairs.select(own), told, pa.table(made))
    return columns.select([name for name in embedded.column_names if name in columns.column_names])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float16]:
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    halves: NDArray[np.float16] = (rows / lengths).astype(np.float16)
    return halves


def _lists(rows: NDArray[np.float16]) -> pa.ListArray:
    offsets = pa.array(np.arange(len(rows) + 1) * rows.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1)))
