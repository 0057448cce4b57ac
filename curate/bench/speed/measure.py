"""Carries the rows of the speed bench out, one after the other, and makes records of what the children answer."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curate.bench.speed import caption, concepts, decode, drawn_corpus, neighbours
from curate.bench.speed.bare_loop import bare_loop_child
from curate.bench.speed.caption import caption_child
from curate.bench.speed.child import (
    Answer,
    ChildCommand,
    StartedAnew,
    interleaved,
    loaded,
    measured_once,
)
from curate.bench.speed.concepts import concepts_child
from curate.bench.speed.drift import drift_child
from curate.bench.speed.eager_loop import eager_loop_child
from curate.bench.speed.end_to_end import end_to_end_child
from curate.bench.speed.fits import fits_child
from curate.bench.speed.neighbours import neighbours_child
from curate.bench.speed.noise_fit import noise_fit_child
from curate.bench.speed.peers import PEERS, peer_child
from curate.bench.speed.pipeline_run import pipeline_child
from curate.bench.speed.records import (
    Record,
    median_record,
    not_measured,
    overlapped_limit,
    ratios,
    record,
    shared_limit,
)
from curate.bench.speed.workload import Workload, random_towers, write_workload
from curate.errors import InputError
from curate.models.numerics import choose_device

RUNNERS = ("local", "ray")
PER_SECOND = "images/s"


@dataclass(frozen=True)
class Sizes:
    """How much each row works on; the defaults are those of published figures.

    Attributes:
        images: pairs of an end-to-end run, and of the bare loop.
        slow_images: pairs of the eager loop and of peers, which are steady after a few.
        part_rows: pairs of one tar, and so of one part.
        decode_images: pictures of each size in the row `decode`.
        decode_sides: longest sides of these, in pixels.
        scores: counts of scores of `noise_fit`.
        scores_by_sklearn: the most that scikit-learn gets.
        neighbours: pairs that neighbours are sought among.
        fits: pairs that the noise model is fitted on.
        memory_rows: rows at 1x of the row `memory`; all its sample caps are twice as many.
        memory_times: how many times that.
        resume_parts: parts of the row `resume`.
    """

    images: int = 2048
    slow_images: int = 256
    part_rows: int = 128
    decode_images: int = 200
    decode_sides: Sequence[int] = decode.SOURCE_SIZES
    scores: Sequence[int] = (10**5, 10**6, 10**7, 10**8)
    scores_by_sklearn: int = 10**6
    neighbours: Sequence[int] = (10**4, 10**5, 10**6)
    fits: Sequence[int] = (5_000, 20_000)
    memory_rows: int = 1000
    memory_times: Sequence[int] = (1, 10, 100)
    resume_parts: Sequence[int] = (10, 10_000)


@dataclass(frozen=True)
class SpeedBench:
    """What `curate bench speed` was asked for.

    Attributes:
        inputs: globs of WebDataset tars; without any, pictures are drawn.
        image_sizes: longest sides of the pictures of the throughput rows, in pixels; 0: as they come.
        rounds: repeats of every measurement.
        model: open_clip model of the throughput rows, with random weights.
        device: auto, cpu or cuda.
        work: folder for corpora and runs.
        runners: of the end-to-end runs.
        peers: interpreters of other projects' environments, by name.
        sizes: how much.
    """

    inputs: Sequence[str]
    image_sizes: Sequence[int]
    rounds: int
    model: str
    device: str
    work: Path
    runners: Sequence[str] = RUNNERS
    peers: Mapping[str, Path] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)

    def described(self) -> dict[str, Any]:
        """For the first record."""
        return {
            "model": self.model,
            "weights": "random",
            "input": list(self.inputs) or "drawn",
            "rounds": self.rounds,
            "images": self.sizes.images,
        }


Told = Callable[[str], None]


def check_rows(names: Sequence[str]) -> list[str]:
    """Rows by name, in the order of the table.

    Raises:
        InputError: there is no such row.
    """
    unknown = [name for name in names if name not in ROWS and name != "all"]
    if unknown:
        raise InputError(f"--rows {', '.join(unknown)}: choose among all, {', '.join(ROWS)}")
    return [row for row in ROWS if "all" in names or row in names]


def check_runners(names: Sequence[str]) -> list[str]:
    """Raises InputError if there is no such runner."""
    unknown = [name for name in names if name not in RUNNERS]
    if unknown:
        raise InputError(f"--runner {', '.join(unknown)}: choose among {', '.join(RUNNERS)}")
    return list(names)


def parse_sizes(typed: str) -> list[int]:
    """Longest sides from "0,1024".

    Raises:
        InputError: one is not a whole number, or negative.
    """
    names = [name.strip() for name in typed.split(",")]
    if not all(name.isdecimal() for name in names):
        raise InputError(f"--image-size {typed}: give whole numbers separated by commas, such as 0,1024")
    return [int(name) for name in names]


def check_peers(typed: Sequence[str]) -> dict[str, Path]:
    """Interpreters by peer from "clip_retrieval=/path/to/python".

    Raises:
        InputError: there is no such peer or no such file.
    """
    found = {}
    for text in typed:
        name, _, python = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in PEERS:
            raise InputError(f"--peer {text}: give NAME=PYTHON, the name one of {', '.join(PEERS)}")
        if not Path(python).is_file():
            raise InputError(f"--peer {text}: there is no interpreter {python}")
        found[name] = Path(python).absolute()
    return found


def bench_speed(bench: SpeedBench, rows: Sequence[str], told: Told) -> Iterator[Record]:
    """Records of the rows. A part of a row that cannot be measured is a record that says why."""
    bench.work.mkdir(parents=True, exist_ok=True)
    racing = [row for row in rows if row in RACE]
    if racing:
        for size in bench.image_sizes:
            yield from _race(bench, size, racing, told)
    for row in rows:
        if row in APART:
            yield from APART[row](bench, told)


# Throughput: all that embeds images, measured in turn.

RACE = ("end_to_end", "bare_loop", "eager_loop")


def _race(bench: SpeedBench, size: int, rows: Sequence[str], told: Told) -> Iterator[Record]:
    sizes = bench.sizes
    told(f"writing {sizes.images:,} pictures")
    config, checkpoint = random_towers(bench.model, bench.work / "towers")
    towers = (str(config), str(checkpoint), bench.device)
    work = write_workload(list(bench.inputs), size, sizes.images, sizes.part_rows, towers, bench.work / "corpora")
    told("loading models")
    with loaded(_loops(bench, work, rows)) as (children, refused):
        runs = [StartedAnew(end_to_end_child(work, runner, bench.work)) for runner in bench.runners]
        contestants = [*(runs if "end_to_end" in rows else ()), *children]
        answers, failed = interleaved(contestants, bench.rounds, told)
    yield from race_records(answers, {**refused, **failed}, size, on_gpu=choose_device(bench.device) == "cuda")


def _loops(bench: SpeedBench, work: Workload, rows: Sequence[str]) -> list[ChildCommand]:
    side = json.loads(Path(work.model).read_text(encoding="utf-8"))["model_cfg"]["vision_cfg"]["image_size"]
    slow = min(bench.sizes.slow_images, work.images)
    loops = []
    if "end_to_end" in rows or "bare_loop" in rows:
        loops += [bare_loop_child(work), decode.decode_child(work, "exact", side, all_cores=True)]
    if "end_to_end" in rows or "eager_loop" in rows:
        loops.append(eager_loop_child(work, slow))
    if "end_to_end" in rows:
        loops += [peer_child(name, python, work, slow, bench.work) for name, python in bench.peers.items()]
    return loops


def race_records(
    answers: Mapping[str, Sequence[Answer]], failed: Mapping[str, str], image_size: int, on_gpu: bool = False
) -> Iterator[Record]:
    """Images per second of each contestant, the limit, and every end-to-end run's ratios to the others.

    Args:
        answers: of each contestant, as many as rounds; with `images` and `seconds`.
        failed: why others have none.
        image_size: longest side in pixels, for the records; 0: as they came.
        on_gpu: the model does not share its device with decoding.
    """
    rates = {name: [one["images"] / one["seconds"] for one in held] for name, held in answers.items()}
    if "bare_loop" in rates and "decode_all_cores" in rates:
        limit = overlapped_limit if on_gpu else shared_limit
        rates["limit"] = limit(rates["bare_loop"], rates["decode_all_cores"])
    for name, values in rates.items():
        yield {
            **median_record("end_to_end", "images_per_second", values, PER_SECOND, method=name, image_size=image_size),
            **_told_beside(answers.get(name, ())),
        }
    for name, reason in failed.items():
        yield not_measured("end_to_end", "images_per_second", PER_SECOND, reason, method=name, image_size=image_size)
    runs = [name for name in rates if name.startswith("end_to_end_")]
    others = [name for name in rates if name not in (*runs, "decode_all_cores")]
    for run in runs:
        for other in others:
            found = ratios(rates[run], rates[other])
            runner = run.removeprefix("end_to_end_")
            yield median_record(
                "end_to_end", f"end_to_end/{other}", found, "ratio", method=runner, image_size=image_size
            )


def _told_beside(answers: Sequence[Answer]) -> dict[str, Any]:
    """What a contestant says beside its speed: medians of numbers, the last of texts."""
    beside: dict[str, Any] = {}
    for name in answers[-1] if answers else ():
        values = [one[name] for one in answers]
        if name not in ("images", "seconds"):
            beside[name] = values[-1] if isinstance(values[-1], str) else round(statistics.median(values), 3)
    return beside


# Decoding.


def _decode(bench: SpeedBench, told: Told) -> Iterator[Record]:
    sizes = bench.sizes
    config, checkpoint = random_towers(bench.model, bench.work / "towers")
    towers = (str(config), str(checkpoint), bench.device)
    side = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]["vision_cfg"]["image_size"]
    for longest in sizes.decode_sides:
        told(f"writing pictures of {longest} pixels")
        count = sizes.decode_images
        work = write_workload(list(bench.inputs), longest, count, count, towers, bench.work / "corpora")
        commands = [decode.decode_child(work, method, side, all_cores=False) for method in decode.METHODS]
        with loaded(commands) as (children, refused):
            answers, failed = interleaved(children, bench.rounds, told)
        yield from decode_records(answers, {**refused, **failed}, longest)
        others = [method for method in decode.METHODS if method != "exact"]
        for method in others:
            told(f"drift of {method} decoding at {longest} pixels")
            answer, _ = measured_once(drift_child(work, method))
            for metric in ("mean_cosine", "lowest_cosine"):
                yield {
                    **record("decode", metric, answer[metric], "cosine", method=method, image_size=longest),
                    "encoder": answer["encoder"],
                }


def decode_records(
    answers: Mapping[str, Sequence[Answer]], failed: Mapping[str, str], longest: int
) -> Iterator[Record]:
    """Images per second on one core by method, and each method's ratio to the exact one."""
    rates = {
        name.removeprefix("decode_"): [one["images"] / one["seconds"] for one in held]
        for name, held in answers.items()
    }
    for method, values in rates.items():
        yield median_record(
            "decode", "images_per_second_per_core", values, PER_SECOND, method=method, image_size=longest
        )
        if method != "exact" and "exact" in rates:
            yield median_record(
                "decode", f"{method}/exact", ratios(values, rates["exact"]), "ratio", image_size=longest
            )
    for name, reason in failed.items():
        yield not_measured("decode", "images_per_second_per_core", PER_SECOND, reason, method=name, image_size=longest)


# Fits on scores.


def _noise_fit(bench: SpeedBench, told: Told) -> Iterator[Record]:
    for count in bench.sizes.scores:
        methods = ["ours", *(["scikit_learn"] if count <= bench.sizes.scores_by_sklearn else [])]
        held: dict[str, list[tuple[Answer, int]]] = {method: [] for method in methods}
        for number in range(bench.rounds):
            for method in methods:
                told(f"round {number + 1} of {bench.rounds}: {method} on {count:,} scores")
                held[method].append(measured_once(noise_fit_child(method, count)))
        for method, answers in held.items():
            seconds = [answer["seconds"] for answer, _ in answers]
            yield median_record("noise_fit", "seconds", seconds, "s", method=method, pairs=count)
            memory = [peak / 2**30 for _, peak in answers]
            yield median_record("noise_fit", "peak_memory", memory, "GiB", method=method, pairs=count)
        if "scikit_learn" in held:
            yield from _posterior_difference(held["ours"][0][0], held["scikit_learn"][0][0], count)


def _posterior_difference(ours: Answer, theirs: Answer, count: int) -> Iterator[Record]:
    other = np.array(theirs["posterior"])
    for name in ("mixture_posterior", "posterior"):
        largest = float(np.abs(np.array(ours[name]) - other).max())
        yield record("noise_fit", f"{name}_difference", largest, "probability", method="ours", pairs=count)


# Neighbours.


def _neighbours(bench: SpeedBench, told: Told) -> Iterator[Record]:
    for pairs in bench.sizes.neighbours:
        with loaded([neighbours_child(method, pairs) for method in neighbours.METHODS]) as (children, refused):
            answers, failed = interleaved(children, bench.rounds, told)
        for name, held in answers.items():
            method = name.split()[0]
            each = [1e6 * one["seconds"] / neighbours.QUERIES for one in held]
            beside = _told_beside(held)
            yield {**median_record("neighbours", "time_per_pair", each, "µs", method=method, pairs=pairs), **beside}
            if "recall" in beside:
                yield record("neighbours", "recall", beside["recall"], "share", method=method, pairs=pairs)
        for name, reason in {**refused, **failed}.items():
            yield not_measured("neighbours", "time_per_pair", "µs", reason, method=name.split()[0], pairs=pairs)


# Whole runs of a drawn corpus with tiny towers.


def _drawn_pipeline(bench: SpeedBench, rows: int, shard_rows: int, most: int) -> dict[str, Any]:
    """Embed, noise and concepts, fitted on at most so many pairs."""
    corpus = bench.work / "drawn" / f"{rows}-{shard_rows}"
    model, checkpoint = drawn_corpus.tiny_towers(bench.work / "towers")
    return {
        "input": {"format": "webdataset", "path": drawn_corpus.write_drawn_corpus(corpus, rows, shard_rows)},
        "encoder": {"model": model, "pretrained": checkpoint, "device": "cpu", "precision": "fp32"},
        "stages": ["embed", {"noise": {"fit_rows": most}}, {"concepts": {"fit_rows": most}}],
    }


def _memory(bench: SpeedBench, told: Told) -> Iterator[Record]:
    """Every cap is below the rows at 10x, so that only what grows with the corpus can make a difference."""
    base = bench.sizes.memory_rows
    peaks: dict[int, float] = {}
    for times in bench.sizes.memory_times:
        rows = base * times
        told(f"a run of {rows:,} pairs")
        given = _drawn_pipeline(bench, rows, min(rows, 1000), 2 * base)
        output = bench.work / f"memory-{rows}"
        shutil.rmtree(output, ignore_errors=True)
        answer, peak = measured_once(pipeline_child(f"{rows:,} pairs", {**given, "output": str(output)}))
        shutil.rmtree(output)
        peaks[times] = peak / 2**20
        found = record("memory", "peak_memory", peaks[times], "MiB", pairs=rows, times=times)
        yield {**found, "seconds": round(answer["seconds"], 1)}
    for less, more in zip(list(peaks)[:-1], list(peaks)[1:], strict=True):
        yield record("memory", f"{more}x/{less}x", peaks[more] / peaks[less], "ratio")


def _resume(bench: SpeedBench, told: Told) -> Iterator[Record]:
    for parts in bench.sizes.resume_parts:
        given = (
            _drawn_pipeline(bench, 2 * parts, 2, 1000) if parts > 50 else _drawn_pipeline(bench, 40 * parts, 40, 1000)
        )
        pipeline = {**given, "output": str(bench.work / f"resume-{parts}")}
        how = pipeline_child(f"{parts:,} parts", pipeline)
        told(f"a first run of {parts:,} parts")
        first, _ = measured_once(how)
        seconds = []
        for number in range(bench.rounds):
            told(f"round {number + 1} of {bench.rounds}: a run of {parts:,} parts with nothing to do")
            again, _ = measured_once(how)
            seconds.append(again["seconds"])
        found = median_record("resume", "seconds", seconds, "s", parts=parts)
        yield {**found, "first_run_seconds": round(first["seconds"], 1), "steps": len(first["rows"])}


# Models of the later stages.


def _fits(bench: SpeedBench, told: Told) -> Iterator[Record]:
    for pairs in bench.sizes.fits:
        with loaded([fits_child(pairs)]) as (children, refused):
            answers, failed = interleaved(children, bench.rounds, told)
        for held in answers.values():
            for metric in ("seconds", "seconds_per_million"):
                name = "scoring_seconds_per_million" if metric == "seconds_per_million" else "noise_fit_seconds"
                yield median_record("fits", name, [one[metric] for one in held], "s", method="ours", pairs=pairs)
        for reason in {**refused, **failed}.values():
            yield not_measured("fits", "noise_fit_seconds", "s", reason, method="ours", pairs=pairs)


def _concepts(bench: SpeedBench, told: Told) -> Iterator[Record]:
    with loaded([concepts_child(method) for method in concepts.METHODS]) as (children, refused):
        answers, failed = interleaved(children, bench.rounds, told)
    yield from _rates("concepts", "images", answers, {**refused, **failed}, {"ours/matmul": ("ours", "matmul")})


def _caption(bench: SpeedBench, told: Told) -> Iterator[Record]:
    with loaded([caption_child(method) for method in caption.METHODS]) as (children, refused):
        answers, failed = interleaved(children, bench.rounds, told)
    pairs = {"cache/no_cache": ("ours", "without_cache")}
    for what in ("captions", "tokens"):
        yield from _rates("caption", what, answers, {**refused, **failed}, pairs if what == "captions" else {})


def _rates(
    row: str,
    what: str,
    answers: Mapping[str, Sequence[Answer]],
    failed: Mapping[str, str],
    compared: Mapping[str, tuple[str, str]],
) -> Iterator[Record]:
    """`what` per second of each method, and ratios of two methods by name."""
    metric, unit = f"{what}_per_second", f"{what}/s"
    rates = {name.split()[-1]: [one[what] / one["seconds"] for one in held] for name, held in answers.items()}
    for method, values in rates.items():
        yield median_record(row, metric, values, unit, method=method)
    for name, reason in failed.items():
        yield not_measured(row, metric, unit, reason, method=name.split()[-1])
    for name, (one, other) in compared.items():
        if one in rates and other in rates:
            yield median_record(row, name, ratios(rates[one], rates[other]), "ratio")


Row = Callable[[SpeedBench, Told], Iterator[Record]]


APART: Mapping[str, Row] = {
    "decode": _decode,
    "memory": _memory,
    "noise_fit": _noise_fit,
    "resume": _resume,
    "neighbours": _neighbours,
    "fits": _fits,
    "concepts": _concepts,
    "caption": _caption,
}
"""Rows that are measured by themselves."""

ROWS = (*RACE, *APART)
