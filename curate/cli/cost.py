"""What `curate plan --calibrate` shows: the bill of a run that has not begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from curate.cli.shared import duration, out

if TYPE_CHECKING:
    from curate.calibration import Calibration, StepBill

_HOW = {"rows": "{cores} cores", "fit": "1 core, on a sample", "whole": "1 core, all pairs"}
_DAY = 86_400.0
_UNITS = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def print_cost(
    measured: Calibration, bill: Sequence[StepBill], pairs: int | None, cores: int | None, gpus: int | None
) -> None:
    """A table of the steps and their sum."""
    counted, shared = measured.pairs if pairs is None else pairs, cores or measured.workers
    on_gpu = measured.device == "cuda"
    title = f"predicted for {counted:,} pairs on {_machines(shared, (gpus or 1) if on_gpu else 0)}"
    table = Table("step", "on", title=title)
    for name in ("pairs", "time", *(("GPU-hours",) if on_gpu else ()), "on disk"):
        table.add_column(name, justify="right")
    for step in bill:
        how = "GPU" if step.gpu_hours else _HOW[step.kind].format(cores=shared)
        table.add_row(step.name, how, f"{step.pairs:,}", *_figures(step.seconds, step.gpu_hours, step.bytes, on_gpu))
    sums = (sum(step.seconds for step in bill), sum(step.gpu_hours for step in bill), sum(step.bytes for step in bill))
    table.add_section()
    table.add_row("all", "", "", *_figures(*sums, on_gpu))
    out.print(table)
    out.print(
        f"measured in {duration(measured.seconds)} with {measured.workers} workers on this machine. Steps that are "
        "done already are counted too; reading the input's index and starting up are not.",
        markup=False,
        soft_wrap=True,
    )


def cost_json(
    measured: Calibration, bill: Sequence[StepBill], pairs: int | None, cores: int | None, gpus: int | None
) -> dict[str, Any]:
    """The same as JSON types, with what was measured."""
    return {
        "pairs": measured.pairs if pairs is None else pairs,
        "cores": cores or measured.workers,
        "gpus": (gpus or 1) if measured.device == "cuda" else 0,
        "seconds": sum(step.seconds for step in bill),
        "gpu_hours": sum(step.gpu_hours for step in bill),
        "bytes": sum(step.bytes for step in bill),
        "steps": [asdict(step) for step in bill],
        "measured": asdict(measured),
    }


def _machines(cores: int, gpus: int) -> str:
    named = f"{cores:,} core{'s' if cores > 1 else ''}"
    return f"{named} and {gpus:,} GPU{'s' if gpus > 1 else ''}" if gpus else named


def _figures(seconds: float, gpu_hours: float, size: int, on_gpu: bool) -> list[str]:
    return [long_duration(seconds), *([f"{gpu_hours:,.1f}"] if on_gpu else []), file_size(size)]


def long_duration(seconds: float) -> str:
    """As `duration`, in days where there are several."""
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:,.1f} days"


def file_size(size: int) -> str:
    """Bytes in units of a thousand."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} B"
