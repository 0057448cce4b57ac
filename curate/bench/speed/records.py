"""Figures of the speed bench: medians, ratios of measurements made side by side, and the machine they come from."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

BENCH = "speed"
_PACKAGES = ("curate", "torch", "open_clip_torch", "pyarrow", "pillow", "numpy", "scikit-learn", "faiss-cpu", "ray")


def record(row: str, metric: str, value: float | None, unit: str, **varied: Any) -> Record:
    """One figure of a row; `varied`: what the row varies, such as `method` or `pairs`."""
    return {"bench": BENCH, "row": row, **varied, "metric": metric, "value": value, "unit": unit}


def median_record(row: str, metric: str, values: Sequence[float], unit: str, **varied: Any) -> Record:
    """The median of repeated measurements, with the lowest, the highest and their number."""
    spread = {"low": min(values), "high": max(values), "repeats": len(values)}
    return {**record(row, metric, statistics.median(values), unit, **varied), **spread}


def not_measured(row: str, metric: str, unit: str, reason: str, **varied: Any) -> Record:
    """A figure that could not be had, with the reason in its place."""
    return {**record(row, metric, None, unit, **varied), "error": reason}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round: both were measured one after the other, on a machine in the same state."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def shared_limit(model: Sequence[float], decode: Sequence[float]) -> list[float]:
    """Images per second where decoding and the model share the cores, round by round: 1 / (1/model + 1/decode)."""
    return [1 / (1 / one + 1 / other) for one, other in zip(model, decode, strict=True)]


def overlapped_limit(model: Sequence[float], decode: Sequence[float]) -> list[float]:
    """Images per second where the model has a GPU to itself while the cores decode, round by round: the lower."""
    return [min(one, other) for one, other in zip(model, decode, strict=True)]


def environment(described: Mapping[str, Any]) -> Record:
    """The first record: versions, machine and how busy it is, and what the measurement was given."""
    return {
        "bench": BENCH,
        "metric": "environment",
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # Load of the last minute before anything was measured: above 0.5 others are at work on the same cores.
        "load_before": round(os.getloadavg()[0], 2),
        "versions": _versions(),
        **described,
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _versions() -> dict[str, str]:
    installed = {dist.metadata["Name"] for dist in metadata.distributions()}
    return {name: metadata.version(name) for name in _PACKAGES if name in installed}
