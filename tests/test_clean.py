"""`curate clean`: what a run does not need goes, what it needs stays."""

import json
import shutil

import pytest

from curate.clean import intermediate_files, needless_files
from curate.errors import CurateError
from curate.store import RunStore, index_file
from tests.conftest import worked_on
from tests.corpus import write_corpus


@pytest.fixture
def copy(finished, tmp_path):
    return finished.copied_to(tmp_path)


def names(run):
    return {each.name for each in needless_files(RunStore(str(run.output)))}


def test_a_finished_run_needs_all_it_has(copy, completed):
    assert names(copy) == set()
    assert names(completed) == set()


def test_leftovers_are_removed_and_the_bytes_said(copy, curate, tmp_path):
    contents = copy.contents()
    left = copy.output / "embed" / ".tmp-1-part-00000000.parquet"
    left.write_bytes(b"x" * 1000)
    (copy.output / "_state" / "done.jsonl").write_text("{}\n")
    code, told, _ = curate("clean", copy.output, "--dry-run", "--json", tmp_path / "freed.json")
    assert code == 0
    assert "2 files would be removed" in told
    assert json.loads((tmp_path / "freed.json").read_text())["bytes_freed"] == 0
    assert left.exists()
    code, told, _ = curate("clean", copy.output, "--json", tmp_path / "freed.json")
    assert code == 0
    assert json.loads((tmp_path / "freed.json").read_text())["bytes_freed"] == 1003
    assert copy.contents() == contents
    assert "nothing to remove" in curate("clean", copy.output)[1]


def test_parts_that_the_manifest_does_not_have_are_removed(copy, curate):
    extra = copy.output / "noise" / "part-00000099.parquet"
    shutil.copy(copy.output / "noise" / "part-00000001.parquet", extra)
    assert names(copy) == {"noise/part-00000099.parquet"}
    assert curate("clean", copy.output)[0] == 0
    assert not extra.exists()
    assert copy.wrong() == {}


def test_a_stage_that_was_taken_out_is_removed_with_its_fit_and_index(completed, tmp_path, curate):
    copy = completed.copied_to(tmp_path)
    copy.raw["stages"] = copy.raw["stages"][:2]
    copy.run()
    assert {name.rpartition("/")[0] for name in names(copy)} == {
        "caption", "concepts", "artifacts/caption", "artifacts/concepts",
    }  # fmt: skip
    assert curate("clean", copy.output)[0] == 0
    assert copy.wrong() == {}
    assert names(copy) == {index_file("caption"), index_file("concepts")}
    assert worked_on(copy.run()) == set()


def test_what_the_pipeline_is_about_to_make_is_kept(completed, finished, tmp_path):
    """A stage was added, its files are there, and the run was stopped before the annotations."""
    copy = completed.copied_to(tmp_path)
    shutil.rmtree(copy.output / "annotations")
    shutil.copytree(finished.output / "annotations", copy.output / "annotations")
    from curate.state import remember_config

    remember_config(RunStore(str(copy.output)), copy.config())
    assert names(copy) == set()


def test_dropped_intermediates_are_no_finding_and_are_made_again(copy, curate):
    contents = copy.contents()
    code, told, _ = curate("clean", copy.output, "--intermediate")
    assert code == 0
    assert "16 files removed" in told
    assert "would make the dropped steps again" in told
    left = {name.partition("/")[0] for name in copy.contents()}
    assert left == {"embed", "annotations", "artifacts", "manifest.parquet", "shard_errors.parquet", "format.json"}
    code, told, _ = curate("verify", copy.output)
    assert code == 0
    assert "noise: was dropped" in told
    assert curate("inspect", copy.output)[0] == 0
    assert worked_on(copy.run()) >= {"noise"}
    assert copy.contents() == contents


def test_a_file_that_is_lost_after_dropping_others_is_still_found(copy, curate):
    curate("clean", copy.output, "--intermediate")
    (copy.output / "annotations" / "part-00000002.parquet").unlink()
    assert copy.wrong().keys() == {"annotations/part-00000002.parquet"}


def test_nothing_is_dropped_while_something_is_wrong(copy, curate):
    (copy.output / "annotations" / "part-00000002.parquet").unlink()
    with pytest.raises(CurateError, match=r"annotations/part-00000002\.parquet is missing"):
        intermediate_files(RunStore(str(copy.output)), [])
    code, _, told = curate("clean", copy.output, "--intermediate")
    assert code == 1
    assert "nothing is dropped while something is wrong" in told
    assert (copy.output / "noise" / "part-00000002.parquet").exists()


def test_what_is_not_curates_stays(copy, curate):
    (copy.output / "notes.txt").write_text("mine")
    curate("clean", copy.output)
    assert (copy.output / "notes.txt").exists()


def test_what_is_no_run_is_your_input(tmp_path, curate):
    code, _, told = curate("clean", write_corpus(tmp_path / "shards", count=2))
    assert code == 2
    assert "is no run directory" in told
