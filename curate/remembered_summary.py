"""The summary of a finished run, remembered: a run that finds nothing to do need not read every annotation again."""

from __future__ import annotations

import logging
from typing import Any

from curate.errors import CurateError
from curate.manifest import ERRORS_FILE
from curate.steps import ARTIFACT_FILE
from curate.store import RunStore, fingerprint
from curate.summary import ANNOTATIONS, ShownPair, Summary, summarize

log = logging.getLogger(__name__)

SUMMARY_FILE = "_state/summary.json"
# Raise it when the same annotations would be summed up otherwise.
_VERSION = 1


def remembered_summary(store: RunStore) -> Summary:
    """The summary of all pairs, as `summarize` gives it, or as an earlier call left it where nothing changed since.

    Args:
        store: a finished run's directory.

    Raises:
        InputError: there are no annotations.
        CurateError: a file is broken, or `_state` cannot be written.
    """
    seen = _seen(store)
    known = _known(store, seen)
    if known is not None:
        return known
    summary = summarize(store)
    store.write_json(SUMMARY_FILE, {"seen": seen, "summary": summary.to_json()})
    return summary


def _seen(store: RunStore) -> str:
    """Digest of the names and stamps of all that a summary is made of."""
    fits = [f"artifacts/{fit}/{ARTIFACT_FILE}" for fit in store.list_folders("artifacts")]
    single = [ERRORS_FILE, *(name for name in fits if store.exists(name))]
    stamps = {name: store.stamp(name) for name in single if store.exists(name)}
    return fingerprint([_VERSION, store.list_stamps(ANNOTATIONS), stamps])


def _known(store: RunStore, seen: str) -> Summary | None:
    try:
        held: Any = store.read_json(SUMMARY_FILE)
        if held is None or held["seen"] != seen:
            return None
        summary = held["summary"]
        return Summary(**{**summary, "shown": [ShownPair(**pair) for pair in summary["shown"]]})
    except (CurateError, LookupError, TypeError):
        log.warning("%s cannot be understood; the run is summed up anew", store.path(SUMMARY_FILE))
        return None
