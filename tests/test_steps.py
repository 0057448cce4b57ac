"""A fit is complete or absent, and a column file has the rows of its part."""

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from curate.errors import CurateError
from curate.sources.base import Part, Shard
from curate.stages.noise import Noise, NoiseColumns
from curate.steps import NoiseWork, PartTask, finish_part, read_artifact, read_artifact_facts, write_artifact
from curate.store import RunStore, part_file
from tests.noise.synthetic import corpus, quick_fit
from tests.stages.test_noise import as_table

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

    def body(self, task, table):
        return table.slice(1)


def test_a_step_that_loses_a_row_leaves_no_file(tmp_path):
    store = RunStore(str(tmp_path))
    task = PartTask("step", 0, Part("s", 0, 3, 0, 9, "c"), Shard("s", "s", 9, "9"), {"fingerprint": "f"})
    with pytest.raises(CurateError, match="3 rows but 2 came out"):
        finish_part(LosesARow(), task, LosesARow().head(task), store)
    assert not (tmp_path / "step").exists()


def test_noise_work_scores_a_part_by_what_the_fit_left(tmp_path):
    store, sample = RunStore(str(tmp_path)), replace(corpus(rows=200)[0], strata=["a", "b"] * 100)
    model, table = quick_fit(sample, stratum_pairs=50), as_table(sample)
    write_artifact(store, "noise", model.to_bytes(), {"fingerprint": "f"})
    store.write_table(part_file("embed", 0), table, {})
    task = PartTask("noise", 0, Part("s", 0, 200, 0, 9, "c"), Shard("s", "s", 9, "9"), {"fingerprint": "g"})
    for by in (None, "site"):
        work = NoiseWork(str(tmp_path), "noise", NoiseColumns(), by)
        work.prepare()
        carried = pickle.loads(pickle.dumps(work))
        assert carried == work
        carried.prepare()
        finish_part(carried, task, carried.head(task), store)
        assert store.read_table(part_file("noise", 0)).equals(Noise(model, by=by)(table))
