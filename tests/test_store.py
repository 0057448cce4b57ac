"""A file of a run is whole or absent; its fingerprint is believed only while it is the file that was written."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError, InputError
from curate.store import JOURNAL, DoneIndex, RunStore, fingerprint, part_file

TABLE = pa.table({"a": [1, 2, 3]})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return RunStore(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_a_worker_in_another_folder_finds_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = RunStore("runs/mine")
    assert store.url == "runs/mine"
    assert store.address == str(tmp_path / "runs" / "mine")
    assert RunStore("memory://mine").address == "memory://mine"


def test_a_table_comes_back_with_its_facts(store):
    store.write_table("step/part-00000000.parquet", TABLE, {"fingerprint": "f", "x": [1]})
    assert store.read_table("step/part-00000000.parquet").to_pydict() == TABLE.to_pydict()
    assert store.read_facts("step/part-00000000.parquet") == {"fingerprint": "f", "x": [1]}


def test_the_same_table_gives_the_same_bytes(store):
    store.write_table("a.parquet", TABLE, {"b": 1, "a": 2})
    store.write_table("b.parquet", TABLE, {"a": 2, "b": 1})
    assert store.read_bytes("a.parquet") == store.read_bytes("b.parquet")


def test_an_absent_or_broken_file_has_no_facts(store):
    store.write_bytes("broken.parquet", b"PAR1 and nothing more")
    assert store.read_facts("absent.parquet") is None
    assert store.read_facts("broken.parquet") is None
    with pytest.raises(CurateError, match=r"broken\.parquet: cannot be read"):
        store.read_table("broken.parquet")


def test_a_failing_write_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    store = RunStore(str(tmp_path))
    store.write_bytes("file", b"old")

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(CurateError, match="No space left"):
        store.write_bytes("file", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    store = RunStore(str(tmp_path))
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "f"})
    (tmp_path / "step" / ".tmp-1-part-00000001.parquet").write_bytes(b"half")
    store.delete_temporary_files(["step", "no-such-folder"])
    assert [p.name for p in (tmp_path / "step").iterdir()] == ["part-00000000.parquet"]


def test_an_unknown_protocol_is_input_error():
    with pytest.raises(InputError, match="nosuch"):
        RunStore("nosuch://bucket/run")


def test_done_index_knows_what_was_recorded(store):
    store.write_table(part_file("step", 3), TABLE, {"fingerprint": "f3"})
    DoneIndex(store).record("step", 3, "f3")
    again = DoneIndex(store)
    assert again.fingerprint("step", 3) == "f3"
    assert again.fingerprint("step", 4) is None


def test_done_index_reads_files_that_nobody_recorded(store):
    store.write_table(part_file("step", 3), TABLE, {"fingerprint": "f3"})
    assert DoneIndex(store).fingerprint("step", 3) == "f3"


def test_a_deleted_file_is_not_done_whatever_the_journal_says(store):
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "f"})
    DoneIndex(store).record("step", 0, "f")
    store.delete(part_file("step", 0))
    assert DoneIndex(store).fingerprint("step", 0) is None


def test_a_file_replaced_behind_the_journal_tells_its_own_fingerprint(tmp_path):
    store = RunStore(str(tmp_path))
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "one"})
    DoneIndex(store).record("step", 0, "one")
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "two"})
    assert DoneIndex(store).fingerprint("step", 0) == "two"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_journal_cut_by_a_kill_loses_nothing(tmp_path, cut):
    store = RunStore(str(tmp_path))
    index = DoneIndex(store)
    for number in range(3):
        store.write_table(part_file("step", number), TABLE, {"fingerprint": f"f{number}"})
        index.record("step", number, f"f{number}")
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-cut])
    DoneIndex(store).fingerprint("step", 2)  # appends to the torn journal
    again = DoneIndex(store)
    assert [again.fingerprint("step", number) for number in range(3)] == ["f0", "f1", "f2"]


@given(json_values)
def test_equal_facts_have_equal_fingerprints(value):
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_other_facts_have_other_fingerprints(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


def test_a_file_that_only_a_worker_sees_is_named(store):
    with pytest.raises(CurateError, match="shared folder or a URL"):
        DoneIndex(store).record("step", 0, "f")


def test_of_many_that_create_a_file_one_does(tmp_path):
    store = RunStore(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: store.create_bytes("x/one", bytes([number])), range(8)))
    assert sum(made) == 1
    assert store.read_bytes("x/one") == bytes([made.index(True)])
    assert list(store.list_stamps("x")) == ["one"]


def test_a_guard_that_refuses_keeps_everything_as_it_is(store):
    class Refusal:
        def check(self):
            raise CurateError("another writes here")

    store.write_bytes("a", b"1")
    store.guard = Refusal()
    for write in (
        lambda: store.write_bytes("a", b"2"),
        lambda: store.create_bytes("b", b"2"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(CurateError, match="another writes here"):
            write()
    assert store.read_bytes("a") == b"1"
    assert not store.exists("b")
