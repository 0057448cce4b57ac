"""curate from Python: run a pipeline, open a run. What the commands do, without a word on the terminal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import Image
from threadpoolctl import threadpool_limits

from curate.config import PipelineConfig, config_of, load_config
from curate.errors import InputError
from curate.execution import execute, open_runner
from curate.limits import MAX_IMAGE_PIXELS
from curate.lock import lock_run
from curate.monitor import Monitor
from curate.opened_run import Run
from curate.plan import make_plan, output_url
from curate.progress import Progress
from curate.stages.decode import decode_upright
from curate.state import remember_config, remembered_config, save_timings
from curate.store import RunStore

Pipeline: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | PipelineConfig


def run(
    pipeline: Pipeline,
    *,
    limit: int | None = None,
    fits_from: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    runner: Literal["local", "ray"] = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Annotate a corpus, as `curate run` does: what is done already is not done again. Prints nothing.

    Stages of the user's own that the pipeline names are imported, which executes their modules. BLAS libraries work
    with one thread meanwhile.

    Args:
        pipeline: the path of a pipeline file, or what its YAML holds as a dict, or a PipelineConfig.
        limit: a trial on the first so many pairs (whole parts); it has a run directory of its own.
        fits_from: a finished run whose models are used as they are; nothing is fitted again.
        retry_failed: fetch once more what could not be downloaded; for `format: urls`.
        runner: threads of this process, or a Ray cluster (RAY_ADDRESS; a local one without).
        workers: most that work at once; None: all cores.
        progress: hears how the run goes on, such as a `curate.monitor.Monitor`.

    Returns:
        The finished run, opened.

    Raises:
        InputError: the pipeline or what it names is wrong; one line per mistake.
        CurateError: something failed while working; what is finished is kept.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}, but a trial has at least 1 pair")
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}, but at least 1 has to work")
    config = _config(pipeline)
    store = RunStore(output_url(config, limit))
    with lock_run(store), open_runner(runner, workers) as chosen, _quiet_pictures(), threadpool_limits(1):
        fitted = None if fits_from is None else os.fspath(fits_from)
        plan = make_plan(config, chosen.index, limit, fitted, retry_failed, store)
        remember_config(store, config)
        reports = execute(plan, chosen, progress or Monitor())
        save_timings(RunStore(config.output), reports)
    return Run(store, remembered_config(store))


def open(run: str | os.PathLike[str], pipeline: Pipeline | None = None) -> Run:
    """Open a finished run. Nothing of it is executed or imported, and only names of files are read yet.

    Args:
        run: a run directory, a local path or an fsspec URL.
        pipeline: what made it, if its input was moved since: says where pictures are read again.

    Raises:
        InputError: there are no annotations, or the pipeline is wrong.
        CurateError: the annotations cannot be read.
    """
    store = RunStore(os.fspath(run))
    return Run(store, remembered_config(store) if pipeline is None else _config(pipeline))


def decode_picture(data: bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """The bytes of an image file as a picture, as curate itself decodes it: RGB, upright, transparency on white.

    Raises:
        CurateError: they cannot be decoded, or it has more than `max_pixels` pixels.
    """
    return decode_upright(data, max_pixels)


def _config(pipeline: Pipeline) -> PipelineConfig:
    if isinstance(pipeline, PipelineConfig):
        return pipeline
    if isinstance(pipeline, Mapping):
        return config_of(pipeline, "pipeline")
    return load_config(Path(pipeline))


@contextmanager
def _quiet_pictures() -> Iterator[None]:
    """What a damaged picture means for its row is said in the row's error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield
