"""A file of a run is whole or absent; its fingerprint is believed only while it is the file that was written."""

import contextlib
import json
import os
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.digest import digest_of, signed_parquet
from curate.errors import CurateError, InputError
from curate.store import TEMPORARY_PREFIX, DoneIndex, RunStore, fingerprint, index_file, part_file, read_index

TABLE = pa.table({"a": [1, 2, 3]})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def recorded(store, number, fingerprint):
    """Record a file and write the index."""
    index = DoneIndex(store)
    index.record("step", number, fingerprint, "digest")
    index.save()


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
    recorded(store, 3, "f3")
    again = DoneIndex(store)
    assert again.fingerprint("step", 3) == "f3"
    assert again.fingerprint("step", 4) is None


def test_done_index_reads_files_that_nobody_recorded(store):
    store.write_table(part_file("step", 3), TABLE, {"fingerprint": "f3"})
    assert DoneIndex(store).fingerprint("step", 3) == "f3"


def test_a_deleted_file_is_not_done_whatever_the_index_says(store):
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "f"})
    recorded(store, 0, "f")
    store.delete(part_file("step", 0))
    assert DoneIndex(store).fingerprint("step", 0) is None


def test_a_file_replaced_behind_the_index_tells_its_own_fingerprint(tmp_path):
    store = RunStore(str(tmp_path))
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "one"})
    recorded(store, 0, "one")
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "two"})
    assert DoneIndex(store).fingerprint("step", 0) == "two"


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"null", b'{"files": {"part-00000000.parquet": 1}}', b"\xff"])
def test_an_index_that_cannot_be_understood_loses_nothing(store, left):
    store.write_table(part_file("step", 0), TABLE, {"fingerprint": "f"})
    recorded(store, 0, "f")
    store.write_bytes(index_file("step"), left)
    assert DoneIndex(store).fingerprint("step", 0) == "f"


def test_the_index_is_written_while_a_step_goes_on(store):
    index = DoneIndex(store, save_seconds=0)
    digest = store.write_table(part_file("step", 0), TABLE, {"fingerprint": "f"})
    index.record("step", 0, "f", digest)
    (known,) = read_index(store, "step").values()
    assert (known.facts, known.digest) == ({"fingerprint": "f"}, store.digest(part_file("step", 0)))


class CountingFiles(LocalFileSystem):
    """Counts what is asked of the disk."""

    # Each counts what it was asked for, not what all are.
    cachable = False

    def __init__(self):
        super().__init__()
        self.opened, self.listed = [], []

    def open(self, path, *args, **kwargs):
        self.opened.append(path)
        return super().open(path, *args, **kwargs)

    def cat_file(self, path, *args, **kwargs):
        self.opened.append(path)
        return super().cat_file(path, *args, **kwargs)

    def ls(self, path, *args, **kwargs):
        self.listed.append(path)
        return super().ls(path, *args, **kwargs)


def test_a_look_at_ten_thousand_parts_opens_no_column_file(tmp_path):
    parts, data = range(10_000), signed_parquet(TABLE, {"fingerprint": "f"})
    (tmp_path / "step").mkdir()
    for number in parts:
        (tmp_path / part_file("step", number)).write_bytes(data)
    first = DoneIndex(RunStore(str(tmp_path)))
    for number in parts:
        first.record("step", number, "f", digest_of(data))
    first.save()
    files = CountingFiles()
    index = DoneIndex(RunStore(str(tmp_path), files=files))
    assert all(index.fingerprint("step", number) == "f" for number in parts)
    assert set(files.opened) == {str(tmp_path / index_file("step"))}
    assert files.listed == [str(tmp_path / "step")]


def test_a_flipped_bit_in_a_page_is_found_by_whoever_reads_it(tmp_path):
    store = RunStore(str(tmp_path))
    table = pa.table({"a": list(range(2000))})
    store.write_table("step/part-00000000.parquet", table, {"fingerprint": "f"})
    file = tmp_path / "step" / "part-00000000.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CurateError, match=r"part-00000000\.parquet: cannot be read"):
        store.read_table("step/part-00000000.parquet")


def test_the_tree_has_files_and_links_and_does_not_follow_them(tmp_path):
    store = RunStore(str(tmp_path / "run"))
    store.write_bytes("a/b", b"12")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_bytes(b"1")
    (tmp_path / "run" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "run" / "in").symlink_to("a/b")
    assert [(e.name, e.size, e.leads_out) for e in store.tree()] == [
        ("a/b", 2, False),
        ("in", 0, False),
        ("out", 0, True),
    ]


def test_the_tree_of_a_remote_run():
    store = RunStore(f"memory://{uuid.uuid4().hex}")
    assert store.tree() == []
    store.write_bytes("a/b", b"12")
    assert [(entry.name, entry.size) for entry in store.tree()] == [("a/b", 2)]


@given(json_values)
def test_equal_facts_have_equal_fingerprints(value):
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_other_facts_have_other_fingerprints(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


def test_a_file_that_only_a_worker_sees_is_named(store):
    with pytest.raises(CurateError, match="shared folder or a URL"):
        DoneIndex(store).record("step", 0, "f", "d")


def test_what_cannot_be_written_says_how_to_go_on(tmp_path):
    store = RunStore(str(tmp_path))
    (tmp_path / "_state").write_text("no folder")
    with pytest.raises(CurateError, match=r"run\.json: cannot be written.*run the same command again"):
        store.write_json("_state/run.json", {})


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


def linked_out(tmp_path, folder):
    """A store one of whose folders is a link to a folder outside, which holds a file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / folder).symlink_to(outside)
    return RunStore(str(tmp_path / "run")), outside


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.write_bytes("embed/x", b"new"),
        lambda store: store.write_bytes("embed/y/z", b"new"),
        lambda store: store.delete("embed/x"),
    ],
)
def test_nothing_is_changed_behind_a_link_out_of_the_run(tmp_path, change):
    store, outside = linked_out(tmp_path, "embed")
    with pytest.raises(CurateError, match="leads out of the run directory"):
        change(store)
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("x", "as it was")]


def test_a_file_that_is_a_link_is_replaced(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    store = RunStore(str(tmp_path / "run"))
    store.write_bytes("a", b"old")
    (tmp_path / "run" / "a").unlink()
    (tmp_path / "run" / "a").symlink_to(victim)
    store.write_bytes("a", b"new")
    assert victim.read_text() == "as it was"
    assert store.read_bytes("a") == b"new"


def test_a_run_directory_that_is_itself_a_link_is_written_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    RunStore(str(tmp_path / "run")).write_bytes("embed/x", b"new")
    assert (tmp_path / "disk" / "embed" / "x").read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_broken_json_file_is_named(store, content):
    store.write_bytes("artifacts/noise/artifact.json", content)
    with pytest.raises(CurateError, match=r"artifact\.json: is not readable as JSON"):
        store.read_json("artifacts/noise/artifact.json")


names = st.text("abc", min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, json_values, max_size=4), st.lists(st.integers() | st.none(), max_size=5))
def test_any_facts_come_back(facts, numbers):
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(folder)
        table = pa.table({"n": pa.array([None if n is None else n % 1000 for n in numbers], pa.int64())})
        store.write_table("step/part-00000000.parquet", table, facts)
        assert store.read_facts("step/part-00000000.parquet") == facts
        assert store.read_table("step/part-00000000.parquet").equals(table)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, st.binary(max_size=200), st.integers(0, 6)), min_size=1, max_size=5))
def test_whoever_is_killed_while_writing_leaves_whole_files_or_none(writes):
    """Each write is stopped before one of its system calls; what is there is then a whole content that was given."""
    with tempfile.TemporaryDirectory() as folder:
        store, given_contents = RunStore(folder), {}
        for name, content, survives in writes:
            given_contents.setdefault(name, set()).add(content)
            with killed_after(survives), contextlib.suppress(Killed):
                store.write_bytes(name, content)
        found = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        assert all(content in given_contents[name] for name, content in found.items() if name in given_contents)
        assert all(name in given_contents or name.startswith(TEMPORARY_PREFIX) for name in found)


class Killed(BaseException):
    """Stands for SIGKILL: nothing is cleaned up after it but what `finally` does, which can only remove more."""


@contextlib.contextmanager
def killed_after(calls):
    """The file system stops for good at the call after so many."""
    left = [calls]

    def stopping(real):
        def call(*arguments, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stopping(os.fsync))
        patch.setattr(Path, "replace", stopping(Path.replace))
        patch.setattr(Path, "mkdir", stopping(Path.mkdir))
        patch.setattr(Path, "unlink", stopping(Path.unlink))
        yield
