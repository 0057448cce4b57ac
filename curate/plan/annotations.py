"""The last step of a plan: all columns side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curate.plan.step import DuplicatesStep, RowStep, fingerprint_of, row_step
from curate.steps import AnnotateWork
from curate.store import DoneIndex, RunStore

# Raise it when annotation files would differ for the same columns of the steps before.
ANNOTATE_VERSION = 5


def plan_annotations(
    store: RunStore, columns: Sequence[RowStep | DuplicatesStep], embed: RowStep, more: pa.Schema, done: DoneIndex
) -> RowStep:
    """The step that puts the columns of these steps side by side; it redoes the parts in which one of them changed.

    `more`: columns of stages of the user's own, in order.
    """
    facts: dict[str, Any] = {"versions": {}}
    for step in columns:
        versions = {**facts["versions"], **step.facts["versions"]}
        facts = {**facts, **step.facts, "versions": versions}
    facts = {**facts, "versions": {**facts["versions"], "annotations": ANNOTATE_VERSION}}
    facts.pop("step", None)
    identity = {number: [fingerprint_of(step, number) for step in columns] for number in embed.fingerprints}
    work = AnnotateWork(store.address, tuple(step.name for step in columns), more)
    return row_step("annotations", work, identity, facts, done)
