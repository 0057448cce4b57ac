"""Row `end_to_end`: a whole `curate run` up to embeddings on disk, in a process of its own every time."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import curate
from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.workload import Workload
from curate.plan.step import EMBED
from curate.progress import PartReport, StepReport, StepStart


@dataclass(frozen=True)
class DonePart:
    """When a part was done, and for how long workers were at it."""

    at: float
    report: PartReport

    @property
    def began(self) -> float:
        """When a worker took it up, if it did not wait between reading and the model."""
        return self.at - self.report.head_seconds - self.report.body_seconds


@dataclass
class _Heard:
    parts: list[DonePart] = field(default_factory=list)

    def step_started(self, start: StepStart) -> None:
        """See Progress."""

    def part_done(self, name: str, report: PartReport) -> None:
        """See Progress."""
        if name == EMBED:
            self.parts.append(DonePart(time.monotonic(), report))

    def step_done(self, report: StepReport) -> None:
        """See Progress."""


def steady_seconds(parts: Sequence[DonePart]) -> float:
    """From the moment the first part is taken up until the last is done: loading models and starting Ray is before."""
    return max(part.at for part in parts) - min(part.began for part in parts)


def end_to_end_child(work: Workload, runner: str, folder: Path) -> ChildCommand:
    """One `curate run` per measurement; `runner`: local or ray."""
    given = {"work": work.to_json(), "runner": runner, "folder": str(folder)}
    return module_child(f"end_to_end_{runner}", "curate.bench.speed.end_to_end", given)


def _make(given: dict[str, Any]) -> Measure:
    work = Workload(**given["work"])

    def measure() -> Answer:
        heard = _Heard()
        with tempfile.TemporaryDirectory(dir=given["folder"], prefix="end-to-end-") as output:
            pipeline = {
                "input": {"format": "webdataset", "path": work.shards},
                "output": f"{output}/run",
                "encoder": {"model": work.model, "pretrained": work.checkpoint, "device": work.device},
                "stages": ["embed"],
            }
            curate.run(pipeline, runner=given["runner"], progress=heard)
        return {
            "images": sum(part.report.rows for part in heard.parts),
            "seconds": steady_seconds(heard.parts),
            "read_and_decode_seconds": sum(part.report.head_seconds for part in heard.parts),
            "model_and_write_seconds": sum(part.report.body_seconds for part in heard.parts),
            **_memory(),
        }

    return measure


def _memory() -> dict[str, float]:
    """The most that this process had, without workers of Ray; on a GPU what torch had there too. GiB."""
    import torch

    here = {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if not torch.cuda.is_available():
        return here
    return {**here, "gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30}


if __name__ == "__main__":
    serve(_make)
