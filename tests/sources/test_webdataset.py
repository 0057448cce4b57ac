"""Tars: one row per sample, whatever the order, the cuts and the damage."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import CurateError
from curate.schema import Status
from curate.sources import stores
from curate.sources.options import SourceLimits
from curate.sources.stores import Window
from curate.sources.tar import Damage, Member, scan_tar
from curate.sources.webdataset import Sample, cut_samples, first_members, group_samples, split_name

from .helpers import columns, index_all, read_one, read_shard, sources_of, tar_bytes, write

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def read_tar(content: bytes, **options):
    with tempfile.TemporaryDirectory() as folder:
        return read_one(write(Path(folder) / "x.tar", content), **options)


def pair(key: str, image: bytes = b"img", caption: bytes = b"a dog") -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", image), (f"{key}.txt", caption)]


# --- what a sample is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001.jpg", ("0001", "jpg")),
        ("a/b/0001.JPG", ("a/b/0001", "jpg")),
        ("a.b/0001.seg.png", ("a.b/0001", "seg.png")),
        ("./0001.txt", ("./0001", "txt")),
        ("README", None),
        ("a/._0001.jpg", None),
        ("0001.", None),
    ],
)
def test_keys_follow_the_webdataset_rule(name, expected):
    assert split_name(name) == expected


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "JPG", "Png"])
def test_image_extensions(extension):
    table, _ = read_tar(tar_bytes([(f"d/k.{extension}", b"img"), ("d/k.TXT", b"hi")]))
    assert columns(table, "key", "caption", "image", "status") == [("d/k", "hi", b"img", "ok")]


def test_statuses():
    members = [
        *pair("ok"),
        ("no_image.txt", b"x"),
        ("no_caption.jpg", b"img"),
        *pair("empty", caption=b""),
        *pair("white", caption=b" \n\t"),
        *pair("bytes", caption=b"caf\xe9"),
        *pair("long", caption=b"x" * 100_000),
        *pair("nul", caption=b"a\0b\x07\n"),
        *pair("no_bytes", image=b""),
        ("neither.json", b"{}"),
        ("bytes_without_image.txt", b"\xff"),
    ]
    table, errors = read_tar(tar_bytes(members))
    assert not errors
    assert columns(table, "key", "status", "caption", "caption_bytes") == [
        ("ok", "ok", "a dog", None),
        ("no_image", "missing_image", "x", None),
        ("no_caption", "missing_caption", None, None),
        ("empty", "empty_caption", "", None),
        ("white", "empty_caption", " \n\t", None),
        ("bytes", "caption_not_utf8", None, b"caf\xe9"),
        ("long", "ok", "x" * 100_000, None),
        ("nul", "ok", "a\0b\x07\n", None),
        ("no_bytes", "corrupt_image", "a dog", None),
        ("neither", "missing_image", None, None),
        ("bytes_without_image", "missing_image", None, b"\xff"),
    ]


def test_the_caption_comes_from_txt_then_from_json():
    members = [
        ("both.jpg", b"i"),
        ("both.txt", b"from txt"),
        ("both.json", b'{"caption": "from json", "alt": "alt"}'),
        ("json.jpg", b"i"),
        ("json.json", b'{"caption": "from json"}'),
    ]
    table, _ = read_tar(tar_bytes(members))
    assert table.column("caption").to_pylist() == ["from txt", "from json"]
    table, _ = read_tar(tar_bytes(members), caption_json_key="alt")
    assert columns(table, "caption", "status") == [("alt", "ok"), (None, "missing_caption")]


@pytest.mark.parametrize(
    ("content", "caption", "raw", "status"),
    [
        (b'{"caption": "x"}', "x", None, "ok"),
        (b'\xef\xbb\xbf{"caption": "x"}', "x", None, "ok"),
        (b'{"caption": 7}', "7", None, "ok"),
        (b'{"caption": ""}', "", None, "empty_caption"),
        (b'{"caption": "\xff"}', None, b"\xff", "caption_not_utf8"),
        (b'{"caption": "\\ud800"}', None, b"\xed\xa0\x80", "caption_not_utf8"),
        (b'{"caption": null}', None, None, "missing_caption"),
        (b'{"caption": NaN}', None, None, "missing_caption"),
        (b'{"caption": true}', None, None, "missing_caption"),
        (b'{"caption": ["x"]}', None, None, "missing_caption"),
        (b'{"other": "x"}', None, None, "missing_caption"),
        (b'["x"]', None, None, "missing_caption"),
        (b"{", None, None, "missing_caption"),
        (b"", None, None, "missing_caption"),
        (b"[" * 100_000, None, None, "missing_caption"),
        (b'{"caption": ' + b"9" * 5000 + b"}", None, None, "missing_caption"),
    ],
)
def test_captions_in_json(content, caption, raw, status):
    table, _ = read_tar(tar_bytes([("k.jpg", b"i"), ("k.json", content)]))
    assert columns(table, "caption", "caption_bytes", "status") == [(caption, raw, status)]


def test_a_broken_json_does_not_matter_beside_a_txt():
    table, _ = read_tar(tar_bytes([*pair("k"), ("k.json", b"{")]))
    assert columns(table, "caption", "status") == [("a dog", "ok")]


def test_duplicate_keys_keep_both_rows_and_are_marked_in_every_part():
    members = [*pair("a", b"1"), *pair("b", b"2"), *pair("a", b"3"), *pair("c", b"4")]
    for part_rows in (1, 10):
        table, _ = read_tar(tar_bytes(members), part_rows=part_rows)
        assert columns(table, "key", "image", "duplicate_key") == [
            ("a", b"1", True),
            ("b", b"2", False),
            ("a", b"3", True),
            ("c", b"4", False),
        ]


def test_what_is_no_file_or_of_no_sample_is_ignored():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name, content in [("README.md", b"x"), ("d/._a.jpg", b"x"), ("a.cls", b"1"), *pair("a")]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    table, errors = read_tar(buffer.getvalue())
    assert table.column("key").to_pylist() == ["a"]
    assert not errors


def test_names_with_more_dots_are_not_lost_silently():
    _, errors = read_tar(tar_bytes([*pair("a"), ("b.v2.jpg", b"x"), ("b.v2.txt", b"x"), ("c.v2.jpg", b"x")]))
    assert len(errors) == 1
    assert "2 names such as 'b.v2.jpg'" in errors[0].error
    _, errors = read_tar(tar_bytes([*pair("a"), ("a.seg.png", b"x")]))
    assert not errors
    _, errors = read_tar(tar_bytes([("a.npy", b"x")]))
    assert "'a.npy'" in errors[0].error


# --- order, interleaving, cuts ----------------------------------------------------------------------------------


@st.composite
def shuffled_samples(draw):
    """Samples, and their members in an order that keeps samples of one key apart, else any order."""
    keys = st.sampled_from(["a", "b", "dir/a", "ü" * 70, "x" * 120, "d/" * 60 + "k"])
    slots = st.lists(st.sampled_from(["image", "txt", "json"]), min_size=1, max_size=3, unique=True)
    last_slots: dict[str, list[str]] = {}
    queues: dict[str, list[tuple[int, str]]] = {}
    samples = []
    for key, order in draw(st.lists(st.tuples(keys, slots), max_size=12)):
        previous = last_slots.get(key)
        shared = [slot for slot in order if previous is None or slot in previous]
        if not shared:
            continue
        order = [shared[0], *(slot for slot in order if slot != shared[0])]
        last_slots[key] = order
        queues.setdefault(key, []).extend((len(samples), slot) for slot in order)
        samples.append((key, order))
    sequence = []
    while queues:
        key = draw(st.sampled_from(sorted(queues)))
        sequence.append(queues[key].pop(0))
        if not queues[key]:
            del queues[key]
    return samples, sequence


def expected_rows(samples, sequence):
    rows = []
    for number in dict.fromkeys(number for number, _ in sequence):
        key, slots = samples[number]
        caption = f"txt {number}" if "txt" in slots else f"json {number}" if "json" in slots else None
        image = b"image %d" % number if "image" in slots else None
        status = "missing_image" if image is None else "missing_caption" if caption is None else "ok"
        duplicate = sum(other == key for other, _ in samples) > 1
        rows.append((key, image, caption, status, duplicate))
    return rows


def member_of(samples, number, slot):
    key = samples[number][0]
    name = {"image": "PNG", "txt": "txt", "json": "json"}[slot]
    content = {"image": b"image %d" % number, "txt": b"txt %d" % number}
    return f"{key}.{name}", content.get(slot, json.dumps({"caption": f"json {number}"}).encode())


@settings(max_examples=150, deadline=None)
@given(shuffled_samples(), st.integers(1, 5), st.integers(1, 4), st.sampled_from(FORMATS[1:]))
def test_one_row_per_sample_in_any_order_and_cut(case, part_rows, batch_rows, tar_format):
    samples, sequence = case
    content = tar_bytes([member_of(samples, *step) for step in sequence], tar_format)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.tar", content)
        whole, errors = read_one(path)
        source = sources_of(path, part_rows=part_rows)
        [shard] = source.list_shards()
        parts = source.index(shard).parts
        cut = read_shard(source, shard, parts, batch_rows)
    assert not errors
    assert columns(whole, "key", "image", "caption", "status", "duplicate_key") == expected_rows(samples, sequence)
    assert cut.equals(whole)
    assert [part.rows for part in parts] == [end for _, end in expected_cuts(samples, sequence, part_rows)]


def expected_cuts(samples, sequence, part_rows):
    """The greedy cuts, by trying every row: a cut is allowed if no sample lies on both sides of it."""
    order = list(dict.fromkeys(number for number, _ in sequence))
    first_seen = {number: min(i for i, (n, _) in enumerate(sequence) if n == number) for number in order}
    last_seen = {number: max(i for i, (n, _) in enumerate(sequence) if n == number) for number in order}
    allowed = [
        row
        for row in range(1, len(order) + 1)
        if row == len(order) or all(last_seen[before] < first_seen[order[row]] for before in order[:row])
    ]
    first = 0
    while first < len(order):
        fitting = [row for row in allowed if first < row <= first + part_rows]
        end = fitting[-1] if fitting else next(row for row in allowed if row > first)
        yield first, end - first
        first = end


def test_parts_are_full_where_samples_are_contiguous(tmp_path):
    path = write(tmp_path / "x.tar", tar_bytes([member for key in range(10) for member in pair(f"{key}")]))
    assert [part.rows for part in index_all(sources_of(path, part_rows=4))["x.tar"].parts] == [4, 4, 2]


def test_a_part_grows_over_interleaved_samples(tmp_path):
    images = [(f"{key}.jpg", b"i") for key in range(6)]
    texts = [(f"{key}.txt", b"t") for key in range(6)]
    path = write(tmp_path / "x.tar", tar_bytes([*images, *texts, *pair("z")]))
    assert [part.rows for part in index_all(sources_of(path, part_rows=2))["x.tar"].parts] == [6, 1]


def test_cuts_without_samples():
    assert list(cut_samples([], 3)) == []
    assert list(cut_samples([Sample("a", 0, 1024)], 3)) == [(0, 1)]


def test_a_part_is_the_bytes_its_checksum_says(tmp_path):
    path = write(tmp_path / "x.tar", tar_bytes([member for key in range(5) for member in pair(f"{key}")]))
    content = path.read_bytes()
    for part in index_all(sources_of(path, part_rows=2))["x.tar"].parts:
        digest = stores.new_checksum()
        digest.update(content[part.start : part.end])
        assert digest.hexdigest() == part.checksum


def test_a_change_in_one_part_leaves_the_checksums_of_the_others(tmp_path):
    members = [member for key in range(4) for member in pair(f"{key}")]
    before = index_all(sources_of(write(tmp_path / "x.tar", tar_bytes(members)), part_rows=1))["x.tar"].parts
    members[2] = ("1.jpg", b"IMG")
    after = index_all(sources_of(write(tmp_path / "x.tar", tar_bytes(members)), part_rows=1))["x.tar"].parts
    assert [old.checksum == new.checksum for old, new in zip(before, after, strict=True)] == [True, False, True, True]


def test_an_empty_tar_has_no_rows_and_no_errors():
    table, errors = read_tar(tar_bytes([]))
    assert table.num_rows == 0
    assert not errors


# --- damage -----------------------------------------------------------------------------------------------------


def sample_tar(tar_format, keys=4):
    names = [*(f"{number:03d}" for number in range(keys - 1)), "long/" * 30 + "ü"]
    if tar_format == tarfile.USTAR_FORMAT:
        names[-1] = "long/" * 30 + "u"
    return names, tar_bytes(
        [member for number, name in enumerate(names) for member in pair(name, b"%03d" % number * 300)], tar_format
    )


def member_ends(content: bytes) -> list[int]:
    ends = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            ends.append(member.offset_data + member.size)
    return ends


@pytest.mark.parametrize("tar_format", FORMATS)
def test_a_tar_cut_anywhere_keeps_all_before_the_cut(tar_format):
    names, content = sample_tar(tar_format)
    ends = member_ends(content)
    for cut in range(0, len(content), 97):
        table, errors = read_tar(content[:cut], part_rows=2)
        whole = sum(end <= cut for end in ends)
        rows = columns(table, "key", "image", "caption", "status")
        complete = [(name, b"%03d" % n * 300, "a dog", "ok") for n, name in enumerate(names)][: whole // 2]
        assert rows[: len(complete)] == complete
        assert all(status in ("missing_image", "missing_caption") for *_, status in rows[len(complete) :])
        assert len(rows) - len(complete) <= 1
        assert all(error.offset <= cut for error in errors)
        if cut <= ends[-1]:
            assert errors
            assert all(error.error for error in errors)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tar_cut_at_any_byte_never_raises(data):
    _, content = sample_tar(data.draw(st.sampled_from(FORMATS)))
    cut = data.draw(st.integers(0, len(content)))
    whole, _ = read_tar(content[:cut])
    parts, _ = read_tar(content[:cut], part_rows=1)
    assert whole.equals(parts)


def test_a_truncated_image_is_not_used(tmp_path):
    content = tar_bytes([*pair("a"), ("b.txt", b"hi"), ("b.jpg", b"0123456789" * 100)])
    cut = content.index(b"0123456789") + 600
    table, errors = read_tar(content[:cut])
    assert columns(table, "key", "status", "image", "caption") == [
        ("a", "ok", b"img", "a dog"),
        ("b", "missing_image", None, "hi"),
    ]
    assert "ends inside" in table.column("error")[1].as_py()
    assert [(error.shard, error.offset) for error in errors] == [("x.tar", content.index(b"b.jpg"))]
    assert "'b.jpg' (600 of 1,000 bytes are there)" in errors[0].error


def test_a_truncated_txt_leaves_the_json_caption():
    members = [("a.jpg", b"i"), ("a.json", b'{"caption": "j"}'), ("a.txt", b"t" * 600)]
    content = tar_bytes(members)
    table, _ = read_tar(content[: content.index(b"tttt") + 10])
    assert columns(table, "caption", "status") == [("j", "ok")]


def test_a_tar_cut_between_members_is_said_too():
    content = tar_bytes([*pair("a"), *pair("b")])
    table, errors = read_tar(content[: content.index(b"b.jpg")])
    assert table.column("status").to_pylist() == ["ok"]
    assert "no end marker" in errors[0].error


def test_after_a_corrupt_header_reading_goes_on_at_the_next():
    content = bytearray(tar_bytes([*pair("a"), *pair("b", b"x" * 2000), *pair("c")]))
    header = content.index(b"b.jpg")
    content[header + 130] ^= 0xFF
    for part_rows in (1, 9):
        table, errors = read_tar(bytes(content), part_rows=part_rows)
        assert columns(table, "key", "status") == [("a", "ok"), ("b", "missing_image"), ("c", "ok")]
        assert [error.offset for error in errors] == [header]
        assert "2,560 bytes are passed over" in errors[0].error


def test_a_corrupt_first_header_does_not_cost_the_rest():
    content = bytearray(tar_bytes([*pair("a"), *pair("b")]))
    content[3] ^= 0xFF
    table, errors = read_tar(bytes(content))
    assert columns(table, "key", "status") == [("a", "missing_image"), ("b", "ok")]
    assert len(errors) == 1


@pytest.mark.parametrize("tar_format", FORMATS)
def test_random_corruption_never_raises(tar_format):
    _, content = sample_tar(tar_format)

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=700)), max_size=4))
    def check(patches):
        damaged = bytearray(content)
        for position, patch in patches:
            damaged[position : position + len(patch)] = patch
        whole, errors = read_tar(bytes(damaged))
        cut, cut_errors = read_tar(bytes(damaged), part_rows=1)
        assert whole.equals(cut)
        assert errors == cut_errors

    check()


def with_checksums(content: bytes) -> bytes:
    """The tar with the right checksum in every block that looks like a header."""
    mended = bytearray(content)
    for start in range(0, len(mended) - 511, 512):
        if mended[start + 257 : start + 262] == b"ustar":
            mended[start + 148 : start + 156] = b" " * 8
            mended[start + 148 : start + 156] = b"%06o\0 " % sum(mended[start : start + 512])
    return bytes(mended)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=8))
def test_mad_headers_with_right_checksums_never_raise_and_lose_no_row_to_a_cut(changes):
    damaged = bytearray(tar_bytes([*pair("a"), *pair("b"), *pair("a")], tarfile.GNU_FORMAT))
    for block, offset, value in changes:
        damaged[512 * block + offset] = value
    content = with_checksums(bytes(damaged))
    whole, errors = read_tar(content)
    cut, cut_errors = read_tar(content, part_rows=1)
    assert whole.equals(cut)
    assert errors == cut_errors


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=3000))
@example(b"")
@example(b"\0" * 700)
def test_random_bytes_are_no_tar(content):
    table, _ = read_tar(content)
    assert table.num_rows == 0


@pytest.mark.parametrize("field", ["size", "checksum", "type", "name"])
@pytest.mark.parametrize("value", [b"\0", b"\xff", b"\x80", b"7", b" ", b"-", b"x", b"L", b"S", b"g", b"K"])
def test_strange_header_fields_with_a_right_checksum_never_raise(field, value):
    start, length = {"size": (124, 12), "checksum": (148, 8), "type": (156, 1), "name": (0, 100)}[field]
    content = bytearray(tar_bytes([*pair("a"), *pair("b"), *pair("c")]))
    header = content.index(b"b.jpg")
    content[header + start : header + start + length] = (value * length)[:length]
    if field != "checksum":
        content[header + 148 : header + 156] = b" " * 8
        content[header + 148 : header + 156] = b"%06o\0 " % sum(content[header : header + 512])
    table, _ = read_tar(bytes(content))
    assert table.column("key").to_pylist()[0] == "a"
    assert table.column("status").to_pylist()[0] == "ok"


def test_an_empty_file_says_so():
    table, errors = read_tar(b"")
    assert table.num_rows == 0
    assert "0 bytes" in errors[0].error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(tar_bytes(pair("a"))), "gunzip"),
        (b"PK\x03\x04" + b"x" * 1000, "zip"),
        (b"hello world" * 200, "not a tar archive"),
        (b"short", "not a tar archive"),
    ],
)
def test_what_is_not_a_tar_gives_no_rows_and_a_remedy(content, said):
    table, errors = read_tar(content)
    assert table.num_rows == 0
    assert len(errors) == 1
    assert said in errors[0].error


def test_tars_glued_together_are_read_to_the_end():
    table, errors = read_tar(tar_bytes(pair("a")) + tar_bytes(pair("b")))
    assert table.column("key").to_pylist() == ["a", "b"]
    assert not errors


# --- the tar format ---------------------------------------------------------------------------------------------


def scan(content: bytes) -> list[Member | Damage]:
    return list(scan_tar(Window(io.BytesIO(content), 0, len(content), 0)))


@pytest.mark.parametrize("tar_format", FORMATS)
def test_names_agree_with_tarfile(tar_format):
    names = ["a.jpg", "x" * 90 + ".jpg", "d/" * 60 + "k.jpg"]
    if tar_format != tarfile.USTAR_FORMAT:
        names += ["ü" * 80 + ".txt", "y" * 300 + ".json", "d" * 120 + "/é.jpg"]
    content = tar_bytes([(name, name.encode()) for name in names], tar_format)
    members = scan(content)
    assert [member.name for member in members] == names
    assert [content[member.data : member.data + member.size].decode() for member in members] == names


def test_pax_size_and_base_256_size():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size, info.pax_headers = 600, {"size": "600"}
        tar.addfile(info, io.BytesIO(b"p" * 600))
    pax = bytearray(buffer.getvalue())
    header = pax.index(b"a.jpg\0")
    rewrite_size(pax, header, b"%011o\0" % 0)
    assert [(member.size, member.start) for member in scan(bytes(pax))] == [(600, 0)]
    gnu = bytearray(tar_bytes([("a.jpg", b"p" * 600)]))
    rewrite_size(gnu, 0, b"\x80" + (600).to_bytes(11, "big"))
    assert [member.size for member in scan(bytes(gnu))] == [600]


def rewrite_size(content: bytearray, header: int, size: bytes) -> None:
    content[header + 124 : header + 136] = size
    content[header + 148 : header + 156] = b" " * 8
    content[header + 148 : header + 156] = b"%06o\0 " % sum(content[header : header + 512])


def test_a_damaged_pax_header_keeps_the_member():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size, info.mtime = 3, 1.5
        tar.addfile(info, io.BytesIO(b"img"))
    content = buffer.getvalue().replace(b"mtime=1.5\n", b"mtime=1.5x")
    damage, member = scan(content)
    assert (damage.offset, member.name, member.size) == (0, "a.jpg", 3)


def test_global_headers_say_nothing_about_members():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        info = tarfile.TarInfo("a.jpg")
        tar.addfile(info)
    assert [member.name for member in scan(buffer.getvalue())] == ["a.jpg"]


def test_names_that_are_not_utf8_become_keys():
    content = bytearray(tar_bytes([("a.jpg", b"i"), ("a.txt", b"t")]))
    for header in (0, 1024):
        content[header : header + 1] = b"\xff"
        rewrite_size(content, header, bytes(content[header + 124 : header + 136]))
    table, _ = read_tar(bytes(content))
    assert columns(table, "key", "status") == [("\\xff", "ok")]


def test_sparse_members_are_said():
    content = bytearray(tar_bytes([("a.jpg", b"i" * 600), ("a.txt", b"t")], tarfile.GNU_FORMAT))
    content[156:157] = tarfile.GNUTYPE_SPARSE
    rewrite_size(content, 0, bytes(content[124:136]))
    table, errors = read_tar(bytes(content))
    assert columns(table, "caption", "status") == [("t", "missing_image")]
    assert "--sparse" in errors[0].error
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = {"GNU.sparse.major": "1"}
        tar.addfile(info)
    _, errors = read_tar(buffer.getvalue())
    assert "--sparse" in errors[0].error


def test_a_long_name_does_not_pass_to_another_member():
    content = bytearray(tar_bytes([("x" * 200 + ".jpg", b"img"), *pair("b")], tarfile.GNU_FORMAT))
    content[1024 + 3] ^= 0xFF
    table, errors = read_tar(bytes(content))
    assert columns(table, "key", "status") == [("b", "ok")]
    assert [error.offset for error in errors] == [1024]


def test_a_link_has_no_content_whatever_its_size_field_says():
    content = bytearray(tar_bytes([("l.jpg", b""), *pair("a")]))
    content[156:157] = tarfile.LNKTYPE
    rewrite_size(content, 0, b"%011o\0" % 5000)
    table, errors = read_tar(bytes(content))
    assert columns(table, "key", "status") == [("a", "ok")]
    assert not errors


def test_a_long_name_that_cannot_be_one_is_passed_over():
    content = bytearray(tar_bytes([("x.jpg", b""), *pair("a")]))
    content[156:157] = tarfile.GNUTYPE_LONGNAME
    rewrite_size(content, 0, b"%011o\0" % (1 << 30))
    table, errors = read_tar(bytes(content))
    assert columns(table, "key", "status") == [("a", "ok")]
    assert "1,073,741,824 bytes" in errors[0].error


def test_members_are_grouped_without_their_content():
    members = [Member(f"{n // 2}.{'jpg' if n % 2 else 'txt'}", n, n, 1 << 40, n + 1) for n in range(10)]
    samples, damages = group_samples(members)
    assert [sample.key for sample in samples] == list("01234")
    assert not damages


# --- memory, stores, changes ------------------------------------------------------------------------------------


def test_indexing_holds_no_content(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tar", tar_bytes(pair("a", b"x" * (5 << 20))))
    largest = 0
    original = Window.read_at

    def spy(self, offset, size):
        nonlocal largest
        content = original(self, offset, size)
        largest = max(largest, len(content))
        return content

    monkeypatch.setattr(Window, "read_at", spy)
    index_all(sources_of(path))
    assert largest <= stores.CHUNK_BYTES


def test_big_images_split_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.sources.rows.BATCH_BYTES", 1000)
    path = write(tmp_path / "x.tar", tar_bytes([m for key in range(4) for m in pair(f"{key}", b"x" * 600)]))
    source = sources_of(path)
    [shard] = source.list_shards()
    assert [table.num_rows for table in source.read(shard, source.index(shard).parts[0], 100)] == [2, 2]


def test_files_that_are_too_large_are_rows_with_a_status(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.sources.webdataset.MAX_TEXT_BYTES", 10)
    members = [*pair("a", b"x" * 11), *pair("b", caption=b"x" * 11)]
    path = write(tmp_path / "x.tar", tar_bytes(members))
    table, _ = read_one(path, limits=SourceLimits(image_bytes=10))
    assert table.column("status").to_pylist() == ["image_too_large", "missing_caption"]


@pytest.mark.parametrize("fetch_bytes", [100, 1 << 20])
def test_a_remote_store_gives_the_same_rows_and_checksums(tmp_path, monkeypatch, fetch_bytes):
    monkeypatch.setattr(stores, "FETCH_BYTES", fetch_bytes)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    content = tar_bytes([member for key in range(7) for member in pair(f"{key}", b"%d" % key * 700)])
    local = sources_of(write(tmp_path / "in" / "x.tar", content), part_rows=2)
    fsspec.filesystem("memory").pipe("/wds/x.tar", content)
    remote = sources_of("memory://wds/*.tar", part_rows=2)
    [here], [there] = local.list_shards(), remote.list_shards()
    assert (here.name, here.size) == (there.name, there.size)
    assert local.index(here) == remote.index(there)
    parts = local.index(here).parts
    assert read_shard(local, here, parts).equals(read_shard(remote, there, parts))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_changed_and_vanished_shards_are_said(tmp_path, kind):
    root = f"{tmp_path}/in" if kind == "local" else "memory://changing"
    store = fsspec.filesystem("file" if kind == "local" else "memory")
    store.makedirs(root, exist_ok=True)
    path = f"{root}/x.tar"
    store.pipe(path, tar_bytes(pair("a")))
    source = sources_of(path)
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    assert list(source.read(shard, part, 10))
    store.pipe(path, tar_bytes(pair("b")))
    if kind == "local":
        os.utime(path, ns=(1, 1))
    for work in (lambda: next(source.read(shard, part, 10)), lambda: source.index(shard)):
        with pytest.raises(CurateError, match="changed while running: run again"):
            work()
    store.rm(path)
    for work in (lambda: list(source.read(shard, part, 10)), lambda: source.index(shard)):
        with pytest.raises(CurateError, match="vanished"):
            work()


def test_a_remote_shard_that_changed_without_a_new_stamp_is_noticed_by_its_checksum(monkeypatch):
    store = fsspec.filesystem("memory")
    store.pipe("/stealth/x.tar", tar_bytes(pair("a", b"old")))
    source = sources_of("memory://stealth/x.tar")
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    store.pipe("/stealth/x.tar", tar_bytes(pair("a", b"new")))
    monkeypatch.setattr(stores, "file_stamp", lambda uri: shard.stamp)
    with pytest.raises(CurateError, match="changed"):
        list(source.read(shard, part, 10))


def test_a_part_that_does_not_hold_its_rows_is_an_error(tmp_path):
    source = sources_of(write(tmp_path / "x.tar", tar_bytes(pair("a"))))
    [shard] = source.list_shards()
    [part] = source.index(shard).parts
    with pytest.raises(CurateError, match="changed"):
        list(source.read(shard, replace(part, rows=2), 10))


def test_a_shard_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = write(tmp_path / "x.tar", tar_bytes([*pair("a"), *pair("b")]))
    source = sources_of(path)
    [shard] = source.list_shards()
    tables = source.read(shard, source.index(shard).parts[0], 1)
    next(tables)
    os.utime(path, ns=(1, 1))
    with pytest.raises(CurateError, match="changed"):
        list(tables)


def test_sources_shards_and_parts_can_be_pickled(tmp_path):
    source = sources_of(write(tmp_path / "x.tar", tar_bytes(pair("a"))))
    [shard] = source.list_shards()
    copy, same_shard, index = pickle.loads(pickle.dumps((source, shard, source.index(shard))))
    assert copy == source
    assert read_shard(copy, same_shard, index.parts).column("status").to_pylist() == [Status.OK.value]


# Limits.


@pytest.mark.parametrize(("size", "status"), [(10, "ok"), (11, "image_too_large")])
def test_the_limit_of_bytes_itself_is_allowed(tmp_path, size, status):
    path = write(tmp_path / "x.tar", tar_bytes([*pair("a", b"x" * size), *pair("b", b"x" * 10)]))
    table, _ = read_one(path, limits=SourceLimits(image_bytes=10))
    assert table.column("status").to_pylist() == [status, "ok"]
    assert ("input.max_image_bytes = 10" in (table.column("error")[0].as_py() or "")) == (status != "ok")


@pytest.mark.parametrize(
    ("caption", "status"), [("ä" * 5, "ok"), ("ä" * 6, "caption_too_long"), (" " * 6, "empty_caption")]
)
def test_a_caption_of_too_many_characters_is_kept_whole_and_marked(tmp_path, caption, status):
    path = write(tmp_path / "x.tar", tar_bytes([*pair("a", caption=caption.encode()), *pair("b", caption=b"dog")]))
    table, _ = read_one(path, limits=SourceLimits(caption_characters=5))
    assert columns(table, "caption", "status") == [(caption, status), ("dog", "ok")]


@pytest.mark.parametrize(("most", "keys"), [(1, "a"), (2, "a"), (3, "ab"), (4, "ab"), (5, "abc"), (6, "abc")])
def test_the_last_pair_within_the_limit_of_members_is_whole_and_the_rest_is_told(tmp_path, most, keys):
    content = tar_bytes([member for key in "abc" for member in pair(key)])
    table, errors = read_one(write(tmp_path / "x.tar", content), limits=SourceLimits(members=most))
    assert columns(table, "key", "status") == [(key, "ok") for key in keys]
    assert [(error.offset, "input.max_members" in error.error) for error in errors] == (
        [] if keys == "abc" else [(2048 * len(keys), True)]
    )


def test_members_of_one_name_do_not_make_the_limit_endless():
    same = [Member("a.jpg", place, place, 0, place) for place in range(100)]
    others = [Member(f"a.{place}", place, place, 0, place) for place in range(100)]
    assert len(list(first_members(same, 10))) == 11
    assert len(list(first_members(others, 10))) < 40


def test_usual_limits_read_what_was_always_read(tmp_path):
    path = write(tmp_path / "x.tar", tar_bytes([m for key in range(50) for m in pair(f"{key}")]))
    table, errors = read_one(path)
    assert (table.num_rows, errors) == (50, ())


def test_a_megabyte_of_pax_records_takes_seconds():
    records = b"6 a=b\n" * 170_000 + bytes(100)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    content = header.tobuf() + records.ljust(-(-len(records) // 512) * 512, b"\0") + bytes(1024)
    begun = time.process_time()
    assert list(scan_tar(Window(io.BytesIO(content), 0, len(content), 0))) == []
    assert time.process_time() - begun < 20
