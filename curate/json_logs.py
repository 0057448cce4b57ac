"""The events of a run as JSON, one object a line: what `curate run --json-logs` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TextIO

from curate.events import Event, RunFigures, StepFinished, StepProgress, StepStarted

PROGRESS_SECONDS = 10.0
"""How often a step says how far it is."""


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(timezone.utc)


def time_text(moment: datetime) -> str:
    """RFC 3339 with milliseconds, such as 2026-01-31T12:00:00.000Z; of a time in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonLogs:
    """Writes every event it hears as a line, and nothing else. Hears a `Monitor`, best through `EveryFew`."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime] = utc_now) -> None:
        self._stream, self._now = stream, now

    def __call__(self, event: Event, figures: RunFigures) -> None:
        """See Listener. Every line is flushed: a log that is followed shall not wait.

        Raises:
            OSError: nobody reads any more.
        """
        self._stream.write(json_line(event, figures, self._now()) + "\n")
        self._stream.flush()


def json_line(event: Event, figures: RunFigures, now: datetime) -> str:
    """An event as one line of ASCII: `time` (UTC, RFC 3339, milliseconds), `event`, `run`, then the event's fields."""
    held = {"time": time_text(now), "event": event.name, "run": figures.run, **_fields(event, figures)}
    return json.dumps(held, allow_nan=False)


def _fields(event: Event, figures: RunFigures) -> dict[str, Any]:
    if isinstance(event, StepStarted | StepProgress | StepFinished):
        return event.step.to_json()
    if event.name in ("run_finished", "run_failed", "run_interrupted"):
        return {"seconds": round(figures.seconds, 3), **asdict(event)}
    return asdict(event)
