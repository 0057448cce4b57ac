"""Carries a plan out, with the local runner or with Ray Data. The only module of the pipeline that imports ray."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate import __version__
from curate.columns import embedding_matrix
from curate.concepts.fit import MIN_TRUSTED_PAIRS
from curate.concepts.model import ConceptModel
from curate.duplicates import mark_corpus
from curate.errors import LEARNED, CurateError, InputError, NothingToLearnError
from curate.models.encoder import EncoderOptions, EncoderSpec, load_encoder
from curate.noise.model import NoiseModel
from curate.noise.refined import RefinedModel
from curate.plan import (
    NOISE_FIT,
    CaptionFitWork,
    ConceptsFitWork,
    DuplicatesStep,
    FitStep,
    FitWork,
    NoiseFitWork,
    Plan,
    RefineFitWork,
    RowStep,
    TrainStep,
    after_download,
    scoring_identity,
    worker_encoder_options,
)
from curate.progress import PartReport, Progress, StepReport, StepStart
from curate.retries import RetryCounts, count_retries, counting_retries
from curate.run_format import write_format
from curate.sampling import draw_caption_sample, draw_concept_sample, draw_sample
from curate.sources.base import Shard, ShardIndex, Source
from curate.steps import (
    PartTask,
    PartWork,
    artifact_folder,
    finish_part,
    is_settled,
    leave_part,
    read_artifact,
    read_artifact_facts,
    write_artifact,
    write_artifact_facts,
)
from curate.store import INDEX_FOLDER, TEMPORARY_PREFIX, RunStore, part_file
from curate.training import TRAINING_FILE, WEIGHTS_FILE, TrainWork, read_training

log = logging.getLogger(__name__)

REACH_SECONDS = 5.0
"""How long a cluster has to accept a connection."""
TRAIN_RETRIES = 3
"""How often workers of a training may die."""
WORKER_RETRIES = 3
"""How often workers of a step may be lost one after the other with next to nothing done in between."""
SETTLE_SECONDS = 60.0
"""How long a cluster that may have lost a node is given to notice, before workers start on what is left of it."""
PARTS_IN_FLIGHT = 2
"""Parts that a Ray worker has at once: one that it works on and one that waits, so that pixels do not pile up."""
_TRAIN_ERROR = "_state/training-error.json"
_CPU_SHARE = 0.5
"""What a model worker on a CPU and a decode worker ask Ray for: one of each for every core, which take turns.

A core that only decodes would idle where pictures are small, and hold all others up where they are large.
"""


class _WorkersLost(CurateError):  # noqa: N818 - who does not try again tells it as the error it is
    """Workers of Ray, or what they have made, went with a process or (`node`) maybe a machine."""

    def __init__(self, reason: str, node: bool) -> None:
        self.reason = " ".join(reason.split())[:300]
        super().__init__(_about_death(1, self.reason))
        self.node = node


class Runner(Protocol):
    """Where work is carried out."""

    def index(self, source: Source, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ShardIndex]]:
        """Index shards, in any order."""
        ...

    def workers_for(self, device: str, tasks: int) -> int:
        """Most models at work at once on so many tasks on this device (cpu or cuda).

        Raises:
            InputError: the cluster can never schedule one.
        """
        ...

    def run(self, work: PartWork, tasks: Sequence[PartTask], store: RunStore) -> Iterator[PartReport]:
        """Carry out a step's tasks, in any order. One that fails with a CurateError yields a report with its error."""
        ...

    def trainers_for(self, work: TrainWork) -> int:
        """Workers that share a training.

        Raises:
            InputError: the cluster can never schedule one.
        """
        ...

    def train(self, work: TrainWork) -> None:
        """Train towers; goes on from the checkpoint of a training that was interrupted."""
        ...

    def encode_texts(self, options: EncoderOptions, spec: EncoderSpec, texts: Sequence[str]) -> NDArray[np.float16]:
        """Embed a fit's texts where the text tower can run as planned; float16 [n, text_dim], unit norm."""
        ...


def execute(plan: Plan, runner: Runner, progress: Progress) -> list[StepReport]:
    """Do everything in the plan that is not done yet.

    Raises:
        CurateError: parts that could not be done; everything else is done and stays.
    """
    # One thread for each BLAS call, in every worker alike: the number of cores must not change a single bit.
    threadpool_limits(1)
    write_format(plan.store, __version__)
    _clean_up(plan)
    reports = []
    if plan.download is not None:
        reports.append(_run_step(plan, plan.download, runner, progress))
        plan = after_download(plan)
    for step in plan.steps:
        if step is plan.download:
            continue
        if isinstance(step, RowStep | FitStep) and step.round and is_settled(plan.store, step.round):
            continue
        if isinstance(step, RowStep):
            reports.append(_run_step(plan, step, runner, progress))
        elif isinstance(step, TrainStep):
            reports += [] if step.done else [_train(plan, step, runner, progress)]
        elif not step.done:
            reports.append(_whole_corpus(plan, step, runner, progress))
    return reports


def about_step(plan: Plan, step: FitStep | TrainStep | DuplicatesStep) -> str:
    """What a step does and how, in a few words for a person."""
    if isinstance(step, DuplicatesStep):
        return "all pictures are compared"
    if isinstance(step, TrainStep):
        how = step.work.how
        trained = "LoRA of the towers" if how.trainable == "lora" else "the towers"
        return (
            f"{trained}, loss {how.loss}, {how.epochs} epochs, on pairs with noise_prob < {step.work.trusted_below:g}"
        )
    if step.taken_from is not None:
        return f"taken from {step.taken_from}"
    return f"at most {min(plan.manifest.rows, step.fit_rows):,} pairs, {_about_fit(step.work)}"


def _about_fit(work: FitWork) -> str:
    if isinstance(work, NoiseFitWork):
        return f"{work.options.folds} folds, {work.options.rounds} rounds"
    if isinstance(work, RefineFitWork):
        heads = work.options.heads
        return f"{work.options.rounds} rounds, loss {heads.loss}, {heads.epochs} epochs each"
    if isinstance(work, ConceptsFitWork):
        return "names from captions" if work.vocabulary is None else f"{len(work.vocabulary):,} names given"
    return f"decoder {work.decoder}"


def _whole_corpus(plan: Plan, step: FitStep | DuplicatesStep, runner: Runner, progress: Progress) -> StepReport:
    """A step that is done in one go, here: its time counts as a step's."""
    name = f"{step.name} fit" if isinstance(step, FitStep) else step.name
    progress.step_started(StepStart(name, about_step(plan, step)))
    started = time.monotonic()
    with counting_retries() as retried:
        if isinstance(step, DuplicatesStep):
            rows = mark_corpus(plan, step)
        elif step.taken_from is not None:
            rows = _take_fit(plan, step, step.taken_from)
        else:
            rows = _fit(plan, step, runner)
    report = StepReport(name, time.monotonic() - started, rows, retries=retried.counts)
    progress.step_done(report)
    return report


def _train(plan: Plan, step: TrainStep, runner: Runner, progress: Progress) -> StepReport:
    """Train the towers of a round, unless labels have settled or nearly nobody is trusted."""
    progress.step_started(StepStart(step.name, about_step(plan, step), workers=runner.trainers_for(step.work)))
    started = time.monotonic()
    files = []
    with counting_retries() as retried:
        diagnostics = _why_settled(plan, step)
        if not diagnostics["settled"]:
            runner.train(step.work)
            diagnostics |= read_training(plan.store, step.work.folder)
            files = [WEIGHTS_FILE, TRAINING_FILE]
        digests = {name: plan.store.digest(f"{step.work.folder}/{name}") for name in files}
        facts = {"fingerprint": step.fingerprint, "diagnostics": diagnostics}
        write_artifact_facts(plan.store, step.name, digests, facts)
    worked = plan.manifest.rows if files else 0
    report = StepReport(step.name, time.monotonic() - started, worked, retries=retried.counts)
    progress.step_done(report)
    return report


def _why_settled(plan: Plan, step: TrainStep) -> dict[str, Any]:
    """Whether there is nothing to train for, with the share of pairs that moved and how many are trusted."""
    if step.before is not None and is_settled(plan.store, step.before):
        return {"settled": True}
    moved, needed = _moved(plan, step), MIN_TRUSTED_PAIRS
    trusted = sum(len(step.work.trusted_rows(number)) for number in plan.manifest.parts)
    if trusted < needed:
        log.warning("%s changes nothing: %d pairs can be trusted, %d are needed", step.name, trusted, needed)
    settled = trusted < needed or (moved is not None and moved < step.settled)
    return {"settled": settled, "moved": moved, "trusted": trusted}


def _moved(plan: Plan, step: TrainStep) -> float | None:
    """Share of pairs that entered or left the trusted ones in the round before; None: there was no such round."""
    if step.compared is None:
        return None
    moved = pairs = 0
    for number in plan.manifest.parts:
        before, after = (
            plan.store.read_table(part_file(name, number), ["noise_prob"]).column("noise_prob")
            for name in step.compared
        )
        threshold = pa.scalar(step.work.trusted_below, pa.float32())
        changed = pc.xor(pc.less(before, threshold), pc.less(after, threshold))
        moved += pc.sum(changed).as_py() or 0
        pairs += len(changed) - changed.null_count
    return moved / max(pairs, 1)


def _clean_up(plan: Plan) -> None:
    folders = [step.name for step in plan.steps if isinstance(step, RowStep | DuplicatesStep)]
    artifacts = [artifact_folder(step.name) for step in plan.steps if isinstance(step, FitStep | TrainStep)]
    plan.store.delete_temporary_files(["", "_state", INDEX_FOLDER, *artifacts])
    for folder in folders:
        wanted = {f"part-{number:08d}.parquet" for number in plan.manifest.parts}
        for name in plan.index.names(folder):
            if name.startswith(TEMPORARY_PREFIX) or (name.startswith("part-") and name not in wanted):
                plan.store.delete(f"{folder}/{name}")
                plan.index.forget(folder, name)
    plan.index.save()


def _run_step(plan: Plan, step: RowStep, runner: Runner, progress: Progress) -> StepReport:
    tasks = plan.tasks(step)
    rows = sum(task.part.rows for task in tasks)
    parts = len(step.fingerprints)
    start = StepStart(
        step.name,
        rows=plan.manifest.rows,
        rows_done=plan.manifest.rows - rows,
        parts=parts,
        parts_done=parts - len(tasks),
        workers=runner.workers_for(step.work.device, len(tasks)) if tasks else 0,
    )
    progress.step_started(start)
    started = time.monotonic()
    failed: list[PartReport] = []
    head = body = 0.0
    with counting_retries() as retried:
        for report in runner.run(step.work, tasks, plan.store) if tasks else ():
            count_retries(report.retries)
            if report.error is None:
                found = None if step is plan.download else step.fingerprints[report.number]
                plan.index.record(step.name, report.number, found, report.digest)
            else:
                failed.append(report)
            head, body = head + report.head_seconds, body + report.body_seconds
            progress.part_done(step.name, report)
        plan.index.save()
    if failed:
        raise CurateError(_failures(step.name, failed, len(tasks)))
    summary = StepReport(step.name, time.monotonic() - started, rows, head, body, retried.counts)
    progress.step_done(summary)
    return summary


def _failures(step: str, failed: Sequence[PartReport], tasks: int) -> str:
    shown = "\n".join(f"  part {report.number}: {report.error}" for report in failed[:5])
    more = f"\n  and {len(failed) - 5} more" if len(failed) > 5 else ""
    return f"{step}: {len(failed)} of {tasks} parts could not be done; the others are kept.\n{shown}{more}"


def _fit(plan: Plan, step: FitStep, runner: Runner) -> int:
    files, diagnostics, rows = _fitted(plan, step, runner)
    if diagnostics.get("verdict", LEARNED) != LEARNED:
        log.warning("%s", diagnostics["verdict"])
    facts = {
        "fingerprint": step.fingerprint,
        "diagnostics": diagnostics,
        "encoder": scoring_identity(plan.spec),
        "fitted": step.fitted,
    }
    write_artifact(plan.store, step.name, files, facts)
    return rows


def _fitted(plan: Plan, step: FitStep, runner: Runner) -> tuple[dict[str, bytes], dict[str, Any], int]:
    """The artifact's files, its diagnostics, and how many pairs it was fitted on."""
    work = step.work
    if isinstance(work, CaptionFitWork):
        return _fit_captions(plan, step, work)
    if isinstance(work, RefineFitWork):
        refined, rows = _fit_refine(plan, step, work)
        return refined.to_bytes(), refined.diagnostics, rows
    if isinstance(work, ConceptsFitWork):
        concepts, rows = _fit_concepts(plan, step, work, runner)
        return concepts.to_bytes(), concepts.diagnostics, rows
    noise, rows = _fit_noise(plan, step, work)
    return noise.to_bytes(), noise.diagnostics, rows


def _fit_captions(plan: Plan, step: FitStep, work: CaptionFitWork) -> tuple[dict[str, bytes], dict[str, Any], int]:
    from curate.completion.fit import CompletionOptions, CompletionSample, fit_completion, untouched, verdict_of

    table = draw_caption_sample(plan.store, plan.manifest.parts, step.fit_rows, plan.config.seed, work.believed)
    concepts = [[(each["name"], each["score"]) for each in row or ()] for row in table.column("concepts").to_pylist()]
    noise = NoiseModel.from_bytes(read_artifact(plan.store, NOISE_FIT))
    sample = CompletionSample(
        image_sha256=table.column("image_sha256").to_pylist(),
        captions=table.column("caption").to_pylist(),
        image=embedding_matrix(table.column("image_embedding")),
        text=embedding_matrix(table.column("text_embedding")),
        noise_prob=table.column("noise_prob").to_numpy(),
        fold=table.column("fold").to_numpy(),
        concepts=concepts,
        decided=_believed_model(plan, work.believed, noise).decided,
    )
    options = CompletionOptions(
        decoder=work.decoder, trusted_below=work.trusted_below, accept_quantile=work.accept_quantile
    )
    try:
        model = fit_completion(sample, noise, options, plan.config.seed)
    except NothingToLearnError as reason:
        files = untouched(str(reason))
        return files, {"verdict": verdict_of(files)}, table.num_rows
    written = {} if model.captioner is None else model.captioner.diagnostics
    diagnostics = {
        "verdict": LEARNED,
        "threshold": model.threshold,
        "learned": len(model.learned),
        "captioner": written,
    }
    return model.to_bytes(), diagnostics, table.num_rows


def _believed_model(plan: Plan, step: str, noise: NoiseModel) -> NoiseModel | RefinedModel:
    """What made the noise_prob that counts."""
    if step == NOISE_FIT:
        return noise
    fits = [each for each in plan.steps if isinstance(each, FitStep) and each.round]
    if not fits:
        return RefinedModel.from_bytes(read_artifact(plan.store, step), noise)
    done = [fit.name for fit in fits if not is_settled(plan.store, str(fit.round))]
    return NoiseModel.from_bytes(read_artifact(plan.store, done[-1])) if done else noise


def _fit_noise(plan: Plan, step: FitStep, work: NoiseFitWork) -> tuple[NoiseModel, int]:
    from curate.noise.fit import fit_noise

    seed = plan.config.seed
    parts, joint_space = plan.manifest.parts, work.joint_space
    sample = draw_sample(plan.store, parts, step.fit_rows, seed, joint_space, work.by, work.embed)
    return fit_noise(sample, work.options, seed), len(sample.captions)


def _fit_refine(plan: Plan, step: FitStep, work: RefineFitWork) -> tuple[RefinedModel, int]:
    from curate.noise.refine import refine_noise

    seed, by = plan.config.seed, work.noise.by
    sample = draw_sample(plan.store, plan.manifest.parts, step.fit_rows, seed, plan.spec.joint_space, by)
    noise = NoiseModel.from_bytes(read_artifact(plan.store, NOISE_FIT))
    model = refine_noise(sample, noise, work.noise.options, work.options, seed)
    if not model.rounds:
        log.warning("refine changes nothing: %s", model.diagnostics["ended"])
    return model, len(sample.captions)


def _fit_concepts(plan: Plan, step: FitStep, work: ConceptsFitWork, runner: Runner) -> tuple[ConceptModel, int]:
    from curate.concepts.fit import fit_concepts
    from curate.concepts.words import english_tokenizer

    seed, parts = plan.config.seed, plan.manifest.parts
    tokenizer = english_tokenizer()
    sample = draw_concept_sample(plan.store, parts, step.fit_rows, seed, plan.spec.joint_space, work.believed)
    encode = partial(runner.encode_texts, worker_encoder_options(plan.config), plan.spec)
    model = fit_concepts(sample, work.vocabulary, work.options, seed, tokenizer, encode)
    return model, len(sample.captions)


def _take_fit(plan: Plan, step: FitStep, run: str) -> int:
    """Copy another run's fit, so that this run directory explains itself; no pairs are fitted on."""
    theirs = RunStore(run)
    facts = read_artifact_facts(theirs, step.name)
    if facts is None:
        raise CurateError(f"{run}: its {step.name} fit vanished while this run was going on")
    write_artifact(plan.store, step.name, read_artifact(theirs, step.name), facts)
    return 0


class LocalRunner:
    """Threads of this process. Decoding and models release the interpreter lock for most of their time."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1

    def index(self, source: Source, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ShardIndex]]:
        """See Runner."""
        with ThreadPoolExecutor(self.workers) as pool:
            indexing = [pool.submit(copy_context().run, source.index, shard) for shard in shards]
            for shard, future in zip(shards, indexing, strict=True):
                yield shard, future.result()

    def workers_for(self, device: str, tasks: int) -> int:
        """See Runner."""
        return 1 if device == "cuda" else min(self.workers, tasks)

    def run(self, work: PartWork, tasks: Sequence[PartTask], store: RunStore) -> Iterator[PartReport]:
        """See Runner. On a GPU one body runs at a time while the other threads decode."""
        work.prepare()
        bodies = threading.Semaphore(1 if work.device == "cuda" else self.workers)
        with ThreadPoolExecutor(self.workers + (1 if work.device == "cuda" else 0)) as pool:
            futures = [pool.submit(_run_part, work, task, store, bodies) for task in tasks]
            try:
                yield from _as_finished(futures)
            except KeyboardInterrupt:
                log.info("stopping; interrupt again to stop at once")
                raise
            finally:
                for future in futures:
                    future.cancel()

    def trainers_for(self, work: TrainWork) -> int:
        """See Runner: this process."""
        return 1

    def train(self, work: TrainWork) -> None:
        """See Runner."""
        work.train()

    def encode_texts(self, options: EncoderOptions, spec: EncoderSpec, texts: Sequence[str]) -> NDArray[np.float16]:
        """See Runner."""
        return _encode_texts(options, spec, texts)


def _as_finished(futures: Sequence[Future[PartReport]]) -> Iterator[PartReport]:
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


def _run_part(work: PartWork, task: PartTask, store: RunStore, bodies: threading.Semaphore) -> PartReport:
    started = time.monotonic()
    with counting_retries() as retried:
        try:
            table = work.head(task)
            decoded = time.monotonic()
            with bodies:
                entered = time.monotonic()
                columns = work.body(task, table)
            # Behind the turn: while one thread writes, a GPU works for the next.
            finished = leave_part(task, columns, store)
        except CurateError as error:
            return PartReport(task.number, task.part.rows, error=str(error), retries=retried.counts)
    seconds = decoded - started, time.monotonic() - entered
    return PartReport(
        task.number,
        task.part.rows,
        *seconds,
        statuses=finished.statuses,
        retries=retried.counts,
        digest=finished.digest,
    )


class RayRunner:
    """Ray Data, driven by the manifest: one dataset row is one part.

    Decoding (`head`) and models (`body`) run in actors of their own, which Ray does not fuse, and overlap. Parts
    travel between them as Arrow IPC bytes with pixels at the towers' own size, one part a block. Steps on a CPU that
    read only columns of other steps have one kind of actor. Column files are written by the workers. Where models run
    on CPUs each core has one actor of either kind, so that whichever has work has the core: how long decoding takes
    beside a model depends on the pictures.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        """Start or join a cluster.

        Args:
            workers: most model workers; default: all GPUs, or all CPUs.
            address: of a running cluster; default: RAY_ADDRESS, else a local cluster.

        Raises:
            CurateError: the cluster does not answer.
        """
        self._workers = workers
        self._restore_terminal = _keep_terminal_clean()
        try:
            self._ray, self._started = _quiet_ray(address or os.environ.get("RAY_ADDRESS"), workers)
        except CurateError:
            self._restore_terminal()
            raise

    def close(self) -> None:
        """Leave the cluster; a local one is stopped. Whoever had joined one before stays there."""
        if self._started:
            self._ray.shutdown()
        self._restore_terminal()

    def index(self, source: Source, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ShardIndex]]:
        """See Runner."""
        index = self._ray.remote(num_cpus=1)(_index_shard)
        waiting = {index.remote(source, shard): shard for shard in shards}
        while waiting:
            (finished,), _ = self._ray.wait(list(waiting), num_returns=1)
            with _ray_failures(self._ray):
                found, retries = self._ray.get(finished)
            count_retries(retries)
            yield waiting.pop(finished), found

    def workers_for(self, device: str, tasks: int) -> int:
        """See Runner."""
        return self.model_workers(device, tasks)[0]

    def run(self, work: PartWork, tasks: Sequence[PartTask], store: RunStore) -> Iterator[PartReport]:
        """See Runner.

        Raises:
            InputError: the cluster can never schedule the step; with the arithmetic.
        """
        left, lost = list(tasks), 0
        while left:
            done, nodes, workers = set[int](), self._nodes(), self.workers_for(work.device, len(left))
            try:
                for report in self._try(work, left, store):
                    done.add(report.number)
                    yield report
                return
            except _WorkersLost as loss:
                lost = 1 if len(done) > workers else lost + 1
                left = [task for task in left if task.number not in done]
                if lost > WORKER_RETRIES:
                    raise CurateError(_about_death(lost, loss.reason)) from loss
                log.warning("Ray has lost a worker; %d parts are begun anew: %s", len(left), loss.reason)
                if loss.node:
                    self._settle(nodes, work.device)

    def _settle(self, nodes: int, device: str) -> None:
        """Wait until fewer nodes are alive than there were, as workers would be planned for one that is gone.

        Where none is left that can hold a worker, until one joins.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._nodes() >= nodes and time.monotonic() < deadline:
            time.sleep(0.5)
        told = False
        while not self._can_hold_one(device):
            if not told:
                log.warning("no node is left that can hold a worker; waiting for one to join the cluster")
            told = True
            time.sleep(1.0)

    def _can_hold_one(self, device: str) -> bool:
        try:
            return self.workers_for(device, 1) > 0
        except InputError:
            return False

    def _nodes(self) -> int:
        return sum(node["Alive"] for node in self._ray.nodes())

    def _try(self, work: PartWork, tasks: Sequence[PartTask], store: RunStore) -> Iterator[PartReport]:
        """Carry tasks out with workers that start now and are not started again.

        Raises:
            InputError: see `run`.
            _WorkersLost: some tasks have no report.
        """
        import ray.data

        items = [{"task": position} for position in range(len(tasks))]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        shared = self._ray.put((work, list(tasks), store.address, store.guard))
        for kind, count, needs in self._pools(work, len(tasks)):
            dataset = dataset.map_batches(
                kind,
                fn_constructor_args=(shared,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=PARTS_IN_FLIGHT),
                scheduling_strategy="SPREAD",
                # A worker that is to be restarted on a cluster that has no room for it any more, and the part in its
                # hands, would be waited for for ever.
                max_restarts=0,
                max_task_retries=0,
                **needs,
            )
        with _ray_failures(self._ray):
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in batch.to_pylist():
                    told = {"statuses": dict(row["statuses"]), "retries": json.loads(row["retries"])}
                    yield PartReport(**{**row, **told})

    def _pools(self, work: PartWork, parts: int) -> list[tuple[type[_Head | _Body | _Whole], int, dict[str, float]]]:
        """Which workers a step has, how many of each, and what one asks Ray for.

        A step that only reads columns of others has no workers for that: every one is a process to start.
        """
        workers, needs = self.model_workers(work.device, parts)
        if work.device == "cpu" and not work.decodes:
            return [(_Whole, workers, {"num_cpus": 1})]
        decoders = min(parts, decoders_beside(workers, work.device, self._cpus()))
        of_decoder = {"num_cpus": 1 if work.device == "cuda" else _CPU_SHARE}
        return [(_Head, decoders, of_decoder), (_Body, workers, needs)]

    def trainers_for(self, work: TrainWork) -> int:
        """See Runner. One for each GPU, or one on a CPU."""
        device = work.spec.device
        return self.model_workers(device, 1 if device == "cpu" else sys.maxsize)[0]

    def train(self, work: TrainWork) -> None:
        """See Runner. Ray Train; on a CPU its one worker's weights are the local runner's.

        Raises:
            InputError: the cluster has no GPU and the towers are planned for one.
        """
        workers = self.trainers_for(work)
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        with tempfile.TemporaryDirectory() as folder, _ray_failures(self._ray):
            trainer = TorchTrainer(
                _train_worker,
                train_loop_config={"work": work},
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=work.spec.device == "cuda"),
                # A worker that dies begins again where its checkpoint is.
                run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=TRAIN_RETRIES)),
            )
            store = RunStore(work.run)
            store.delete(_TRAIN_ERROR)
            trainer.fit()
            error = store.read_json(_TRAIN_ERROR)
        if error is not None:
            raise CurateError(error)

    def encode_texts(self, options: EncoderOptions, spec: EncoderSpec, texts: Sequence[str]) -> NDArray[np.float16]:
        """See Runner. A node with a GPU does it if the towers are planned for one: the driver's may have none.

        Raises:
            InputError: the cluster has no GPU and the towers are planned for one.
        """
        _, needs = self.model_workers(spec.device, 1)
        encode = self._ray.remote(**needs)(_encode_texts)
        with _ray_failures(self._ray):
            embeddings: NDArray[np.float16] = self._ray.get(encode.remote(options, spec, list(texts)))
        return embeddings

    def _cpus(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    def model_workers(self, device: str, parts: int) -> tuple[int, dict[str, float]]:
        """See `share_out`; for this cluster."""
        have = self._ray.cluster_resources()
        return share_out(device, parts, int(have.get("CPU", 0)), int(have.get("GPU", 0)), self._workers)


def share_out(device: str, parts: int, cpus: int, gpus: int, most: int | None) -> tuple[int, dict[str, float]]:
    """How many model workers a step gets on a cluster, and what each asks Ray for.

    Args:
        device: cpu or cuda: where models run.
        parts: to do; more workers than parts are of no use.
        cpus, gpus: of the cluster.
        most: the user's limit, if any.

    Raises:
        InputError: the cluster cannot hold one model worker beside one decode worker; with the arithmetic.
    """
    # Of a GPU's worker the CPU only feeds it; of a CPU's, model and decoding share a core by halves.
    if device == "cuda":
        if gpus < 1 or cpus < 1:
            raise InputError(
                f"cannot be scheduled: 1 model worker x 1 GPU and 1 decode worker x 1 CPU are needed, the cluster has "
                f"{gpus} GPU and {cpus} CPU. Set encoder.device: cpu, or add GPU nodes."
            )
        return max(1, min(parts, gpus, most or gpus)), {"num_gpus": 1, "num_cpus": 0}
    if cpus < 1:
        raise InputError(
            f"cannot be scheduled: 1 model worker x {_CPU_SHARE} CPU + 1 decode worker x {_CPU_SHARE} CPU = 1 CPU, "
            f"the cluster has {cpus}. Use --runner local, or add nodes with CPUs."
        )
    return max(1, min(parts, cpus, most or cpus)), {"num_cpus": _CPU_SHARE}


def decoders_beside(workers: int, device: str, cpus: int) -> int:
    """How many workers decode beside so many model workers: one for each CPU of the cluster, at least 1."""
    taken = 0.0 if device == "cuda" else workers * _CPU_SHARE
    each = 1.0 if device == "cuda" else _CPU_SHARE
    return max(1, min(cpus, int((cpus - taken) / each)))


@contextmanager
def open_runner(name: str, workers: int | None = None) -> Iterator[Runner]:
    """The runner "local" or "ray", closed at the end; `workers`: most that work at once, None: all there are.

    Raises:
        InputError: there is no such runner.
        CurateError: the cluster does not answer.
    """
    if name == "local":
        yield LocalRunner(workers)
        return
    if name != "ray":
        raise InputError(f"runner {name}: there are local and ray")
    ray_runner = RayRunner(workers)
    try:
        yield ray_runner
    finally:
        ray_runner.close()


def _keep_terminal_clean() -> Callable[[], None]:
    """Ray's C++ core writes straight to file descriptor 2: send that to nowhere, and Python's stderr where it was.

    Ray keeps its own log files, and what fails comes back as an exception. Returns what undoes it.
    """
    sys.stderr.flush()
    terminal, stderr = os.dup(2), sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if stderr is sys.__stderr__:
        sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1)

    def restore() -> None:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = stderr

    return restore


def _check_reachable(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise CurateError(
            f"no Ray cluster answers at {address} ({error}). Is it up, and is RAY_ADDRESS right? Without RAY_ADDRESS "
            "a local cluster is started."
        ) from None


def _quiet_ray(address: str | None, workers: int | None) -> tuple[Any, bool]:
    """Ray, and whether it was started or joined here."""
    if address:
        _check_reachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    import ray.data

    starting = not ray.is_initialized()
    if starting:
        cpus = None if address else max(2, (workers or 0) + 1, os.cpu_count() or 1)
        try:
            ray.init(
                # Without an address Ray would join whatever cluster somebody else runs on this machine.
                address=address or "local",
                num_cpus=cpus,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CurateError(f"Ray at {address or 'this machine'} does not answer: {_last_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A block is a part: none may be left out.
    context.max_errored_blocks = 0
    # It would print a traceback of what is raised here anyway, and maybe tried again.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray, starting


@contextmanager
def _ray_failures(ray: Any) -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CurateError):
            raise error.cause from error
        raise CurateError(f"a Ray worker failed: {_last_line(error)}") from error
    except (ray.exceptions.OutOfMemoryError, ray.exceptions.WorkerCrashedError) as error:
        raise _WorkersLost(str(error), node=False) from error
    except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
        raise _WorkersLost(str(error), node=_may_be_a_node(ray, error)) from error
    except ray.exceptions.RayError as error:
        raise CurateError(f"Ray failed: {_last_line(error)}") from error


def _may_be_a_node(ray: Any, error: Exception) -> bool:
    """Whether more may be lost than one process, which is what Ray says where it is sure."""
    return not isinstance(error, ray.exceptions.ActorDiedError) or "its worker process has died" not in str(error)


def _about_death(times: int, reason: str) -> str:
    """What to do about workers that die again and again."""
    often = "once" if times == 1 else f"{times} times"
    return (
        f"a Ray worker died {often}; parts that are finished are kept. Most often memory runs out: "
        "lower input.part_rows, encoder.batch_size, input.max_image_pixels or --workers, then run again. "
        f"Ray says: {reason}"
    )


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def _index_shard(source: Source, shard: Shard) -> tuple[ShardIndex, RetryCounts]:
    with counting_retries() as retried:
        return source.index(shard), retried.counts


def _encode_texts(options: EncoderOptions, spec: EncoderSpec, texts: Sequence[str]) -> NDArray[np.float16]:
    threadpool_limits(1)
    return load_encoder(options, spec).encode_texts(texts)


def _train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs in every worker. An error that another try would meet again is told, not raised."""
    import ray.train

    threadpool_limits(1)
    context = ray.train.get_context()
    work: TrainWork = config["work"]
    try:
        work.train(context.get_world_rank(), context.get_world_size())
    except CurateError as failure:
        RunStore(work.run).write_json(_TRAIN_ERROR, str(failure))


class _Worker:
    """Common to both kinds of Ray worker: the work, its tasks and the store, fetched once."""

    def __init__(self, shared: Any) -> None:
        import ray

        threadpool_limits(1)
        work, tasks, url, guard = ray.get(shared)
        self._work: PartWork = work
        self._tasks: list[PartTask] = tasks
        self._store = RunStore(url, guard)


class _Head(_Worker):
    """Reads and decodes."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        position = batch.column("task")[0].as_py()
        task = self._tasks[position]
        started = time.monotonic()
        with counting_retries() as retried:
            try:
                payload, error = _to_ipc(self._work.head(task)), None
            except CurateError as failure:
                payload, error = pa.py_buffer(b""), str(failure)
        return pa.table(
            {
                "task": pa.array([position], pa.int64()),
                "payload": _one_value(payload),
                "head_seconds": pa.array([time.monotonic() - started], pa.float64()),
                "error": pa.array([error], pa.string()),
                "retries": pa.array([json.dumps(retried.counts)], pa.string()),
            }
        )


class _Body(_Worker):
    """Holds the model, and writes what it makes of what a `_Head` has read."""

    def __init__(self, shared: Any) -> None:
        super().__init__(shared)
        self._refusal: str | None = None
        with counting_retries() as retried:
            try:
                self._work.prepare()
            except CurateError as error:
                # Told part by part: Ray would restart an actor whose start fails, again and again.
                self._refusal = str(error)
        self._untold = retried.counts

    def __call__(self, batch: pa.Table) -> pa.Table:
        task = self._tasks[batch.column("task")[0].as_py()]
        error = batch.column("error")[0].as_py() or self._refusal
        started, statuses, digest = time.monotonic(), dict[str, int](), None
        with counting_retries() as retried:
            count_retries(json.loads(batch.column("retries")[0].as_py()))
            count_retries(self._untold)
            self._untold = {}
            if error is None:
                try:
                    payload = _from_ipc(batch.column("payload")[0].as_buffer())
                    finished = finish_part(self._work, task, payload, self._store)
                    statuses, digest = finished.statuses, finished.digest
                except CurateError as failure:
                    error = str(failure)
        return pa.table(
            {
                "number": pa.array([task.number], pa.int64()),
                "rows": pa.array([task.part.rows], pa.int64()),
                "head_seconds": batch.column("head_seconds"),
                "body_seconds": pa.array([time.monotonic() - started], pa.float64()),
                "error": pa.array([error], pa.string()),
                "statuses": pa.array([list(statuses.items())], pa.map_(pa.string(), pa.int64())),
                "retries": pa.array([json.dumps(retried.counts)], pa.string()),
                "digest": pa.array([digest], pa.string()),
            }
        )


class _Whole:
    """Both in one."""

    def __init__(self, shared: Any) -> None:
        self._head, self._body = _Head(shared), _Body(shared)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._body(self._head(batch))


def _one_value(data: pa.Buffer) -> pa.Array:
    """A large_binary array that holds one value without copying it."""
    offsets = pa.py_buffer(struct.pack("<qq", 0, data.size))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _to_ipc(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _from_ipc(data: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
