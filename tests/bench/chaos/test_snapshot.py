"""What was lost, doubled, invented, changed, left or done again is found: each is planted once."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.bench.chaos.snapshot import compare, done_again, take_snapshot

ROWS = ["a", "b", "c", "c"]


def write_annotations(run, rows):
    folder = run / "annotations"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"row_id": rows}), folder / "part-00000000.parquet")


@pytest.fixture
def run(tmp_path):
    for name in (
        "manifest.parquet",
        "shard_errors.parquet",
        "embed/part-00000000.parquet",
        "duplicates/part-00000000.parquet",
        "duplicates/part-00000001.parquet",
        "artifacts/noise/noise.json",
        "artifacts/noise/artifact.json",
        "_state/done.jsonl",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    write_annotations(tmp_path, ROWS)
    return tmp_path


def differences(run, change):
    undisturbed = take_snapshot(run)
    change()
    return compare(undisturbed, take_snapshot(run))


def test_nothing_differs_from_itself(run):
    found = differences(run, lambda: (run / "_state" / "done.jsonl").write_text("of this machine"))
    assert (found.lost, found.duplicated, found.invented, found.files) == (0, 0, 0, ())


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        (["a", "c", "c"], (1, 0, 0)),
        (["a", "b", "c"], (1, 0, 0)),
        (["a", "b", "b", "c", "c"], (0, 1, 0)),
        (["a", "b", "c", "c", "d"], (0, 0, 1)),
        (["b", "b", "c", "c", "e"], (1, 1, 1)),
    ],
)
def test_rows_are_counted(run, rows, counted):
    found = differences(run, lambda: write_annotations(run, rows))
    assert (found.lost, found.duplicated, found.invented) == counted


def test_missing_changed_and_new_files_are_named(run):
    def change():
        (run / "embed" / "part-00000000.parquet").write_text("other")
        (run / "artifacts" / "noise" / "noise.json").unlink()
        (run / "embed" / "part-00000009.parquet").write_text("too many")

    assert differences(run, change).files == (
        "artifacts/noise/noise.json",
        "embed/part-00000000.parquet",
        "embed/part-00000009.parquet",
    )


@pytest.mark.parametrize("folder", ["", "embed/", "_state/"])
def test_temporary_files_are_found_and_are_no_files_of_the_run(run, folder):
    name = f"{folder}.tmp-0123-part-00000001.parquet"
    (run / name).write_text("half of")
    found = take_snapshot(run)
    assert found.temporary == (name,)
    assert name not in found.files


def test_an_unreadable_annotation_is_an_error(run):
    (run / "annotations" / "part-00000000.parquet").write_bytes(b"half of a file")
    with pytest.raises(pa.ArrowInvalid):
        take_snapshot(run)


def written_again(run, *names):
    for name in names:
        file = run / name
        other = file.with_name("other")
        other.write_bytes(file.read_bytes())
        other.replace(file)


def redone(run, missing, again):
    """What counts as done again if some files were missing before a run was resumed, and it wrote some again."""
    undisturbed = take_snapshot(run)
    held = {name: (run / name).read_bytes() for name in missing}
    for name in missing:
        (run / name).unlink()
    before = take_snapshot(run)
    for name, data in held.items():
        (run / name).write_bytes(data)
    written_again(run, *again)
    return done_again(before, take_snapshot(run), undisturbed)


def test_a_part_that_was_done_is_not_done_again(run):
    part = "embed/part-00000000.parquet"
    assert redone(run, [], [part]) == (part,)
    assert redone(run, [part], []) == ()


def test_a_fit_counts_as_done_when_its_last_file_is_there(run):
    model = "artifacts/noise/noise.json"
    assert redone(run, ["artifacts/noise/artifact.json"], [model]) == ()
    assert redone(run, [], [model]) == (model,)


def test_duplicates_are_done_in_one_go(run):
    first, second = "duplicates/part-00000000.parquet", "duplicates/part-00000001.parquet"
    assert redone(run, [second], [first]) == ()
    assert redone(run, [], [first]) == (first,)


def test_the_input_is_known_when_both_of_its_files_are_there(run):
    assert redone(run, ["manifest.parquet"], ["shard_errors.parquet"]) == ()
    assert redone(run, [], ["manifest.parquet"]) == ("manifest.parquet",)
