"""JSONL, CSV and Parquet: one row per record, whatever is in it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import sys
import tempfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, InputError
from curate.sources import open_source, stores, text
from curate.sources.options import ColumnNames, SourceLimits, SourceOptions
from curate.sources.parquet import cut_groups

from .helpers import columns, index_all, read_all, read_one, read_shard, sources_of, write


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "sub/d.jpg"):
        write(tmp_path / name, f"image {name}".encode())
    return tmp_path


def jsonl(folder, *records, **options):
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return read_one(write(folder / "t.jsonl", b"\n".join(lines) + b"\n"), "jsonl", **options)


def csv_file(folder, content: bytes, **options):
    return read_one(write(folder / "t.csv", content), "csv", **options)


def parquet(folder, content, row_group_size=None, **options):
    pq.write_table(pa.table(content), folder / "t.parquet", row_group_size=row_group_size)
    return read_one(folder / "t.parquet", "parquet", **options)


# --- JSONL ------------------------------------------------------------------------------------------------------


def test_jsonl_statuses(folder):
    table, errors = jsonl(
        folder,
        {"image": "a.jpg", "caption": "a dog", "key": "k"},
        {"image": "nope.jpg", "caption": "x"},
        {"image": "sub", "caption": "x"},
        {"image": "a\0.jpg", "caption": "x"},
        {"caption": "x"},
        {"image": "a.jpg"},
        {"image": "a.jpg", "caption": " "},
        {"image": "", "caption": ""},
        b'{"image": "a.jpg", "caption": "caf\xe9"}',
        b"{broken",
        b'["a"]',
        b"",
        b"  \t",
        {"image": "sub/d.jpg", "caption": "NUL \0 stays\n", "key": 7},
        {"image": 3, "caption": 4.5, "key": True},
    )
    assert not errors
    assert columns(table, "key", "status", "caption", "caption_bytes") == [
        ("k", "ok", "a dog", None),
        ("000000001", "missing_image", "x", None),
        ("000000002", "missing_image", "x", None),
        ("000000003", "missing_image", "x", None),
        ("000000004", "missing_image", "x", None),
        ("000000005", "missing_caption", None, None),
        ("000000006", "empty_caption", " ", None),
        ("000000007", "missing_image", "", None),
        ("000000008", "caption_not_utf8", None, b"caf\xe9"),
        ("000000009", "unreadable_row", None, None),
        ("000000010", "unreadable_row", None, None),
        ("7", "ok", "NUL \0 stays\n", None),
        ("000000012", "missing_image", "4.5", None),
    ]
    assert "nope.jpg" in table.column("error")[1].as_py()
    assert table.column("image")[11].as_py() == b"image sub/d.jpg"


def test_jsonl_columns_may_differ_from_line_to_line(folder):
    table, _ = jsonl(
        folder,
        {"file_name": "a.jpg", "text": "1", "id": "x"},
        {"image": None, "path": "b.jpg", "caption": None, "text": "2"},
        {"IMAGE": "c.jpg", "Caption": "3"},
        {"image": {"path": "a.jpg", "bytes": None}, "caption": "4"},
    )
    assert columns(table, "status", "caption", "key")[0] == ("ok", "1", "x")
    assert table.column("caption").to_pylist() == ["1", "2", "3", "4"]
    assert table.column("status").to_pylist() == ["ok"] * 4


def test_jsonl_with_configured_columns(folder):
    record = {"image": "nope", "img": "a.jpg", "caption": "x", "alt": "y", "key": "k", "n": 5}
    table, _ = jsonl(folder, record, columns=ColumnNames("img", "alt", "n"))
    assert columns(table, "key", "caption", "status") == [("5", "y", "ok")]


def test_jsonl_without_any_image_column_is_an_input_error(folder):
    with pytest.raises(InputError, match=r"no image column.*columns are: imag, caption.*Did you mean 'imag'\?"):
        jsonl(folder, {"imag": "a.jpg", "caption": "x"})
    with pytest.raises(InputError, match=r"input\.columns\.caption"):
        jsonl(folder, {"image": "a.jpg", "caption": "x"}, columns=ColumnNames(caption="alt"))


def test_jsonl_bom_crlf_and_no_last_newline(folder):
    path = write(
        folder / "t.jsonl", b'\xef\xbb\xbf{"image": "a.jpg", "caption": "1"}\r\n{"image": "b.jpg", "caption": "2"}'
    )
    table, _ = read_one(path, "jsonl")
    assert columns(table, "caption", "status") == [("1", "ok"), ("2", "ok")]


def test_lines_that_are_too_long_are_one_unreadable_row(folder, monkeypatch):
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 100)
    good = {"image": "a.jpg", "caption": "x"}
    table, _ = jsonl(folder, good, {"image": "a.jpg", "caption": "x" * 1000}, good)
    assert table.column("status").to_pylist() == ["ok", "unreadable_row", "ok"]


def test_duplicate_keys_in_tables(folder):
    records = [{"image": "a.jpg", "caption": "x", "key": key} for key in ("p", "q", "p", 1, "1")]
    for part_rows in (1, 100):
        table, _ = jsonl(folder, *records, part_rows=part_rows)
        assert table.column("duplicate_key").to_pylist() == [True, False, True, True, True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")),
            st.fixed_dictionaries({}, optional={"image": st.text(max_size=5), "caption": st.text(max_size=9)}).map(
                lambda record: json.dumps({"image": "a.jpg", **record}).encode()
            ),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_every_line_is_a_row_in_any_cut(lines, part_rows):
    lines = [b'{"image": "a.jpg", "caption": "x"}', *lines]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name) / "a.jpg", b"img")
        whole, _ = jsonl(Path(name), *lines)
        cut, _ = jsonl(Path(name), *lines, part_rows=part_rows)
    assert whole.num_rows == sum(bool(line.strip(b" \t\r\n")) for line in lines)
    assert whole.equals(cut)


# --- CSV --------------------------------------------------------------------------------------------------------


def test_csv_statuses(folder):
    table, errors = csv_file(
        folder,
        b"\xef\xbb\xbfkey,image,caption\r\n"
        b"k1,a.jpg,plain\r\n"
        b'k2,b.jpg,"a ""quoted"", text\r\nover two lines"\r\n'
        b"k3,a.jpg,caf\xe9\r\n"
        b"k4,a.jpg,caf\xc3\xa9\r\n"
        b"k5,a.jpg,\r\n"
        b"\r\n"
        b"k6,a.jpg\r\n"
        b"k7,a.jpg,x,y\r\n"
        b"k8,,x\r\n"
        b'k9,nope.jpg,"NUL \0 and \r stay"\r\n'
        b",a.jpg,a lone \r stays\r\n"
        b'k11,a.jpg,5" pipe\r\n'
        b"k12,a.jpg,last",
    )
    assert not errors
    assert columns(table, "key", "status", "caption", "caption_bytes") == [
        ("k1", "ok", "plain", None),
        ("k2", "ok", 'a "quoted", text\r\nover two lines', None),
        ("k3", "caption_not_utf8", None, b"caf\xe9"),
        ("k4", "ok", "café", None),
        ("k5", "empty_caption", "", None),
        ("000000005", "unreadable_row", None, None),
        ("000000006", "unreadable_row", None, None),
        ("k8", "missing_image", "x", None),
        ("k9", "missing_image", "NUL \0 and \r stay", None),
        ("000000009", "ok", "a lone \r stays", None),
        ("k11", "ok", '5" pipe', None),
        ("k12", "ok", "last", None),
    ]
    assert "2 fields, the header has 3" in table.column("error")[5].as_py()


def test_a_csv_caption_of_100_kilobytes_and_more(folder):
    table, _ = csv_file(folder, b'image,caption\na.jpg,"' + b"x\n" * 150_000 + b'"\n')
    assert columns(table, "caption", "status") == [("x\n" * 150_000, "ok")]


@pytest.mark.parametrize("broken", [b'a.jpg,"never closed', b'a.jpg,"closed" and more', b'a.jpg,"'])
def test_a_broken_quote_costs_its_own_line_only(folder, broken):
    good = b"a.jpg,x\n"
    for part_rows in (1, 2, 100):
        table, _ = csv_file(folder, b"image,caption\n" + good + broken + b"\n" + good * 3, part_rows=part_rows)
        assert table.column("status").to_pylist() == ["ok", "unreadable_row", "ok", "ok", "ok"]


def test_a_csv_record_that_is_too_long_costs_its_own_line_only(folder, monkeypatch):
    monkeypatch.setattr(text, "MAX_CSV_RECORD_BYTES", 50)
    for broken in (b"a.jpg," + b"x" * 100, b'a.jpg,"' + b"x" * 30):
        table, _ = csv_file(folder, b"image,caption\n" + broken + b"\n" + b"a.jpg,x\n" * 9)
        assert table.column("status").to_pylist() == ["unreadable_row"] + ["ok"] * 9


def test_tsv(folder):
    path = write(folder / "t.tsv", b"image\tcaption\na.jpg\tone, two\n")
    assert columns(read_one(path, "csv")[0], "caption", "status") == [("one, two", "ok")]


def test_csv_without_a_column_is_an_input_error(folder):
    with pytest.raises(
        InputError, match=r"t\.csv: there is no caption column.*image, captoin.*Did you mean 'captoin'"
    ):
        csv_file(folder, b"image,captoin\na.jpg,x\n")
    with pytest.raises(InputError, match=r"'alt'"):
        csv_file(folder, b"image,caption\na.jpg,x\n", columns=ColumnNames(caption="alt"))


def test_a_later_csv_without_a_column_is_found_too(folder):
    for name, content in (("0.csv", b"image,caption\na.jpg,x\n"), ("1.csv", b"wrong,header\na.jpg,x\n")):
        write(folder / name, content)
        fsspec.filesystem("memory").pipe(f"/later/{name}", content)
    with pytest.raises(InputError, match=r"1\.csv: there is no image column"):
        sources_of(folder, "csv").list_shards()
    remote = sources_of("memory://later", "csv")
    with pytest.raises(InputError, match=r"1\.csv: there is no image column"):
        remote.index(remote.list_shards()[1])


def test_csv_and_jsonl_that_are_something_else(folder):
    for name, file_format in (("t.csv", "csv"), ("t.jsonl", "jsonl")):
        table, errors = read_one(write(folder / name, gzip.compress(b"image,caption\n")), file_format)
        assert table.num_rows == 0
        assert "gunzip" in errors[0].error
    _, errors = csv_file(folder, b"")
    assert "empty" in errors[0].error
    _, errors = csv_file(folder, b'"image,caption\na.jpg,x\n')
    assert "header line" in errors[0].error
    assert jsonl(folder)[0].num_rows == 0


# Before Python 3.11 the csv module neither writes nor reads NUL.
CELLS = st.binary(max_size=12).filter(lambda cell: sys.version_info >= (3, 11) or b"\0" not in cell)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=10), st.integers(1, 4), st.sampled_from(["\n", "\r\n"]))
def test_whatever_the_csv_module_writes_is_read_back(rows, part_rows, newline):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(["key", "image", "caption"])
    for number, (name, caption) in enumerate(rows):
        writer.writerow([f"{number}", name.decode("latin-1"), caption.decode("latin-1")])
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = csv_file(Path(folder), buffer.getvalue().encode("latin-1"))
        cut, _ = csv_file(Path(folder), buffer.getvalue().encode("latin-1"), part_rows=part_rows)
    found = [
        raw if raw is not None else caption.encode() for caption, raw in columns(whole, "caption", "caption_bytes")
    ]
    assert found == [caption for _, caption in rows]
    assert whole.equals(cut)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([b'"', b",", b"\n", b"\r\n", b"a.jpg,x", b'a.jpg,"x"', b"\xff", b"\0"]), max_size=25))
def test_random_csv_never_raises_and_cuts_change_nothing(pieces):
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = csv_file(Path(folder), b"image,caption\n" + b"".join(pieces))
        cut, _ = csv_file(Path(folder), b"image,caption\n" + b"".join(pieces), part_rows=1)
    assert whole.equals(cut)


# --- image files of a table -------------------------------------------------------------------------------------


def test_image_root_absolute_paths_and_urls(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("table")
    fsspec.filesystem("memory").pipe("/pictures/m.jpg", b"from memory")
    records = [
        {"image": "a.jpg", "caption": "x"},
        {"image": str(folder / "b.jpg"), "caption": "x"},
        {"image": f"file://{folder}/c.jpg", "caption": "x"},
        {"image": "memory://pictures/m.jpg", "caption": "x"},
        {"image": "memory://pictures/nope.jpg", "caption": "x"},
        {"image": "nope://x", "caption": "x"},
        {"image": "https://example.org/x.jpg", "caption": "x"},
    ]
    table, _ = jsonl(elsewhere, *records, image_root=str(folder))
    images = [b"image a.jpg", b"image b.jpg", b"image c.jpg", b"from memory", None, None, None]
    assert table.column("image").to_pylist() == images
    assert table.column("status").to_pylist() == ["ok"] * 4 + ["missing_image"] * 3
    assert "web address" in table.column("error")[6].as_py()


@pytest.mark.timeout(20)
def test_a_pipe_is_no_image(folder):
    os.mkfifo(folder / "pipe.jpg")
    table, _ = jsonl(folder, {"image": "pipe.jpg", "caption": "x"}, {"image": "/dev/zero", "caption": "x"})
    assert columns(table, "status") == [("missing_image",)] * 2


def test_an_image_file_that_is_too_large_is_not_read(folder):
    table, _ = jsonl(folder, {"image": "a.jpg", "caption": "x"}, limits=SourceLimits(image_bytes=5))
    assert columns(table, "status", "image") == [("image_too_large", None)]


def test_a_relative_image_root_is_meant_from_the_driver(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = open_source(SourceOptions("jsonl", ("t.jsonl",), image_root="sub"))
    write(folder / "t.jsonl", b'{"image": "d.jpg", "caption": "x"}\n')
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    monkeypatch.chdir("/")
    assert read_shard(source, shard, (part,)).column("status").to_pylist() == ["ok"]


def test_a_table_in_a_remote_store_finds_its_images_beside_it():
    store = fsspec.filesystem("memory")
    store.pipe("/set/t.jsonl", b'{"image": "i/a.jpg", "caption": "x"}\n' * 3)
    store.pipe("/set/t.csv", b"image,caption\n" + b"i/a.jpg,x\n" * 3)
    store.pipe("/set/i/a.jpg", b"img")
    for file_format in ("jsonl", "csv"):
        table = read_all(sources_of("memory://set", file_format, part_rows=2))
        assert columns(table, "image", "status") == [(b"img", "ok")] * 3


def test_a_changed_image_changes_stamp_and_checksum(folder):
    lines = b'{"image": "a.jpg", "caption": "x"}\n{"image": "b.jpg", "caption": "x"}\n'
    path = write(folder / "t.jsonl", lines)
    source = sources_of(path, "jsonl", part_rows=1)
    [before] = source.list_shards()
    old = source.index(before)
    write(folder / "b.jpg", b"IMAGE B.JPG")
    [after] = source.list_shards()
    new = source.index(after)
    assert before.stamp != after.stamp
    assert [a.checksum == b.checksum for a, b in zip(old.parts, new.parts, strict=True)] == [True, False]
    (folder / "b.jpg").unlink()
    assert len({before.stamp, after.stamp, source.list_shards()[0].stamp}) == 3


def test_an_image_that_changes_while_running_is_noticed(folder):
    path = write(folder / "t.jsonl", b'{"image": "a.jpg", "caption": "x"}\n')
    source = sources_of(path, "jsonl")
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    write(folder / "a.jpg", b"another")
    with pytest.raises(CurateError, match="changed while running"):
        list(source.read(shard, part, 10))


def test_a_header_or_row_that_changes_changes_the_checksum(folder):
    seen = set()
    for content in (b"image,caption\na.jpg,x\n", b"image,text\na.jpg,x\n", b"image,caption\na.jpg,y\n"):
        path = write(folder / "t.csv", content)
        seen.add(index_all(sources_of(path, "csv"))["t.csv"].parts[0].checksum)
    assert len(seen) == 3


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_changed_and_vanished_tables_are_said(folder, file_format):
    path = folder / f"t.{file_format}"
    if file_format == "parquet":
        pq.write_table(pa.table({"jpg": [b"i"], "caption": ["x"]}), path)
    else:
        path.write_bytes(
            {"jsonl": b'{"image": "a.jpg", "caption": "x"}\n', "csv": b"image,caption\na.jpg,x\n"}[file_format]
        )
    source = sources_of(path, file_format)
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    os.utime(path, ns=(1, 1))
    with pytest.raises(CurateError, match="changed while running: run again"):
        list(source.read(shard, part, 10))
    path.unlink()
    with pytest.raises(CurateError, match="vanished"):
        list(source.read(shard, part, 10))
    with pytest.raises(CurateError, match="vanished"):
        source.index(shard)


# --- Parquet ----------------------------------------------------------------------------------------------------


def test_img2dataset_layout(folder):
    table, errors = parquet(
        folder,
        {
            "url": ["u"] * 5,
            "key": ["k0", "k1", None, "k3", "k3"],
            "caption": ["a dog", None, "", "x\0", " "],
            "jpg": [b"i0", b"i1", b"i2", None, b""],
        },
    )
    assert not errors
    assert columns(table, "key", "status", "caption", "image", "duplicate_key") == [
        ("k0", "ok", "a dog", b"i0", False),
        ("k1", "missing_caption", None, b"i1", False),
        ("000000002", "empty_caption", "", b"i2", False),
        ("k3", "missing_image", "x\0", None, True),
        ("k3", "corrupt_image", " ", b"", True),
    ]


def test_hugging_face_layout(folder):
    images = [
        {"bytes": b"inside", "path": "nope.jpg"},
        {"bytes": None, "path": "a.jpg"},
        {"bytes": None, "path": "nope.jpg"},
        {"bytes": None, "path": None},
        None,
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table, _ = parquet(folder, {"image": pa.array(images, kind), "text": ["1", "2", "3", "4", "5"]})
    assert columns(table, "key", "image", "status") == [
        ("000000000", b"inside", "ok"),
        ("000000001", b"image a.jpg", "ok"),
        ("000000002", None, "missing_image"),
        ("000000003", None, "missing_image"),
        ("000000004", None, "missing_image"),
    ]


@pytest.mark.parametrize(
    "captions",
    [
        pa.array(["x", None, "y"]),
        pa.array(["x", None, "y"], pa.large_string()),
        pa.array(["x", None, "y"], pa.string_view()),
        pa.array(["x", None, "y"]).dictionary_encode(),
        pa.array([b"x", None, b"y"]),
        pa.array([b"x", None, b"y"], pa.large_binary()),
    ],
    ids=lambda array: str(array.type),
)
def test_every_way_to_store_text(folder, captions):
    table, _ = parquet(folder, {"image_path": pa.array(["a.jpg", "b.jpg", "c.jpg"]), "TEXT": captions})
    assert columns(table, "caption", "status") == [("x", "ok"), (None, "missing_caption"), ("y", "ok")]


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (pa.array([1, 2]), ["1", "2"]),
        (pa.array([1.5, float("nan")]), ["1.5", None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_numbers_are_cast_to_text(folder, captions, expected):
    table, _ = parquet(folder, {"png": [b"i", b"j"], "caption": captions, "key": [10, 11]})
    assert columns(table, "key", "caption") == [("10", expected[0]), ("11", expected[1])]


def test_text_that_is_not_utf8_although_parquet_says_so(folder):
    captions = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"ok"]).buffers())
    table, _ = parquet(folder, {"jpg": [b"i", b"j"], "caption": captions, "key": captions})
    assert columns(table, "key", "caption", "caption_bytes", "status") == [
        ("\\xff\\xfe", None, b"\xff\xfe", "caption_not_utf8"),
        ("ok", "ok", None, "ok"),
    ]


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        ({"jpg": [b"i"], "captoin": ["x"]}, {}, [r"t\.parquet", "jpg, captoin", "Did you mean 'captoin'"]),
        ({"jpg": [b"i"], "caption": ["x"]}, {"columns": ColumnNames(caption="alt")}, ["'alt'", r"columns\.caption"]),
        ({"jpg": [b"i"], "caption": ["x"]}, {"columns": ColumnNames(key="uid")}, ["'uid'", r"columns\.key"]),
        ({"jpg": [b"i"], "caption": [["x"]]}, {}, ["'caption' holds list", r"columns\.caption"]),
        ({"image": [5], "caption": ["x"]}, {}, ["'image' holds int64", "image bytes"]),
        ({"image": [{"b": 1}], "caption": ["x"]}, {}, ["'image' holds struct"]),
    ],
)
def test_wrong_columns_are_input_errors(folder, made, options, said):
    with pytest.raises(InputError) as error:
        parquet(folder, made, **options)
    for expected in said:
        assert re.search(expected, str(error.value))


def test_a_later_parquet_file_is_checked_when_indexed(folder):
    pq.write_table(pa.table({"jpg": [b"i"], "caption": ["x"]}), folder / "0.parquet")
    pq.write_table(pa.table({"jpg": [b"i"]}), folder / "1.parquet")
    source = sources_of(folder, "parquet")
    first, second = source.list_shards()
    assert source.index(first).parts
    with pytest.raises(InputError, match=r"1\.parquet"):
        source.index(second)


@pytest.mark.parametrize("row_group_size", [1, 3, 7, 100])
@pytest.mark.parametrize("part_rows", [1, 4, 100])
def test_parquet_cuts_change_nothing(folder, row_group_size, part_rows):
    number = list(range(23))
    content = {
        "jpg": [b"%d" % n for n in number],
        "caption": [f"c{n}" for n in number],
        "key": [n % 9 for n in number],
    }
    whole, _ = parquet(folder, content, row_group_size)
    cut, _ = parquet(folder, content, row_group_size, part_rows=part_rows)
    assert whole.column("image").to_pylist() == content["jpg"]
    assert whole.equals(cut)
    parts = index_all(sources_of(folder / "t.parquet", "parquet", part_rows=part_rows))["t.parquet"].parts
    assert all(part.rows <= part_rows for part in parts)
    assert len({part.checksum for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("sizes", "part_rows", "expected"),
    [
        ([3, 3, 3], 6, [(0, 6), (6, 3)]),
        ([4, 4], 6, [(0, 4), (4, 4)]),
        ([10], 4, [(0, 4), (4, 4), (8, 2)]),
        ([0, 2, 0], 4, [(0, 2)]),
        ([], 4, []),
    ],
)
def test_parquet_parts_follow_row_groups(sizes, part_rows, expected):
    assert list(cut_groups(sizes, part_rows)) == expected


def test_only_the_row_groups_of_a_part_are_read(folder, monkeypatch):
    content = {"jpg": [b"%d" % n for n in range(20)], "caption": ["x"] * 20}
    pq.write_table(pa.table(content), folder / "t.parquet", row_group_size=5)
    source = sources_of(folder / "t.parquet", "parquet", part_rows=5)
    [shard] = source.list_shards()
    parts = source.index(shard).parts
    asked = []
    original = pq.ParquetFile.iter_batches

    def spy(self, *args, row_groups, **kwargs):
        asked.extend(row_groups)
        return original(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert sum(table.num_rows for table in source.read(shard, parts[2], 2)) == 5
    assert asked == [2]


def test_remote_parquet(folder):
    content = {"jpg": [b"%d" % n for n in range(20)], "caption": ["x"] * 20}
    pq.write_table(pa.table(content), folder / "t.parquet", row_group_size=5)
    fsspec.filesystem("memory").pipe("/pq/t.parquet", (folder / "t.parquet").read_bytes())
    local = read_all(sources_of(folder / "t.parquet", "parquet", part_rows=3))
    assert read_all(sources_of("memory://pq/*.parquet", "parquet", part_rows=3)).equals(local)


def test_corrupt_parquet_is_a_shard_error_and_costs_nothing_else(folder):
    write(folder / "0.parquet", b"PAR1 rubbish PAR1")
    write(folder / "1.parquet", b"")
    pq.write_table(pa.table({"jpg": [b"i"], "caption": ["x"]}), folder / "2.parquet")
    source = sources_of(folder, "parquet")
    indices = index_all(source)
    assert [len(index.errors) for index in indices.values()] == [1, 1, 0]
    assert read_all(source).column("status").to_pylist() == ["ok"]


def test_randomly_corrupted_parquet_never_raises(folder):
    content = {
        "jpg": [b"%d" % n * 50 for n in range(60)],
        "caption": [f"c{n}" for n in range(60)],
        "key": list(range(60)),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(content), buffer, row_group_size=20)
    good = buffer.getvalue()
    path = write(folder / "t.parquet", good)
    source = sources_of(path, "parquet", part_rows=7)
    source.list_shards()
    for seed in range(150):
        chance = random.Random(seed)
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(4, len(good) - 8)] = chance.randrange(256)
        if seed % 5 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            [shard] = source.list_shards()
            index = source.index(shard)
        except InputError:  # a column that changed its name
            continue
        read_shard(source, shard, index.parts)


def test_a_failing_store_is_no_corrupt_file(folder, monkeypatch):
    pq.write_table(pa.table({"jpg": [b"i"], "caption": ["x"]}), folder / "t.parquet")
    source = sources_of(folder / "t.parquet", "parquet")
    [shard] = source.list_shards()

    def fail(self, *args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(stores.Window, "hash_into", fail)
    with pytest.raises(CurateError, match="Input/output error"):
        source.index(shard)


def test_changed_paths_in_parquet_change_the_checksum(folder):
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "caption": ["x", "y"]}), folder / "t.parquet")
    source = sources_of(folder / "t.parquet", "parquet", part_rows=1)
    old = index_all(source)["t.parquet"].parts
    write(folder / "b.jpg", b"IMAGE B.JPG")
    new = index_all(source)["t.parquet"].parts
    assert [a.checksum == b.checksum for a, b in zip(old, new, strict=True)] == [True, False]


def test_options_that_make_no_sense():
    with pytest.raises(InputError, match="part_rows"):
        sources_of("x", "csv", part_rows=0)
    with pytest.raises(InputError, match=r"input\.format"):
        sources_of("x", "xlsx")
