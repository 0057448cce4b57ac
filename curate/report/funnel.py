"""What came in and what came out, line by line, each with a gallery of examples."""

from __future__ import annotations

from dataclasses import dataclass, replace

from curate.completion.merge import BELIEVED_SOURCES
from curate.report.findings import Findings
from curate.schema import STATUS_DESCRIPTIONS, Status


@dataclass(frozen=True)
class Step:
    """A line of the funnel: pairs, and the gallery that shows examples of them.

    Attributes:
        name, hint: what they are.
        pairs: how many.
        kind: for colours.
        depth: under which other line it stands, 0 being outermost.
        gallery, source: what a click shows; "": nothing.
    """

    name: str
    hint: str
    pairs: int
    kind: str
    depth: int
    gallery: str = ""
    source: str = ""


def funnel_of(findings: Findings) -> list[Step]:
    """The lines of the funnel; one whose gallery has no pairs shows nothing when it is chosen."""
    shown = {gallery.name for gallery in findings.galleries}
    steps = [Step("pairs", "all that came in", findings.pairs, "all", 0)]
    for name, count in findings.statuses.items():
        if name != Status.OK.value:
            steps.append(Step(name, STATUS_DESCRIPTIONS[Status(name)], count, "unusable", 1, f"status-{name}"))
    steps.append(Step("usable", STATUS_DESCRIPTIONS[Status.OK], findings.usable, "all", 1, "random"))
    for name, count in findings.labels.items():
        steps.append(Step(name, f"labelled {name}", count, name, 2, f"label-{name}"))
    for source, count in findings.sources.items():
        if source in BELIEVED_SOURCES:
            steps.append(Step(f"caption {source}", "completed caption", count, "completed", 2, "completed", source))
    if findings.copies:
        steps.append(Step("copies", "same picture and caption as an earlier pair", findings.copies, "copies", 2))
    if findings.near_copies:
        steps.append(Step("shared pictures", "another pair has nearly the same", findings.near_copies, "copies", 2))
    return [step if step.gallery in shown else replace(step, gallery="", source="") for step in steps]
