"""Which files a pattern names, what they are called, and what is said when there are none."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import InputError
from curate.sources.listing import expand_braces, list_files

from .helpers import write


def names(*patterns, extensions=(".tar",)):
    return [shard.name for shard in list_files(tuple(str(pattern) for pattern in patterns), extensions)]


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a/0.tar",
        "a/1.TAR",
        "a/2.txt",
        "b/0.tar",
        "b/deep/er/9.tar",
        "b/_truth/t.tar",
        "b/.hidden/t.tar",
        "b/_done.tar",
        "b/.done.tar",
    ):
        write(tmp_path / name, b"x")
    return tmp_path


def test_a_folder_means_all_files_of_the_format_below_it(tree):
    assert names(tree) == ["a/0.tar", "a/1.TAR", "b/0.tar", "b/deep/er/9.tar"]
    assert names(f"{tree}/a/") == ["0.tar", "1.TAR"]


def test_hidden_names_are_passed_over_only_where_the_pattern_varies(tree):
    assert names(f"{tree}/**/*.tar") == ["a/0.tar", "b/0.tar", "b/deep/er/9.tar"]
    assert names(f"{tree}/b/_truth/*.tar") == ["t.tar"]
    assert names(f"{tree}/b/_truth") == ["t.tar"]
    assert names(f"{tree}/b/_*.tar") == ["_done.tar"]
    assert names(f"{tree}/b/_done.tar") == ["_done.tar"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.tar", ["0.tar"]),
        ("a/?.tar", ["0.tar"]),
        ("*/0.tar", ["a/0.tar", "b/0.tar"]),
        ("{a,b}/0.tar", ["a/0.tar", "b/0.tar"]),
        ("{a,b}/*.tar", ["a/0.tar", "b/0.tar"]),
        ("{a,b}", ["a/0.tar", "a/1.TAR", "b/0.tar", "b/deep/er/9.tar"]),
        ("a/{0..0}.tar", ["0.tar"]),
        ("a/0.tar", ["0.tar"]),
        ("a/*", ["0.tar", "1.TAR"]),
        ("b/**", ["0.tar", "deep/er/9.tar"]),
        ("**/**/9.tar", ["b/deep/er/9.tar"]),
        ("a/*.{tar,pq}", ["0.tar"]),
    ],
)
def test_patterns(tree, pattern, expected):
    assert names(f"{tree}/{pattern}") == expected


def test_names_start_behind_the_folder_common_to_all_patterns(tree):
    assert names(f"{tree}/a/*.tar", f"{tree}/b/*.tar") == ["a/0.tar", "b/0.tar"]
    assert names(f"{tree}/b/0.tar", f"{tree}/b/deep/**/*.tar") == ["0.tar", "deep/er/9.tar"]
    assert names(f"{tree}/a/*.tar", f"{tree}/a/0.tar") == ["0.tar"]


def test_names_do_not_depend_on_where_the_input_lies(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    assert names("a") == names(f"{tree}/a") == names(f"file://{tree}/a")
    assert all(Path(shard.uri).is_absolute() for shard in list_files(("a",), (".tar",)))


def test_a_name_that_really_contains_brackets_or_braces(tmp_path):
    write(tmp_path / "x[1].tar", b"")
    write(tmp_path / "y{1,2}.tar", b"")
    write(tmp_path / "{z}.tar", b"")
    assert names(tmp_path / "x[1].tar") == ["x[1].tar"]
    assert names(tmp_path / "y{1,2}.tar") == ["y{1,2}.tar"]
    assert names(tmp_path / "{z}.tar") == ["{z}.tar"]


def test_links_are_followed_and_loops_end(tree):
    (tree / "a" / "loop").symlink_to(tree)
    (tree / "a" / "linked.tar").symlink_to(tree / "b" / "0.tar")
    (tree / "a" / "dangling.tar").symlink_to(tree / "nowhere")
    (tree / "elsewhere").symlink_to(tree / "b" / "deep")
    os.mkfifo(tree / "a" / "pipe.tar")
    found = names(f"{tree}/a")
    assert "linked.tar" in found
    assert not {"dangling.tar", "pipe.tar"} & set(found)
    assert "elsewhere/er/9.tar" in names(tree)


def test_a_file_name_that_is_not_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.tar")).write_bytes(b"")
    assert names(tmp_path) == ["\\xff.tar"]


def test_the_stamp_follows_size_and_time(tmp_path):
    path = write(tmp_path / "x.tar", b"abc")
    os.utime(path, ns=(1, 2))
    [before] = list_files((str(path),), (".tar",))
    assert before.stamp == "3-2"
    os.utime(path, ns=(1, 3))
    [after] = list_files((str(path),), (".tar",))
    assert before.stamp != after.stamp


def test_nothing_found_says_pattern_place_and_remedy(tree):
    with pytest.raises(InputError) as error:
        names(f"{tree}/a/*.parquet", extensions=(".parquet",))
    assert "*.parquet" in str(error.value)
    assert f"{tree}/a" in str(error.value)
    assert "2.txt" in str(error.value)
    assert "Correct input.path" in str(error.value)


def test_a_missing_folder_is_named(tree):
    with pytest.raises(InputError, match="no folder 'nope'"):
        names(f"{tree}/nope/deeper/*.tar")
    with pytest.raises(InputError, match="matches no file"):
        names(f"{tree}/nope.tar")


def test_a_name_spelled_out_in_braces_must_exist(tree):
    with pytest.raises(InputError, match=r"1 do not exist: .*/b/1\.tar"):
        names(f"{tree}/b/{{0..1}}.tar")


def test_unknown_and_uninstalled_stores_are_input_errors():
    with pytest.raises(InputError, match="nope://"):
        names("nope://bucket/*.tar")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="not installed"):
            names("gs://bucket/*.tar")
    with pytest.raises(InputError, match="chained"):
        names("zip://x.tar::memory://y.zip")
    with pytest.raises(InputError, match=r"input\.path is empty"):
        names()


def test_memory_store():
    store = fsspec.filesystem("memory")
    for name in ("a/0.tar", "a/_x/1.tar", "b/c/2.tar", "b/3.txt"):
        store.pipe(f"/listing/{name}", b"123")
    assert names("memory://listing/**/*.tar") == ["a/0.tar", "b/c/2.tar"]
    assert names("memory://listing") == ["a/0.tar", "b/c/2.tar"]
    assert names("memory://listing/a/0.tar") == ["0.tar"]
    assert names("memory://listing/{a,b/c}/*.tar") == ["a/0.tar", "b/c/2.tar"]
    with pytest.raises(InputError, match="matches no file"):
        names("memory://listing/*.pq")


def test_patterns_of_different_stores_get_their_scheme_as_folder(tree):
    fsspec.filesystem("memory").pipe("/other/0.tar", b"123")
    assert names("memory://other/*.tar", f"{tree}/a/0.tar") == [f"file{tree}/a/0.tar", "memory/other/0.tar"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x-{00008..00010}.tar", ["x-00008.tar", "x-00009.tar", "x-00010.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{3..1}", ["1", "2", "3"]),
        ("{0..4..2}", ["0", "2", "4"]),
        ("{a,b}{1,2}", ["a1", "a2", "b1", "b2"]),
        ("{a,b{1..2}}c", ["ac", "b1c", "b2c"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{a}", ["{a}"]),
        ("{a", ["{a"]),
        ("{}", ["{}"]),
        ("{,x}", ["", "x"]),
        ("{a}{b,c}", ["{a}b", "{a}c"]),
    ],
)
def test_braces(pattern, expected):
    assert expand_braces(pattern) == expected


@given(st.lists(st.lists(st.from_regex(r"[a-z]{1,3}", fullmatch=True), min_size=2, max_size=3), max_size=3))
def test_brace_lists_are_a_product(choices):
    pattern = "-".join("{" + ",".join(options) + "}" for options in choices)
    assert expand_braces(pattern) == ["-".join(combination) for combination in product(*choices)]


@pytest.mark.parametrize("pattern", ["{0..99999999}", "{0..99999}{0..99999}"])
def test_endless_braces_are_refused(pattern):
    with pytest.raises(InputError, match="more than"):
        expand_braces(pattern)
