"""What came of each trial: one line of a journal, records for `--json`, and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from curate.bench.noise import versions_and_machine
from curate.bench.tables import TextTable
from curate.errors import InputError

Record: TypeAlias = "dict[str, Any]"
JOURNAL = "trials.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What came of one trial.

    Attributes:
        seed, number: of the trial; with them everything about it is drawn.
        kind: of the disturbance.
        moment: when it struck, for a person.
        exit_code: of the disturbed run.
        seconds: that the trial took.
        rows_lost, rows_duplicated, rows_invented: rows of the annotations, against the undisturbed run.
        files_different: files outside `_state` that are other bytes, missing, or too many.
        temporary_left: files that a writer left behind.
        redone: files that were done before the run was resumed, and were written again.
        broken: promises beside these that were not kept: of exit codes, of what is said, of going on.
    """

    seed: int
    number: int
    kind: str
    moment: str
    exit_code: int
    seconds: float
    rows_lost: int
    rows_duplicated: int
    rows_invented: int
    files_different: tuple[str, ...]
    temporary_left: tuple[str, ...]
    redone: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def recovered(self) -> bool:
        """Whether everything is as if nothing had happened."""
        rows = self.rows_lost + self.rows_duplicated + self.rows_invented
        return not (rows or self.files_different or self.temporary_left or self.redone or self.broken)


_READER = TypeAdapter(Outcome)


def note(outcome: Outcome, folder: Path) -> None:
    """Add an outcome to the bench's journal."""
    with (folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def known_outcomes(folder: Path) -> list[Outcome]:
    """The journal of a bench; a line that is cut off by a kill is no outcome.

    Raises:
        InputError: the journal is not one of this version's.
    """
    journal = folder / JOURNAL
    if not journal.exists():
        return []
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        journal.write_text("".join(lines[:-1]), encoding="utf-8")
    try:
        return [_READER.validate_json(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise InputError(f"{journal}: is not a journal of this version: {error}. Name a new --work.") from None


_COUNTED = (
    ("runs", "runs", lambda outcome: 1),
    ("recovered", "recovered", lambda outcome: int(outcome.recovered)),
    ("rows_lost", "rows lost", lambda outcome: outcome.rows_lost),
    ("rows_duplicated", "duplicated", lambda outcome: outcome.rows_duplicated),
    ("rows_invented", "invented", lambda outcome: outcome.rows_invented),
    ("files_different", "files different", lambda outcome: len(outcome.files_different)),
    ("temporary_left", "temporary left", lambda outcome: len(outcome.temporary_left)),
    ("redone", "parts redone", lambda outcome: len(outcome.redone)),
    ("broken", "promises broken", lambda outcome: len(outcome.broken)),
)


def outcome_records(outcomes: Sequence[Outcome], seed: int) -> list[Record]:
    """The environment, then one record per kind and figure; counts over the runs of the kind."""
    records: list[Record] = [{"bench": "chaos", "metric": "environment", "corpus": "drawn", **versions_and_machine()}]
    for kind, held in _by_kind(outcomes).items():
        for metric, _, count in _COUNTED:
            value = sum(map(count, held))
            about = {"bench": "chaos", "corpus": "drawn", "kind": kind, "seed": seed}
            records.append({**about, "metric": metric, "value": value, "unit": "count"})
    return records


def outcome_table(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> TextTable:
    """One row per kind, and one for all.

    Args:
        outcomes: of all trials.
        about: what each kind is, in a few words.
    """
    rows = [(kind, about[kind], *_counts(held)) for kind, held in _by_kind(outcomes).items()]
    total = ("all", "", *_counts(outcomes))
    heads = ("kind", "what happens", *(name for _, name, _ in _COUNTED))
    return TextTable(
        "disturbed runs, resumed and compared with an undisturbed one",
        heads,
        (*rows, total),
        (*(False for _ in rows), True),
        names=2,
    )


def complaints(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each trial that is not as if nothing had happened."""
    return [
        f"trial {each.number} ({each.kind}, {each.moment}): exit code {each.exit_code}, {_wrong(each)}"
        for each in outcomes
        if not each.recovered
    ]


def _wrong(outcome: Outcome) -> str:
    rows = {
        "lost": outcome.rows_lost,
        "duplicated": outcome.rows_duplicated,
        "invented": outcome.rows_invented,
    }
    names = {"other bytes": outcome.files_different, "left": outcome.temporary_left, "redone": outcome.redone}
    said = [f"{count} rows {what}" for what, count in rows.items() if count]
    said += [f"{what}: {', '.join(files[:3])}" for what, files in names.items() if files]
    return "; ".join([*said, *outcome.broken])


def _by_kind(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    held: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda each: each.kind):
        held.setdefault(outcome.kind, []).append(outcome)
    return held


def _counts(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(f"{sum(map(count, outcomes))}" for _, _, count in _COUNTED)
