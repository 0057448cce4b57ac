"""The figures of a run as Prometheus metrics: in a textfile for node_exporter's collector, or on a port.

Written by hand: the text format is a few lines, and nothing that curate depends on brings prometheus_client along.
Format: https://prometheus.io/docs/instrumenting/exposition_formats (text, version 0.0.4).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

from curate.errors import InputError
from curate.events import Event, RunFigures, StepFigures

log = logging.getLogger(__name__)

FILE_SECONDS = 5.0
"""How often the textfile is written while a step goes on."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("running", "finished", "failed", "interrupted")

Labels: TypeAlias = dict[str, str]
Sample: TypeAlias = tuple[Labels, float]


@dataclass(frozen=True)
class Metric:
    """A family of samples: its name without `curate_`, gauge or counter, what it means, and its values by labels."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterator[str]:
        """In the text format; none where there is no sample."""
        if not self.samples:
            return
        yield f"# HELP curate_{self.name} {self.help}"
        yield f"# TYPE curate_{self.name} {self.kind}"
        for labels, value in self.samples:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"curate_{self.name}{{{inside}}} {value:.15g}"


def exposition(figures: RunFigures, now: float) -> str:
    """All metrics of a run in the text format.

    Args:
        figures: of the run.
        now: seconds since 1970.
    """
    return "".join(f"{line}\n" for metric in metrics_of(figures, now) for line in metric.lines())


def metrics_of(figures: RunFigures, now: float) -> list[Metric]:
    """All metrics; each has the label `run`, the run directory. `now`: seconds since 1970."""
    run = {"run": figures.run}
    steps = figures.steps

    def of_run(name: str, kind: str, about: str, value: float) -> Metric:
        return Metric(name, kind, about, ((run, value),))

    def of_steps(name: str, kind: str, about: str, value: Callable[[StepFigures], float | None]) -> Metric:
        found = [({**run, "step": step.step}, value(step)) for step in steps]
        return Metric(name, kind, about, tuple((labels, each) for labels, each in found if each is not None))

    states = tuple(({**run, "state": state}, float(figures.state == state)) for state in STATES)
    statuses = tuple(({**run, "status": status}, float(n)) for status, n in sorted(figures.statuses.items()))
    worker_seconds = tuple(
        ({**run, "step": step.step, "work": work}, seconds)
        for step in steps
        for work, seconds in (("head", step.head_seconds), ("body", step.body_seconds))
    )
    return [
        Metric("run_state", "gauge", "1 for the state that the run is in, 0 for the others.", states),
        of_run("run_seconds", "gauge", "Seconds since the command began.", figures.seconds),
        of_run("run_updated_timestamp_seconds", "gauge", "When these figures were written.", now),
        of_run("input_rows", "gauge", "Pairs of the input.", figures.pairs),
        of_run("input_shards", "gauge", "Shards of the input.", figures.shards),
        of_run("input_shard_errors", "gauge", "Damaged places in shards.", figures.shard_errors),
        of_run("warnings_total", "counter", "Warnings of this command.", figures.warnings),
        Metric("rows_read_total", "counter", "Pairs that this command read, by status.", statuses),
        of_steps("step_rows", "gauge", "Pairs of the step; 0 where it is not done by parts.", lambda s: s.rows),
        of_steps("step_rows_done", "gauge", "Pairs that are done, by earlier commands too.", lambda s: s.rows_done),
        of_steps("step_rows_worked_total", "counter", "Pairs this command worked on.", lambda s: s.rows_worked),
        of_steps("step_rows_per_second", "gauge", "Pairs per second since it began.", lambda s: s.rows_per_second),
        of_steps("step_parts", "gauge", "Parts of the step.", lambda s: s.parts),
        of_steps("step_parts_done", "gauge", "Parts that are done, by earlier commands too.", lambda s: s.parts_done),
        of_steps("step_parts_failed_total", "counter", "Parts that could not be done.", lambda s: s.parts_failed),
        of_steps("step_seconds", "gauge", "Seconds that the step has taken.", lambda s: s.seconds),
        of_steps("step_seconds_left", "gauge", "Seconds that it may still take.", lambda s: s.seconds_left),
        of_steps("step_workers", "gauge", "Most workers at once.", lambda s: s.workers),
        of_steps("step_finished", "gauge", "1 if the step is complete.", lambda s: float(s.finished)),
        Metric(
            "step_worker_seconds_total", "counter", "Workers' seconds: head reads, body is the model.", worker_seconds
        ),
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsFile:
    """Keeps a textfile up to date; whole at every moment. Hears a `Monitor`, best through `EveryFew`."""

    def __init__(self, file: Path, now: Callable[[], float] = time.time) -> None:
        """Write it for the first time.

        Raises:
            InputError: it cannot be written.
        """
        self._file, self._now, self._warned = file, now, False
        try:
            self._write(RunFigures())
        except OSError as error:
            raise InputError(f"--metrics-file {file}: cannot be written: {error}") from None

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener. A failure is a warning, once: figures that nobody sees end no run."""
        try:
            self._write(figures)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("--metrics-file %s: cannot be written any more: %s", self._file, error)

    def _write(self, figures: RunFigures) -> None:
        replace_file(self._file, exposition(figures, self._now()).encode())


def replace_file(file: Path, content: bytes) -> None:
    """Write a whole file under another name, then give it its own.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def serve_metrics(port: int, figures: Callable[[], RunFigures]) -> Iterator[str]:
    """Answer GET /metrics on all addresses of this machine while the context is open.

    Args:
        port: to listen on; 0: any that is free.
        figures: those of the moment.

    Yields:
        The address.

    Raises:
        InputError: the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404, "only /metrics is here")
                return
            text = exposition(figures(), time.time()).encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are nobody's concern."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise InputError(f"--metrics-port {port}: cannot be listened on: {error.strerror}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="curate-metrics", daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
