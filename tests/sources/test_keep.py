"""Kept fields: what input.keep names comes along as text, whatever is in it, and nothing else changes."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from decimal import Decimal
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.config import parse_config
from curate.errors import CurateError, InputError
from curate.schema import ANNOTATION_SCHEMA, SOURCE_SCHEMA, annotation_table
from curate.sources.arrow_values import json_values
from curate.sources.fields import field_text

from .helpers import columns, index_all, read_all, read_one, sources_of, tar_bytes, write

KEEP = ("category", "language")


def kept(table: pa.Table) -> list[dict[str, str] | None]:
    """Fields of every row as a dict, with each name checked to be there once."""
    rows = table.column("fields").to_pylist()
    found = [None if row is None else {field["name"]: field["value"] for field in row} for row in rows]
    assert [row if row is None else len(row) for row in found] == [row if row is None else len(row) for row in rows]
    return found


def tar_of(folder: Path, *records: bytes | None) -> Path:
    """A shard with one pair for every content of a .json member; None: no such member."""
    members = []
    for number, record in enumerate(records):
        members += [(f"{number}.jpg", b"img"), (f"{number}.txt", b"a dog")]
        members += [] if record is None else [(f"{number}.json", record)]
    return write(folder / "x.tar", tar_bytes(members))


def jsonl_of(folder: Path, *records: dict | bytes) -> Path:
    lines = [
        r if isinstance(r, bytes) else json.dumps({"image": "a.jpg", "caption": "x", **r}).encode() for r in records
    ]
    write(folder / "a.jpg", b"img")
    return write(folder / "t.jsonl", b"".join(line + b"\n" for line in lines))


def csv_of(folder: Path, content: bytes) -> Path:
    write(folder / "a.jpg", b"img")
    return write(folder / "t.csv", content)


def parquet_of(folder: Path, row_group_size=None, name="t.parquet", **content) -> Path:
    rows = len(next(iter(content.values())))
    table = pa.table({"jpg": [b"img"] * rows, "caption": ["x"] * rows, **content})
    pq.write_table(table, folder / name, row_group_size=row_group_size)
    return folder / name


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it came\n\0", "as it came\n\0"),
        ("", ""),
        ("null", "null"),
        (None, None),
        (7, "7"),
        (-0.5, "-0.5"),
        (1e22, "1e+22"),
        (True, "true"),
        (False, "false"),
        ([], "[]"),
        (["a", 1, None, "é"], '["a", 1, null, "é"]'),
        ({"b": 1, "a": {"d": 2, "c": 3}}, '{"a": {"c": 3, "d": 2}, "b": 1}'),
        (math.nan, None),
        (-math.inf, None),
        ({"x": [1.5, math.nan, math.inf]}, '{"x": [1.5, null, null]}'),
        ("lone \ud800", "lone \\xed\\xa0\\x80"),
        ("not UTF-8 \udcff", "not UTF-8 \\xff"),
        (["lone \ud800 é"], '["lone \\ud800 \\u00e9"]'),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
    ],
)
def test_values_become_text(value, text):
    assert field_text(value) == text


def test_what_is_nested_too_deeply_is_null():
    deep: list = []
    for _ in range(200_000):
        deep = [deep]
    assert field_text(deep) is None
    while deep:  # freeing it all at once is deep too
        deep = deep[0]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def expected_text(text: str | None) -> object:
    """What is left of a JSON text when NaN and infinities count as null."""
    return None if text is None else json.loads(text, parse_constant=lambda name: None)


@settings(max_examples=300, deadline=None)
@given(JSON_VALUES)
def test_any_json_value_comes_back_from_its_text(value):
    text = field_text(value)
    assert text is None or text == text.encode().decode()
    if isinstance(value, str):
        assert text == value.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
        return
    assert expected_text(text) == expected_text(json.dumps(value))
    read = json.loads(text or "null")
    assert text is None or text in [json.dumps(read, sort_keys=True, ensure_ascii=each) for each in (True, False)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*KEEP, "other"]), JSON_VALUES), min_size=1, max_size=5))
def test_odd_values_come_through_tars_and_jsonl_alike(records):
    expected = []
    for record in records:
        texts = {name: field_text(record.get(name)) for name in KEEP}
        expected.append({name: text for name, text in texts.items() if text is not None})
    with tempfile.TemporaryDirectory() as name:
        tar, _ = read_one(tar_of(Path(name), *(json.dumps(record).encode() for record in records)), keep=KEEP)
        first = dict.fromkeys(KEEP)
        jsonl, _ = read_one(jsonl_of(Path(name), first, *records), "jsonl", keep=KEEP)
    assert kept(tar) == expected
    assert kept(jsonl) == [{}, *expected]


# --- webdataset -------------------------------------------------------------------------------------------------


def test_fields_of_the_json_member(tmp_path):
    path = tar_of(
        tmp_path,
        b'{"language": "de", "category": "Tiere", "other": 1}',
        b'{"category": null, "language": ["de", "en"]}',
        b'{"nested": {"category": "no top-level field"}}',
        None,
        b"{broken",
        b'["category"]',
        b"[" * 100_000,
        b'{"category": "\xff"}',
    )
    table, errors = read_one(path, keep=KEEP)
    assert not errors
    assert kept(table) == [
        {"category": "Tiere", "language": "de"},
        {"language": '["de", "en"]'},
        *[{}] * 5,
        {"category": "\\xff"},
    ]
    assert columns(table, "caption", "status") == [("a dog", "ok")] * 8


def test_the_order_is_that_of_keep(tmp_path):
    path = tar_of(tmp_path, b'{"a": 1, "b": 2, "c": 3}')
    for keep in (("c", "a", "b"), ("b", "c", "a")):
        [row] = read_one(path, keep=keep)[0].column("fields").to_pylist()
        assert tuple(field["name"] for field in row) == keep


@pytest.mark.parametrize("file_format", ["webdataset", "jsonl", "csv", "parquet"])
def test_without_keep_the_column_is_null(tmp_path, file_format):
    assert kept(read_all(sources_of(any_input(tmp_path, file_format), file_format))) == [None] * 6


def test_a_json_member_that_is_too_large_gives_no_fields(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.sources.webdataset.MAX_TEXT_BYTES", 20)
    path = tar_of(tmp_path, b'{"category": "' + b"x" * 20 + b'"}', b'{"category": 1}')
    assert kept(read_one(path, keep=KEEP)[0]) == [{}, {"category": "1"}]


def test_json_members_are_parsed_only_if_something_is_taken_from_them_and_then_once(tmp_path, monkeypatch):
    from curate.sources import webdataset

    parsed = []
    parse = webdataset.parse_json_object
    monkeypatch.setattr(webdataset, "parse_json_object", lambda raw: parsed.append(raw) or parse(raw))
    path = tar_of(tmp_path, b'{"caption": "from json", "category": "c"}')
    for options, times in [({}, 0), ({"caption_json_key": "caption"}, 1), ({"keep": KEEP}, 1)]:
        parsed.clear()
        read_one(path, **options)
        assert len(parsed) == times
    parsed.clear()
    table, _ = read_one(path, keep=KEEP, caption_json_key="caption")
    assert (kept(table), table.column("caption").to_pylist()) == ([{"category": "c"}], ["from json"])
    assert len(parsed) == 1


# --- tables -----------------------------------------------------------------------------------------------------


def test_jsonl_fields(tmp_path):
    path = jsonl_of(
        tmp_path,
        {"category": "c", "language": 3},
        {"category": None},
        b"{broken",
        b'{"image": "a.jpg", "caption": "x", "category": "\xff"}',
        {"category": {"b": True, "a": []}},
    )
    table, _ = read_one(path, "jsonl", keep=KEEP)
    assert kept(table) == [
        {"category": "c", "language": "3"},
        {},
        {},
        {"category": "\\xff"},
        {"category": '{"a": [], "b": true}'},
    ]
    assert table.column("status").to_pylist() == ["ok", "ok", "unreadable_row", "ok", "ok"]


def test_csv_fields_are_the_cells_as_they_came(tmp_path):
    path = csv_of(
        tmp_path,
        b"language,image,caption,category\n"
        b"de,a.jpg,x,Tiere\n"
        b',a.jpg,x,"two\nlines, 1.50"\n'
        b"too,few\n"
        b'de,a.jpg,x,"never closed\n'
        b"caf\xe9,a.jpg,x,null\n",
    )
    table, _ = read_one(path, "csv", keep=KEEP)
    assert kept(table) == [
        {"category": "Tiere", "language": "de"},
        {"category": "two\nlines, 1.50", "language": ""},
        {},
        {},
        {"category": "null", "language": "caf\\xe9"},
    ]
    assert table.column("status").to_pylist() == ["ok", "ok", "unreadable_row", "unreadable_row", "ok"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array(["x", None, ""]), ["x", None, ""]),
        (pa.array(["x", None, ""], pa.large_string()), ["x", None, ""]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([b"caf\xc3\xa9", None, b"\xff"]), ["café", None, "\\xff"]),
        (pa.array([1, None, -3], pa.int8()), ["1", None, "-3"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([0.1, None, math.nan]), ["0.1", None, None]),
        (pa.array([0.5, None], pa.float32()).cast(pa.float16()), ["0.5", None]),
        (pa.array([True, None]), ["true", None]),
        (pa.nulls(2), [None, None]),
        (pa.array([Decimal("1.50"), None]), ["1.50", None]),
        (pa.array([0, None], pa.date32()), ["1970-01-01", None]),
        (pa.array([1_500_000], pa.timestamp("us")), ["1970-01-01 00:00:01.500000"]),
        (pa.array([0, None], pa.timestamp("us", "Europe/Berlin")), ["1970-01-01 00:00:00.000000Z", None]),
        (pa.array([0], pa.timestamp("us", "No/Where")), ["1970-01-01 00:00:00.000000Z"]),
        (pa.array([2**62], pa.timestamp("us")), ["<value out of range: 4611686018427387904>"]),
        (pa.array([61], pa.time32("s")), ["00:01:01.000"]),
        (pa.array([5], pa.duration("us")), ["5"]),
        (pa.array([["a", None], None, []]), ['["a", null]', None, "[]"]),
        (pa.array([[1.5, math.nan]], pa.list_(pa.float32(), 2)), ["[1.5, null]"]),
        (pa.array([[[b"\xff"]], [None]], pa.large_list(pa.list_(pa.binary()))), ['[["\\\\xff"]]', "[null]"]),
        (pa.array([{"b": 1, "a": "x"}, None, {"b": None}]), ['{"a": "x", "b": 1}', None, '{"a": null, "b": null}']),
        (
            pa.array([[("k", 1), ("a", None)], None, []], pa.map_(pa.string(), pa.int32())),
            ['{"a": null, "k": 1}', None, "{}"],
        ),
        (pa.array([[(2, "x"), (1, "y")]], pa.map_(pa.int32(), pa.string())), ['{"1": "y", "2": "x"}']),
        (pa.array([[{"t": 0, "s": "é"}]], pa.list_(pa.struct([("t", pa.date32()), ("s", pa.string())]))), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_parquet_columns_of_every_type(tmp_path, values, texts):
    texts = ['[{"s": "é", "t": "1970-01-01"}]'] if texts is None else texts
    table, _ = read_one(parquet_of(tmp_path, category=values), "parquet", keep=("category",))
    assert kept(table) == [{} if text is None else {"category": text} for text in texts]


def test_a_slice_of_nested_values_is_its_own_rows():
    values = pa.array([{"a": [n], "b": {"c": n}} if n % 3 else None for n in range(9)])
    assert json_values(values.slice(4, 4)) == values.slice(4, 4).to_pylist()
    maps = pa.array([[("k", n)] for n in range(5)], pa.map_(pa.string(), pa.int8()))
    assert json_values(maps.slice(3)) == [{"k": 3}, {"k": 4}]


def test_text_that_is_not_utf8_although_parquet_says_so(tmp_path):
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"ok"]).buffers())
    path = parquet_of(tmp_path, category=words, language=pa.ListArray.from_arrays([0, 1, 2], words))
    assert kept(read_one(path, "parquet", keep=KEEP)[0]) == [
        {"category": "\\xff\\xfe", "language": '["\\\\xff\\\\xfe"]'},
        {"category": "ok", "language": '["ok"]'},
    ]


def test_parquet_columns_of_one_name_and_names_with_dots(tmp_path):
    names = ["jpg", "caption", "c", "c", "a.b", "a"]
    arrays = [[b"i"], ["x"], ["first"], ["second"], ["dotted"], [{"b": "inside", "c": 1}]]
    pq.write_table(pa.Table.from_arrays([pa.array(a) for a in arrays], names), tmp_path / "t.parquet")
    table, _ = read_one(tmp_path / "t.parquet", "parquet", keep=("c", "a.b", "a"))
    assert kept(table) == [{"c": "first", "a.b": "dotted", "a": '{"b": "inside", "c": 1}'}]


def test_columns_that_are_used_otherwise_can_be_kept_too(tmp_path):
    path = jsonl_of(tmp_path, {"key": 5})
    assert kept(read_one(path, "jsonl", keep=("key", "caption"))[0]) == [{"key": "5", "caption": "x"}]
    path = parquet_of(tmp_path, key=[5])
    assert kept(read_one(path, "parquet", keep=("key", "caption"))[0]) == [{"key": "5", "caption": "x"}]


# --- columns that are not there ---------------------------------------------------------------------------------


def two_tables(folder: Path, file_format: str, first: str, second: str) -> Path:
    """Two files, each with one more column, of the given names."""
    write(folder / "a.jpg", b"img")
    for number, name in enumerate((first, second)):
        path = folder / f"{number}.{file_format}"
        if file_format == "jsonl":
            write(path, json.dumps({"image": "a.jpg", "caption": "x", name: "v"}).encode() + b"\n")
        elif file_format == "csv":
            write(path, f"image,caption,{name}\na.jpg,x,v\n".encode())
        else:
            parquet_of(folder, name=path.name, **{name: ["v"]})
    return folder


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_a_column_that_no_table_has_is_an_input_error(tmp_path, file_format):
    source = sources_of(two_tables(tmp_path, file_format, "langauge", "b"), file_format, keep=("b", "language"))
    with pytest.raises(InputError) as error:
        source.list_shards()
    for part in (f"0.{file_format} (and 1 more)", "'language'", "caption, langauge", "Did you mean 'langauge'?"):
        assert part in str(error.value)
    assert "input.keep" in str(error.value)


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_a_column_that_some_table_has_is_null_in_the_others(tmp_path, file_format):
    source = sources_of(two_tables(tmp_path, file_format, "a", "b"), file_format, keep=("a", "b"))
    assert kept(read_all(source)) == [{"a": "v"}, {"b": "v"}]


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_tables_that_cannot_be_read_have_no_columns_to_miss(tmp_path, file_format):
    write(tmp_path / f"0.{file_format}", b"\x1f\x8b not a table")
    source = sources_of(tmp_path, file_format, keep=KEEP)
    assert [len(index.errors) for index in index_all(source).values()] == [1]
    two_tables(tmp_path / "more", file_format, "category", "language")
    assert kept(read_all(source)) == [{"category": "v"}, {"language": "v"}]


def test_a_rare_jsonl_field_is_found_far_behind_the_beginning(tmp_path):
    path = jsonl_of(tmp_path, *[{}] * 1500, {"category": "rare"})
    table, _ = read_one(path, "jsonl", keep=("category",))
    assert kept(table) == [*[{}] * 1500, {"category": "rare"}]
    with pytest.raises(InputError, match=r"'language'.*columns are: image, caption\."):
        read_one(path, "jsonl", keep=("category", "language"))


def test_a_field_that_no_tar_has_is_null(tmp_path):
    assert kept(read_one(tar_of(tmp_path, b'{"a": 1}'), keep=("nowhere",))[0]) == [{}]


# --- nothing else changes ---------------------------------------------------------------------------------------


def any_input(folder: Path, file_format: str) -> Path:
    """Six pairs with fields that differ from row to row."""
    values = ["a", None, "", "x\0é", "5", "a"]
    records = [{"category": value, "language": number} for number, value in enumerate(values)]
    if file_format == "webdataset":
        return tar_of(folder, *(json.dumps(record).encode() for record in records))
    if file_format == "jsonl":
        return jsonl_of(folder, *records)
    if file_format == "csv":
        return csv_of(folder, b"image,caption,category,language\n" + b"".join(b"a.jpg,x,%d,y\n" % n for n in range(6)))
    return parquet_of(folder, 4, category=values, language=list(range(6)))


@pytest.mark.parametrize("file_format", ["webdataset", "jsonl", "csv", "parquet"])
def test_keeping_fields_changes_no_part_and_no_other_column(tmp_path, file_format):
    path = any_input(tmp_path, file_format)
    for part_rows in (1, 4, 100):
        plain = sources_of(path, file_format, part_rows=part_rows)
        keeping = sources_of(path, file_format, part_rows=part_rows, keep=KEEP)
        assert index_all(plain) == index_all(keeping)
        assert plain.list_shards() == keeping.list_shards()
        without, with_fields = read_all(plain), read_all(keeping)
        assert with_fields.drop_columns("fields").equals(without.drop_columns("fields"))
        assert None not in kept(with_fields)


@pytest.mark.parametrize("file_format", ["webdataset", "jsonl", "csv", "parquet"])
def test_cuts_and_batches_change_no_field(tmp_path, file_format):
    path = any_input(tmp_path, file_format)
    whole = read_all(sources_of(path, file_format, keep=KEEP), batch_rows=100)
    for part_rows, batch_rows in [(1, 1), (4, 1), (4, 3), (100, 2)]:
        cut = read_all(sources_of(path, file_format, part_rows=part_rows, keep=KEEP), batch_rows)
        assert cut.column("fields").combine_chunks().equals(whole.column("fields").combine_chunks())


def test_a_changed_field_changes_the_checksum(tmp_path):
    seen = {
        index_all(sources_of(tar_of(tmp_path, b'{"category": "%s"}' % value), keep=KEEP))["x.tar"].parts[0].checksum
        for value in (b"a", b"b")
    }
    assert len(seen) == 2


# --- damage -----------------------------------------------------------------------------------------------------


def damaged_parquet(folder: Path) -> Path:
    """3,000 pairs in row groups of 1,000; `category` of the second group has a page that cannot be decoded."""
    words = [f"word {number:06d}" for number in range(3000)]
    table = pa.table({"jpg": [b"img"] * 3000, "caption": ["x"] * 3000, "category": words, "language": words})
    path = folder / "t.parquet"
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False, data_page_size=4000)
    content = bytearray(path.read_bytes())
    place = content.index(b"word 001500") - 4  # the length before the text
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    return path


def test_a_damaged_column_costs_its_fields_to_the_end_of_the_row_group_and_no_pair(tmp_path, caplog):
    path = damaged_parquet(tmp_path)
    with caplog.at_level(logging.WARNING):
        table, errors = read_one(path, "parquet", keep=KEEP)
    assert not errors
    assert set(table.column("status").to_pylist()) == {"ok"}
    fields = kept(table)
    assert all(row["language"] == f"word {number:06d}" for number, row in enumerate(fields))
    have = [number for number, row in enumerate(fields) if "category" in row]
    lost = sorted(set(range(3000)) - set(have))
    assert lost == list(range(lost[0], 2000))
    assert 1000 < lost[0] <= 1500
    assert "t.parquet: column 'category' is null from row" in caplog.text
    for part_rows, batch_rows in [(100, 7), (700, 1000), (50, 1)]:
        cut = read_all(sources_of(path, "parquet", part_rows=part_rows, keep=KEEP), batch_rows)
        assert kept(cut) == fields


def test_a_failing_store_is_no_damaged_column(tmp_path, monkeypatch):
    content = {"category": ["a kept word"] * 5, "jpg": [b"i" * 100_000] * 5, "caption": ["x"] * 5}
    pq.write_table(pa.table(content), tmp_path / "t.parquet", compression="none", use_dictionary=False)
    store = fsspec.filesystem("memory")
    store.pipe("/keep/t.parquet", (tmp_path / "t.parquet").read_bytes())
    place = (tmp_path / "t.parquet").read_bytes().index(b"a kept word")
    source = sources_of("memory://keep", "parquet", keep=("category",))
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    assert kept(pa.concat_tables(source.read(shard, part, 10))) == [{"category": "a kept word"}] * 5
    read = type(store).cat_file

    def fail_in_the_kept_column(self, path, start=None, end=None, **options):
        if (start or 0) <= place < (place + 1 if end is None else end):
            raise OSError("the connection was reset")
        return read(self, path, start=start, end=end, **options)

    monkeypatch.setattr(type(store), "cat_file", fail_in_the_kept_column)
    with pytest.raises(CurateError, match=r"cannot read .*keep/t\.parquet: OSError: the connection was reset"):
        list(source.read(shard, part, 10))


# --- representation ---------------------------------------------------------------------------------------------


def test_fields_survive_parquet_pandas_and_the_annotations(tmp_path):
    table = read_all(sources_of(any_input(tmp_path, "webdataset"), keep=KEEP))
    table = pa.concat_tables([table, read_all(sources_of(any_input(tmp_path, "webdataset")))])
    pq.write_table(table, tmp_path / "embed.parquet")
    back = pq.read_table(tmp_path / "embed.parquet")
    assert back.schema.equals(SOURCE_SCHEMA)
    assert back.equals(table)
    assert back.take(pa.array([7, 3])).column("fields").to_pylist() == [
        None,
        [{"name": "category", "value": "x\0é"}, {"name": "language", "value": "3"}],
    ]
    annotated = annotation_table(back)
    assert annotated.schema.equals(ANNOTATION_SCHEMA)
    assert kept(annotated) == kept(table)
    pq.write_table(annotated, tmp_path / "annotations.parquet")
    frame = pd.read_parquet(tmp_path / "annotations.parquet")
    assert {field["name"]: field["value"] for field in frame.fields[3]} == {"category": "x\0é", "language": "3"}
    assert frame.fields[7] is None
    frame.to_parquet(tmp_path / "pandas.parquet")
    assert kept(pq.read_table(tmp_path / "pandas.parquet")) == kept(table)


# --- the pipeline file ------------------------------------------------------------------------------------------


def config_of(keep: str):
    return parse_config(f"input: {{path: a.tar, keep: {keep}}}\noutput: out\nstages: [embed]\n", "p.yaml")


def test_keep_in_the_pipeline_file():
    assert config_of("[category, language]").input.keep == ["category", "language"]
    assert parse_config("input: {path: a.tar}\noutput: out\nstages: [embed]\n", "p.yaml").input.keep == []


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ("[a, b, a]", "p.yaml:1: input.keep: named twice: a"),
        ("[a, '']", "p.yaml:1: input.keep: a name is empty"),
        ("[a, 5]", "p.yaml:1: input.keep.1: input should be a valid string"),
        ("category", "p.yaml:1: input.keep: input should be a valid list"),
    ],
)
def test_mistakes_in_keep_are_named_with_their_line(keep, said):
    with pytest.raises(InputError) as error:
        config_of(keep)
    assert said in str(error.value)
