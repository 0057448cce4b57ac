"""A fit is complete or absent, and a column file has the rows of its part."""

import pyarrow as pa
import pytest

from curate.errors import CurateError
from curate.sources.base import Part, Shard
from curate.steps import PartTask, finish_part, read_artifact, read_artifact_facts, write_artifact
from curate.store import RunStore

FILES = {"a.bin": b"1", "b.bin": b"2"}


def test_a_fit_comes_back_as_it_was_left(tmp_path):
    store = RunStore(str(tmp_path))
    write_artifact(store, "noise", FILES, {"fingerprint": "f"})
    assert read_artifact(store, "noise") == FILES
    assert read_artifact_facts(store, "noise")["fingerprint"] == "f"


def test_a_fit_interrupted_over_an_older_one_counts_as_absent(tmp_path, monkeypatch):
    store = RunStore(str(tmp_path))
    write_artifact(store, "noise", FILES, {"fingerprint": "old"})
    write = store.write_bytes

    def write_then_fail(name, data):
        if name.endswith("b.bin"):
            raise CurateError("disk full")
        write(name, data)

    monkeypatch.setattr(store, "write_bytes", write_then_fail)
    with pytest.raises(CurateError, match="disk full"):
        write_artifact(store, "noise", {"a.bin": b"new", "b.bin": b"new"}, {"fingerprint": "new"})
    assert read_artifact_facts(store, "noise") is None
    with pytest.raises(CurateError, match="missing or incomplete"):
        read_artifact(store, "noise")


class LosesARow:
    """A step whose body drops a row."""

    device = "cpu"

    def prepare(self):
        """Nothing to load."""

    def head(self, task):
        return pa.table({"a": [1, 2, 3]})

    def body(self, table):
        return table.slice(1)


def test_a_step_that_loses_a_row_leaves_no_file(tmp_path):
    store = RunStore(str(tmp_path))
    task = PartTask("step", 0, Part("s", 0, 3, 0, 9, "c"), Shard("s", "s", 9, "9"), {"fingerprint": "f"})
    with pytest.raises(CurateError, match="3 rows but 2 came out"):
        finish_part(LosesARow(), task, LosesARow().head(task), store)
    assert not (tmp_path / "step").exists()
