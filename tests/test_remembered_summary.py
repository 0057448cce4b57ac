"""A summary that is remembered is the summary, for as long as nothing of the run has changed."""

import json
import shutil
from pathlib import Path

import pytest

from curate.remembered_summary import SUMMARY_FILE, remembered_summary
from curate.store import RunStore
from curate.summary import summarize
from tests.test_store import CountingFiles

GOLDEN = Path(__file__).parent / "golden" / "run-v1-all-steps"


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(GOLDEN, tmp_path / "run")


def annotations_opened(files):
    return [path for path in files.opened if "/annotations/" in path]


def test_the_second_time_no_annotation_is_read(run):
    store = RunStore(str(run))
    first = remembered_summary(store)
    assert first == summarize(store)
    files = CountingFiles()
    again = remembered_summary(RunStore(str(run), files=files))
    assert again.to_json() == json.loads(json.dumps(first.to_json()))
    assert again.shown == first.shown
    assert annotations_opened(files) == []


@pytest.mark.parametrize("changed", ["annotations/part-00000002.parquet", "artifacts/noise/artifact.json"])
def test_what_changed_is_summed_up_anew(run, changed):
    remembered_summary(RunStore(str(run)))
    file = run / changed
    file.write_bytes(file.read_bytes())
    files = CountingFiles()
    remembered_summary(RunStore(str(run), files=files))
    assert annotations_opened(files)


@pytest.mark.parametrize("left", ["", "[]", "null", '{"seen": 1}'])
def test_one_that_cannot_be_understood_is_made_anew(run, left):
    store = RunStore(str(run))
    first = remembered_summary(store)
    (run / SUMMARY_FILE).write_text(left)
    assert remembered_summary(store) == first


def test_one_of_other_fields_is_made_anew(run):
    store = RunStore(str(run))
    first = remembered_summary(store)
    held = json.loads((run / SUMMARY_FILE).read_text())
    del held["summary"]["labels"]
    (run / SUMMARY_FILE).write_text(json.dumps(held))
    assert remembered_summary(store) == first
