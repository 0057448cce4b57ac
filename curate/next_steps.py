"""What to type after a run: commands that fit what it found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from curate.schema import Status
from curate.summary import Summary

MANY_UNUSABLE = 0.01
"""A larger share of pairs that cannot be used is worth a look."""


@dataclass(frozen=True)
class NextStep:
    """A command for a shell, and what it is good for."""

    command: str
    why: str


def next_steps(summary: Summary, run: str, whole_run: str | None = None) -> list[NextStep]:
    """Commands that make sense after a run, the most urgent first.

    Args:
        summary: of all pairs of the run.
        run: the run directory.
        whole_run: after a trial: the command that does it all.
    """
    return list(_next_steps(summary, shlex.quote(run), shlex.quote(f"{run}-kept"), whole_run))


def _next_steps(summary: Summary, run: str, kept: str, whole_run: str | None) -> Iterator[NextStep]:
    unusable = {status: count for status, count in summary.statuses.items() if status != Status.OK.value}
    if sum(unusable.values()) > MANY_UNUSABLE * summary.pairs:
        worst = max(unusable, key=lambda status: unusable[status])
        yield NextStep(f"curate inspect {run} --status {worst}", f"{unusable[worst]:,} pairs, and why")
    yield NextStep(f"curate report {run}", "a page to look at, with pictures")
    if summary.labels:
        yield NextStep(f"curate inspect {run} --top boundary", "pairs with a noise_prob near one half")
    if whole_run is not None:
        yield NextStep(whole_run, "this was a trial: all pairs")
        return
    where, why = _worth_keeping(summary)
    yield NextStep(f'curate export {run} --where "{where}" --out {kept}', why)


def _worth_keeping(summary: Summary) -> tuple[str, str]:
    """A condition that the verdict of the noise fit bears, and what it keeps."""
    if not summary.labels:
        return "status == 'ok'", "the pairs that can be used, for a trainer"
    separable = summary.noise.get("separable")
    if separable == "yes":
        return "noise_prob < 0.5", "the pairs that are rather clean, for a trainer"
    if separable == "weak":
        return "noise_prob < 0.5", "not clearly separable: without the mismatches that were found; near misses stay"
    return "status == 'ok'", "not separable: noise_prob says nothing here"
