"""Files of an object store that fails one request in four read and write as if it did not."""

import os
import random
from collections import Counter

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from curate.bench.chaos.object_store import DELAY, INTERNAL_ERROR, RESET, SLOW_DOWN, TRUNCATED, faulty_store
from curate.errors import CurateError
from curate.remote_files import RemoteFiles, open_files
from curate.retries import Retrying, RetryPolicy, counting_retries
from curate.sources.stores import open_seekable, open_store, open_window
from curate.store import RunStore
from tests.stores import reach

COUNTED_AS = {INTERNAL_ERROR: "500 ", SLOW_DOWN: "503 ", RESET: "connection reset", TRUNCATED: "truncated body"}
QUICK = RetryPolicy(attempts=20, first_seconds=0.001, most_seconds=0.01)


@pytest.fixture(scope="module")
def faulty():
    with faulty_store(5, 0.25) as store:
        yield store


@pytest.fixture
def bucket(faulty, monkeypatch):
    """A filesystem of the faulty store, and a folder in it."""
    reach(faulty.environment, monkeypatch)
    return open_files(f"{faulty.url}/files", Retrying(QUICK, random.Random(1)))


def test_files_of_this_machine_are_left_alone(tmp_path):
    files, path = open_files(str(tmp_path))
    assert type(files) is LocalFileSystem
    assert path == str(tmp_path)


def test_what_is_put_is_read_whole_and_in_ranges(bucket, faulty):
    files, folder = bucket
    data, before = random.Random(3).randbytes(300_000), faulty.injected
    with counting_retries() as retried:
        for number in range(8):
            path = f"{folder}/whole/{number}"
            files.pipe_file(path, data)
            assert files.exists(path)
            assert not files.exists(f"{path}x")
            assert files.cat_file(path) == data
            assert files.cat_file(path, start=1_000, end=200_000) == data[1_000:200_000]
            assert files.cat_file(path, start=299_000, end=400_000) == data[299_000:]
            assert len(files.ls(f"{folder}/whole")) == number + 1
            with files.open(path, "rb") as file:
                file.seek(-10, os.SEEK_END)
                assert file.read() == data[-10:]
    counts = Counter()
    for told, count in retried.counts[faulty.url].items():
        counts[next(kind for kind, text in COUNTED_AS.items() if told.startswith(text))] += count
    injected = {kind: count - before.get(kind, 0) for kind, count in faulty.injected.items() if kind != DELAY}
    assert counts == injected
    assert set(counts) == set(COUNTED_AS)


def test_a_file_that_was_just_listed_as_absent_is_seen(bucket):
    files, folder = bucket
    assert not files.exists(f"{folder}/late/a")
    files.pipe_file(f"{folder}/late/b", b"b")
    assert [entry["name"] for entry in files.ls(f"{folder}/late")] == [f"{folder}/late/b"]
    other, _ = open_files(f"s3://{folder}", Retrying(QUICK, random.Random(2)))
    other.pipe_file(f"{folder}/late/a", b"a")
    assert files.exists(f"{folder}/late/a")
    assert len(files.ls(f"{folder}/late")) == 2


def test_a_file_is_made_by_one_even_if_the_answer_was_lost(bucket):
    files, folder = bucket
    for number in range(20):
        files.pipe_file(f"{folder}/one/{number}", b"mine", mode="create")
        with pytest.raises(FileExistsError):
            files.pipe_file(f"{folder}/one/{number}", b"theirs", mode="create")
        assert files.cat_file(f"{folder}/one/{number}") == b"mine"


def test_what_lasts_is_not_tried_again(bucket):
    files, folder = bucket
    with counting_retries() as retried, pytest.raises(FileNotFoundError):
        files.cat_file(f"{folder}/nowhere")
    asked_again = sum(sum(kinds.values()) for kinds in retried.counts.values())
    assert asked_again <= 5
    with pytest.raises(CurateError, match=r"no-such-bucket/run/a: cannot be written: .*bucket does not exist"):
        RunStore("s3://no-such-bucket/run").write_bytes("a", b"")


def test_a_server_that_is_gone_is_said_after_bounded_tries(monkeypatch):
    nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    reach({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", **nobody}, monkeypatch)
    files, path = open_files("s3://gone/x", Retrying(RetryPolicy(attempts=3, first_seconds=0.01), random.Random(0)))
    with pytest.raises(OSError, match=r"gone/x: failed 3 times .*no connection"):
        files.cat_file(path)


def test_without_credentials_a_person_is_told_so(faulty, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    nowhere = {name: str(tmp_path / "none") for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")}
    endpoint = faulty.calm_environment["AWS_ENDPOINT_URL"]
    reach({"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true", **nowhere}, monkeypatch)
    with pytest.raises(CurateError, match=r"(?i)cannot be written: .*credentials"):
        RunStore(f"{faulty.url}/unsigned").write_bytes("a", b"")


def test_a_run_store_and_arrow_read_through_faults(bucket, faulty, monkeypatch):
    store = RunStore(f"{faulty.url}/run")
    table = pa.table({"a": list(range(5_000)), "b": ["x" * 20] * 5_000})
    names = [f"step/part-{number:08d}.parquet" for number in range(3)]
    for name in names:
        store.write_table(name, table, {"fingerprint": name})
    assert [store.read_facts(name) for name in names] == [{"fingerprint": name} for name in names]
    assert store.read_table(names[0], ["a"]).column("a").to_pylist() == list(range(5_000))
    assert store.dataset(names).to_table(filter=ds.field("a") < 2).num_rows == 6
    store.delete(names[0])
    assert sorted(store.list_stamps("step")) == [name.partition("/")[2] for name in names[1:]]


def test_sources_read_through_faults(bucket, faulty):
    files, folder = bucket
    data = random.Random(4).randbytes(200_000)
    files.pipe_file(f"{folder}/shard.tar", data)
    url = f"s3://{folder}/shard.tar"
    for _ in range(5):
        with open_window(url, 100, 150_000) as window:
            assert window.read_at(100, 150_000) == data[100:150_000]
        with open_seekable(url) as handle:
            handle.seek(1_000)
            assert handle.read(10) == data[1_000:1_010]
        store, path = open_store(url)
        assert store.entry(path).size == 200_000


class HalvesFiles(MemoryFileSystem):
    """A store that sends half of a range and says nothing of it, every other time."""

    cachable = False
    sent = 0

    def cat_file(self, path, start=None, end=None, **options):
        data = super().cat_file(path, start, end)
        type(self).sent += 1
        return data[: len(data) // 2] if self.sent % 2 else data


def test_bytes_that_do_not_come_are_asked_for_again():
    files = RemoteFiles(HalvesFiles(), Retrying(QUICK, random.Random(0)))
    files.pipe_file("/halves/a", bytes(range(200)))
    with counting_retries() as retried:
        assert files.cat_file("/halves/a", start=10, end=110) == bytes(range(10, 110))
        assert files.cat_file("/halves/a", start=150, end=1_000) == bytes(range(150, 200))
    assert [sum(kinds.values()) for kinds in retried.counts.values()] == [2]


def test_what_is_only_read_cannot_be_opened_for_writing():
    files = RemoteFiles(MemoryFileSystem(), Retrying(QUICK, random.Random(0)))
    with pytest.raises(ValueError, match="only rb is possible"):
        files.open("/a", "wb")


@pytest.mark.parametrize("kind", [RESET, TRUNCATED])
def test_each_kind_of_broken_connection_is_counted_as_what_it_is(kind, monkeypatch):
    with faulty_store(2, 0.4, [kind]) as store:
        reach(store.environment, monkeypatch)
        files, path = open_files(f"{store.url}/x", Retrying(QUICK, random.Random(1)))
        with counting_retries() as retried:
            for _ in range(12):
                files.pipe_file(path, b"x" * 1_000)
                assert files.cat_file(path) == b"x" * 1_000
        assert retried.counts == {store.url: {COUNTED_AS[kind]: store.injected[kind]}}
