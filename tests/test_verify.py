"""`curate verify`: every planted corruption is found and named, and nothing is found where nothing is wrong."""

import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.digest import digest_of
from curate.errors import InputError
from curate.store import METADATA_KEY, RunStore, index_file, part_file
from curate.verify import verify_run

GOLDEN = Path(__file__).parent / "golden" / "run-v1-all-steps"


def findings(folder, quick=False):
    return {finding.file: finding.problem for finding in verify_run(RunStore(str(folder)), quick).findings}


def rewritten(file, change):
    """Write a table of a run again as a careful program does: its metadata stays."""
    table = pq.read_table(file)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), file, compression="zstd")


def signed_again(file, change):
    """Write a table of a run again with all digests that the file itself holds: somebody knows the format."""
    table = pq.read_table(file)
    facts = json.loads(table.schema.metadata[METADATA_KEY])
    RunStore(str(file.parent)).write_table(file.name, change(table).replace_schema_metadata(), facts)


def indexed_again(run, step, number):
    """Put what is in a file now into the index as well."""
    index, name = run / index_file(step), f"part-{number:08d}.parquet"
    known = json.loads(index.read_text())
    file = run / step / name
    known["files"][name]["digest"] = digest_of(file.read_bytes())
    index.write_text(json.dumps(known))


def with_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def first_value_halved(name):
    def change(table):
        values = table[name].to_numpy().copy()
        values[0] /= 2
        return with_column(table, name, pa.array(values, table.schema.field(name).type))

    return change


def swap(one, other):
    spare = one.with_suffix(".spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 4
    file.write_bytes(data)


def edit_json(file, change):
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))


def edited_and_indexed(run, step, column):
    rewritten(run / part_file(step, 1), first_value_halved(column))
    indexed_again(run, step, 1)


def edited_signed_and_indexed(run, step, column):
    signed_again(run / part_file(step, 1), first_value_halved(column))
    indexed_again(run, step, 1)


def edited_without_state(run, step, column):
    rewritten(run / part_file(step, 1), first_value_halved(column))
    shutil.rmtree(run / "_state")


def dropped_metadata(file):
    pq.write_table(pq.read_table(file).replace_schema_metadata(), file)


def without_digest(file):
    """What a program does that copies all metadata it knows of."""
    parquet = pq.ParquetFile(file)
    with pq.ParquetWriter(file.with_suffix(".new"), parquet.schema_arrow) as writer:
        writer.write_table(parquet.read())
    file.with_suffix(".new").rename(file)


def facts_changed(file):
    """The same values, said to be of other thresholds."""
    facts = json.loads(pq.read_schema(file).metadata[METADATA_KEY])
    facts["noise"]["noisy_above"] = 0.9
    RunStore(str(file.parent)).write_table(file.name, pq.read_table(file).replace_schema_metadata(), facts)


def rows_changed(change):
    def corrupt(run):
        signed_again(run / "annotations/part-00000001.parquet", change)

    return corrupt


def reversed_rows(table):
    return table.take(pa.array(np.arange(table.num_rows)[::-1]))


def a_row_twice(table):
    return pa.concat_tables([table.slice(0, 2), table.slice(1, 1), table.slice(3)])


def link_out(file):
    target = file.parent.parent.parent / "elsewhere.parquet"
    shutil.move(file, target)
    file.symlink_to(target)


EMBED, NOISE, ANNOTATIONS = (f"{step}/part-00000001.parquet" for step in ("embed", "noise", "annotations"))
CORRUPTIONS = {
    "truncated": (NOISE, lambda run: os.truncate(run / NOISE, 3000)),
    "cut in its footer": (NOISE, lambda run: os.truncate(run / NOISE, (run / NOISE).stat().st_size - 5)),
    "empty": (NOISE, lambda run: os.truncate(run / NOISE, 0)),
    "a flipped bit": (EMBED, lambda run: flip_a_bit(run / EMBED)),
    "two parts swapped": (NOISE, lambda run: swap(run / NOISE, run / "noise/part-00000002.parquet")),
    "two files of embed swapped": (EMBED, lambda run: swap(run / EMBED, run / "embed/part-00000002.parquet")),
    "annotations swapped": (
        ANNOTATIONS,
        lambda run: swap(run / ANNOTATIONS, run / "annotations/part-00000002.parquet"),
    ),
    "a step in the place of another": (
        NOISE,
        lambda run: shutil.copy(run / "duplicates/part-00000001.parquet", run / NOISE),
    ),
    "edited value": (NOISE, lambda run: rewritten(run / NOISE, first_value_halved("noise_prob"))),
    "edited value, metadata dropped": (NOISE, lambda run: dropped_metadata(run / NOISE)),
    "rewritten by a program that keeps metadata": (NOISE, lambda run: without_digest(run / NOISE)),
    "edited value, index put right": (NOISE, lambda run: edited_and_indexed(run, "noise", "noise_prob")),
    "edited value, no index": (NOISE, lambda run: edited_without_state(run, "noise", "noise_prob")),
    "edited value, signed again": (NOISE, lambda run: signed_again(run / NOISE, first_value_halved("noise_prob"))),
    "edited annotation, signed and indexed again": (
        ANNOTATIONS,
        lambda run: edited_signed_and_indexed(run, "annotations", "noise_prob"),
    ),
    "edited column, signed and indexed again": (
        ANNOTATIONS,
        lambda run: edited_signed_and_indexed(run, "noise", "noise_prob"),
    ),
    "missing part": (NOISE, lambda run: (run / NOISE).unlink()),
    "missing annotations": (ANNOTATIONS, lambda run: (run / ANNOTATIONS).unlink()),
    "missing step": ("duplicates/part-00000003.parquet", lambda run: shutil.rmtree(run / "duplicates")),
    "part too many": (
        "noise/part-00000099.parquet",
        lambda run: shutil.copy(run / NOISE, run / "noise/part-00000099.parquet"),
    ),
    "wrong order of rows": (ANNOTATIONS, rows_changed(reversed_rows)),
    "a row twice": (ANNOTATIONS, rows_changed(a_row_twice)),
    "a row dropped": (ANNOTATIONS, rows_changed(lambda table: table.slice(1))),
    "a column dropped": (NOISE, lambda run: signed_again(run / NOISE, lambda t: t.drop_columns(["label"]))),
    "a column of another type": (
        NOISE,
        lambda run: signed_again(
            run / NOISE, lambda t: t.set_column(1, "noise_prob", t["noise_prob"].cast(pa.float64()))
        ),
    ),
    "a column too many": (NOISE, lambda run: signed_again(run / NOISE, lambda t: t.append_column("x", t["fold"]))),
    "another configuration": (NOISE, lambda run: facts_changed(run / NOISE)),
    "a fit is missing": ("artifacts/noise/artifact.json", lambda run: shutil.rmtree(run / "artifacts/noise")),
    "a fit is unfinished": (
        "artifacts/noise/artifact.json",
        lambda run: (run / "artifacts/noise/artifact.json").unlink(),
    ),
    "a model is missing": (
        "artifacts/noise/noise.safetensors",
        lambda run: (run / "artifacts/noise/noise.safetensors").unlink(),
    ),
    "a model was edited": (
        "artifacts/noise/noise.safetensors",
        lambda run: flip_a_bit(run / "artifacts/noise/noise.safetensors"),
    ),
    "a verdict was edited": (
        "artifacts/noise/artifact.json",
        lambda run: edit_json(run / "artifacts/noise/artifact.json", lambda said: said["diagnostics"].clear()),
    ),
    "an artifact.json is no JSON": (
        "artifacts/noise/artifact.json",
        lambda run: (run / "artifacts/noise/artifact.json").write_text("{"),
    ),
    "the manifest was edited": (
        "manifest.parquet",
        lambda run: rewritten(
            run / "manifest.parquet", lambda t: t.set_column(3, t.schema.field("rows"), pc.add(t["rows"], 1))
        ),
    ),
    "the manifest has a part less": (
        "manifest.parquet",
        lambda run: rewritten(run / "manifest.parquet", lambda table: table.slice(1)),
    ),
    "the manifest is missing": ("manifest.parquet", lambda run: (run / "manifest.parquet").unlink()),
    "the manifest is broken": ("manifest.parquet", lambda run: os.truncate(run / "manifest.parquet", 100)),
    "shard errors are missing": ("shard_errors.parquet", lambda run: (run / "shard_errors.parquet").unlink()),
    "left by a killed writer": (
        "embed/.tmp-1-part-00000001.parquet",
        lambda run: (run / "embed/.tmp-1-part-00000001.parquet").write_bytes(b"half"),
    ),
    "a link out of the run": (EMBED, lambda run: link_out(run / EMBED)),
    "a pickle": (
        "artifacts/noise/model.pkl",
        lambda run: (run / "artifacts/noise/model.pkl").write_bytes(b"\x80\x04."),
    ),
    "a strange file": ("embed/notes.txt", lambda run: (run / "embed/notes.txt").write_text("mine")),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_and_named(finished, tmp_path, name):
    file, corrupt = CORRUPTIONS[name]
    run = finished.copied_to(tmp_path).output
    corrupt(run)
    assert file in findings(run)


def test_a_finished_run_has_nothing_wrong(finished, completed):
    for made in (finished, completed):
        assert findings(made.output) == {}
        assert findings(made.output, quick=True) == {}


def test_a_run_without_its_state_has_nothing_wrong(finished, tmp_path):
    run = finished.copied_to(tmp_path).output
    shutil.rmtree(run / "_state")
    assert findings(run) == {}


def test_a_run_on_an_object_store_is_checked_alike(finished):
    store = RunStore(f"memory://{uuid.uuid4().hex}")
    for name, data in finished.contents().items():
        store.write_bytes(name, data)
    assert verify_run(store).findings == ()
    store.write_bytes("noise/part-00000001.parquet", store.read_bytes("noise/part-00000002.parquet"))
    assert NOISE in {finding.file for finding in verify_run(store).findings}


@pytest.mark.parametrize(
    "name", ["truncated", "two parts swapped", "missing part", "a column dropped", "another configuration", "empty"]
)
def test_a_quick_look_finds_what_names_and_footers_show(finished, tmp_path, name):
    file, corrupt = CORRUPTIONS[name]
    run = finished.copied_to(tmp_path).output
    corrupt(run)
    assert file in findings(run, quick=True)


def test_an_annotation_of_another_run_does_not_fit(finished, with_noise, tmp_path):
    run = finished.copied_to(tmp_path).output
    shutil.copy(with_noise.output / ANNOTATIONS, run / ANNOTATIONS)
    assert "does not follow" in findings(run)[ANNOTATIONS]


def test_annotations_that_are_all_of_another_run_do_not_fit(finished, with_noise, tmp_path):
    run = finished.copied_to(tmp_path).output
    shutil.rmtree(run / "annotations")
    shutil.copytree(with_noise.output / "annotations", run / "annotations")
    assert {f"annotations/part-{number:08d}.parquet" for number in range(8)} <= findings(run).keys()


def test_a_link_within_the_run_is_none_of_its_business(finished, tmp_path):
    run = finished.copied_to(tmp_path).output
    (run / "report.html").symlink_to("manifest.parquet")
    assert findings(run) == {}


def test_a_step_behind_a_link_is_named_once(finished, tmp_path):
    run = finished.copied_to(tmp_path).output
    shutil.move(run / "noise", tmp_path / "elsewhere")
    (run / "noise").symlink_to(tmp_path / "elsewhere")
    found = findings(run)
    assert "link out of the run directory" in found["noise"]
    assert not any(name.startswith("noise/") for name in found)


def test_a_strange_folder_is_named_once(finished, tmp_path):
    run = finished.copied_to(tmp_path).output
    shutil.copytree(run / "noise", run / "kept")
    assert findings(run) == {"kept": "is not curate's (8 files)"}


def test_what_is_no_run_is_your_input(tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        verify_run(RunStore(str(tmp_path)))


def test_the_command_says_what_was_checked_and_what_is_wrong(finished, tmp_path, curate):
    run = finished.copied_to(tmp_path).output
    code, told, _ = curate("verify", run, "--json", tmp_path / "found.json")
    assert code == 0
    assert "nothing is wrong" in told
    answer = json.loads((tmp_path / "found.json").read_text())
    assert answer["ok"]
    assert {each["name"]: each["rows"] for each in answer["checked"]}["noise"] == 160
    (run / NOISE).unlink()
    code, told, _ = curate("verify", run, "--json", tmp_path / "found.json")
    assert code == 1
    assert f"wrong    {NOISE}: is missing" in told
    answer = json.loads((tmp_path / "found.json").read_text())
    assert [finding["file"] for finding in answer["findings"]] == [NOISE]
    code, _, told = curate("verify", tmp_path / "nothing")
    assert code == 2
    assert "is no run directory" in told


def test_what_verify_finds_the_next_run_puts_right(finished, tmp_path):
    copy = finished.copied_to(tmp_path)
    swap(copy.output / NOISE, copy.output / "noise/part-00000002.parquet")
    (copy.output / ANNOTATIONS).unlink()
    copy.run()
    assert copy.contents() == finished.contents()
    assert copy.wrong() == {}


def test_a_run_of_an_earlier_version_has_nothing_wrong_and_that_is_said():
    found = verify_run(RunStore(str(GOLDEN)))
    assert found.findings == ()
    assert "28 files were written by an earlier version" in found.notes[0]


@pytest.mark.parametrize("step", ["noise", "concepts", "caption", "annotations"])
def test_files_of_an_earlier_version_are_checked_by_what_they_contradict(tmp_path, step):
    shutil.copytree(GOLDEN, tmp_path / "run")
    file = f"{step}/part-00000001.parquet"
    swap(tmp_path / "run" / file, tmp_path / "run" / step / "part-00000003.parquet")
    assert file in findings(tmp_path / "run")
