"""What a bench notes of its trials, and what a person reads of it."""

import dataclasses

import pytest

from curate.bench.chaos.outcomes import (
    Outcome,
    complaints,
    known_outcomes,
    note,
    outcome_records,
    outcome_table,
)
from curate.errors import InputError

GOOD = Outcome(0, 3, "kill_driver", "file 2 of embed + 0.00 s", -9, 9.5, 0, 0, 0, (), (), (), ())
FLAWS = {
    "rows_lost": 2,
    "rows_duplicated": 1,
    "rows_invented": 1,
    "files_different": ("embed/part-00000001.parquet",),
    "temporary_left": ("embed/.tmp-1",),
    "redone": ("embed/part-00000000.parquet",),
    "broken": ("a traceback",),
}


@pytest.mark.parametrize(("name", "value"), FLAWS.items())
def test_anything_that_is_off_is_no_recovery(name, value):
    flawed = dataclasses.replace(GOOD, **{name: value})
    assert GOOD.recovered
    assert not flawed.recovered
    assert complaints([GOOD]) == []
    assert len(complaints([GOOD, flawed])) == 1
    totals = {record["metric"]: record["value"] for record in outcome_records([flawed], 0)[1:]}
    assert totals[name] == (len(value) if isinstance(value, tuple) else value)
    assert totals["recovered"] == 0


def test_outcomes_come_back_from_the_journal(tmp_path):
    flawed = dataclasses.replace(GOOD, number=4, **FLAWS)
    note(GOOD, tmp_path)
    note(flawed, tmp_path)
    assert known_outcomes(tmp_path) == [GOOD, flawed]


def test_a_line_that_was_cut_off_is_no_outcome_and_spoils_none(tmp_path):
    note(GOOD, tmp_path)
    with (tmp_path / "trials.jsonl").open("a") as journal:
        journal.write('{"seed": 0, "numb')
    assert known_outcomes(tmp_path) == [GOOD]
    note(GOOD, tmp_path)
    assert known_outcomes(tmp_path) == [GOOD, GOOD]


def test_another_journal_is_refused(tmp_path):
    (tmp_path / "trials.jsonl").write_text('{"something": "else"}\n')
    with pytest.raises(InputError, match="Name a new --work"):
        known_outcomes(tmp_path)


def test_the_table_has_a_row_for_each_kind_and_one_for_all():
    other = dataclasses.replace(GOOD, kind="disk_full", rows_lost=2)
    table = outcome_table([GOOD, GOOD, other], {"kill_driver": "killed", "disk_full": "full"})
    assert [row[0] for row in table.rows] == ["disk_full", "kill_driver", "all"]
    assert table.rows[0][1:5] == ("full", "1", "0", "2")
    assert table.rows[-1][2:5] == ("3", "2", "2")
