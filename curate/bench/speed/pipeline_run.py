"""A whole `curate run` of any pipeline in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import curate
from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.progress import PartReport, StepReport, StepStart


@dataclass
class _Steps:
    rows: dict[str, int] = field(default_factory=dict)

    def step_started(self, start: StepStart) -> None:
        """See Progress."""

    def part_done(self, name: str, report: PartReport) -> None:
        """See Progress."""

    def step_done(self, report: StepReport) -> None:
        """See Progress."""
        self.rows[report.name] = report.rows


def pipeline_child(name: str, pipeline: Mapping[str, Any], runner: str = "local") -> ChildCommand:
    """One run of the pipeline per measurement; done parts are not done again."""
    given = {"pipeline": dict(pipeline), "runner": runner}
    return module_child(name, "curate.bench.speed.pipeline_run", given)


def _make(given: dict[str, Any]) -> Measure:
    def measure() -> Answer:
        heard, started = _Steps(), time.monotonic()
        curate.run(given["pipeline"], runner=given["runner"], progress=heard)
        return {"seconds": time.monotonic() - started, "rows": heard.rows}

    return measure


if __name__ == "__main__":
    serve(_make)
