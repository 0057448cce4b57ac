from __future__ import annotations

import json

import pytest

from curate.corpora.pairs import Pair, read_pairs
from curate.corpora.tar_writer import write_tar
from curate.errors import InputError


def test_pairs_of_all_shards_come_in_their_order(tmp_path):
    for shard in ("b", "a"):
        members = [(f"{i}.{end}", f"{shard} {i}".encode()) for i in range(3) for end in ("jpg", "txt")]
        write_tar(tmp_path / f"{shard}.tar", members)
    assert [(pair.row_id, pair.caption) for pair in read_pairs([f"{tmp_path}/*.tar"])] == [
        (f"{shard}.tar:{i}", f"{shard} {i}") for shard in ("a", "b") for i in range(3)
    ]


def test_only_pairs_with_an_image_and_a_caption_are_read_as_they_are_numbered(tmp_path):
    members = [("0.txt", b"no image"), ("1.png", b"x"), ("1.txt", b" A cat\n"), ("2.png", b"x"), ("3.png", b"x")]
    members += [("3.txt", b"\xff"), ("4.png", b"x"), ("4.json", b'{"caption": "a dog"}')]
    write_tar(tmp_path / "0.tar", members)
    assert read_pairs([f"{tmp_path}"]) == [Pair("0.tar:1", " A cat\n"), Pair("0.tar:4", "a dog")]


@pytest.mark.parametrize(
    ("value", "category"),
    [
        ("animals", "animals"),
        (None, None),
        (3, "3"),
        (["b", "a"], '["b", "a"]'),
        ({"b": 1, "a": 2}, '{"a": 2, "b": 1}'),
    ],
)
def test_the_category_is_a_field_of_the_json_member(value, category, tmp_path):
    members = [("0.png", b"x"), ("0.json", json.dumps({"caption": "a dog", "sort": value, "category": "no"}).encode())]
    write_tar(tmp_path / "0.tar", members)
    assert read_pairs([f"{tmp_path}/0.tar"], "sort") == [Pair("0.tar:0", "a dog", category)]


def test_pairs_without_the_field_have_no_category(tmp_path):
    write_tar(tmp_path / "0.tar", [("0.png", b"x"), ("0.txt", b"a dog")])
    assert read_pairs([f"{tmp_path}/0.tar"])[0].category is None


def test_progress_counts_the_tars(tmp_path):
    seen = []
    write_tar(tmp_path / "0.tar", [("0.png", b"x"), ("0.txt", b"a dog")])
    read_pairs([f"{tmp_path}/0.tar"], progress=lambda *step: seen.append(step))
    assert seen == [("reading captions", 0, 1), ("reading captions", 1, 1)]


def test_no_match_is_said(tmp_path):
    with pytest.raises(InputError, match="no file matches"):
        read_pairs([f"{tmp_path}/*.tar"])


def test_meaning_has_no_case_and_no_space_around_it():
    assert Pair("", " A Cat\n").meaning == Pair("", "a cat").meaning != Pair("", "a dog").meaning
