from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.corpora.corrupt import corrupt
from curate.corpora.exchange import choose_mismatches
from curate.corpora.pairs import read_pairs
from curate.corpora.tar_writer import write_tar
from curate.errors import CurateError, InputError
from curate.sources.options import SourceOptions
from curate.sources.webdataset import WebDatasetSource

Pair = tuple[str, str, dict | None]


def write_shard(path: Path, pairs: Sequence[Pair]) -> None:
    members = []
    for key, caption, description in pairs:
        members.append((f"{key}.jpg", f"image of {key}".encode()))
        members.append((f"{key}.txt", caption.encode()))
        if description is not None:
            members.append((f"{key}.json", json.dumps({**description, "caption": caption}).encode()))
    write_tar(path, members)


def numbered_pairs(number: int, categories: int = 4, first: int = 0) -> list[Pair]:
    return [
        (f"{i:05d}", f"caption {i}", {"category": f"c{i % categories}", "keywords": [f"k{i}"], "key": f"{i:05d}"})
        for i in range(first, first + number)
    ]


def read(folder: Path) -> list[tuple[str, list[tuple[str, bytes]]]]:
    shards = []
    for tar in sorted(folder.rglob("*.tar")):
        with tarfile.open(tar) as archive:
            members = [(member.name, archive.extractfile(member).read()) for member in archive]
        shards.append((tar.relative_to(folder).as_posix(), members))
    return shards


def captions(folder: Path) -> dict[str, str]:
    return {
        name.removesuffix(".txt"): content.decode()
        for _, members in read(folder)
        for name, content in members
        if name.endswith(".txt")
    }


def truth(folder: Path) -> dict[str, dict]:
    return {row["key"]: row for row in pq.read_table(folder / "_truth/truth.parquet").to_pylist()}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write_shard(folder / "00000.tar", numbered_pairs(60))
    write_shard(folder / "00001.tar", numbered_pairs(40, first=60))
    return folder


def pattern(folder: Path) -> list[str]:
    return [f"{folder}/*.tar"]


def test_only_captions_change(corpus, tmp_path):
    corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    before, after = read(corpus), read(tmp_path / "out")
    assert [(shard, [name for name, _ in members]) for shard, members in before] == [
        (shard, [name for name, _ in members]) for shard, members in after
    ]
    for (_, old_members), (_, new_members) in zip(before, after, strict=True):
        for (name, old), (_, new) in zip(old_members, new_members, strict=True):
            if name.endswith(".jpg"):
                assert old == new
            if name.endswith(".json"):
                assert {**json.loads(old), "caption": None} == {**json.loads(new), "caption": None}


def test_truth_says_what_was_done(corpus, tmp_path):
    out = tmp_path / "out"
    report = corrupt(pattern(corpus), out, kind="random", rate=0.4)
    assert (report.pairs, report.usable, report.mismatched, report.reached_rate) == (100, 100, 40, 0.4)
    assert report.truth == out / "_truth/truth.parquet"
    old, new, rows = captions(corpus), captions(out), truth(out)
    assert list(rows) == list(old)
    assert [rows[key]["row_id"] for key in ("00000", "00059", "00060")] == [
        "00000.tar:0",
        "00000.tar:59",
        "00001.tar:0",
    ]
    for key, row in rows.items():
        assert new[key] == old[row["original_key"]]
        assert row["mismatched"] == (new[key] != old[key])
        assert row["mismatched"] == (row["original_key"] != key)
        assert row["kind"] == "random"
        assert row["partner_key"] == (row["original_key"] if row["mismatched"] else None)
        assert row["original_caption"] is row["changed_from"] is row["changed_to"] is None


def animal_pairs() -> list[Pair]:
    animals = ["dog", "cat", "horse", "owl", "apple tree"]
    return [
        (
            f"{i:02d}",
            f"  A {colour} {animal} on the street\n",
            {"category": "c", "alt": f"a {colour} {animal} on the street"},
        )
        for i, (colour, animal) in enumerate((c, a) for c in ("red", "green", "blue", "white") for a in animals)
    ]


def test_partial_changes_one_word_and_says_which(tmp_path):
    write_shard(tmp_path / "in/0.tar", animal_pairs())
    out = tmp_path / "out"
    report = corrupt(pattern(tmp_path / "in"), out, kind="partial", rate=0.5)
    assert (report.mismatched, report.reached_rate) == (10, 0.5)
    old, new, rows = captions(tmp_path / "in"), captions(out), truth(out)
    for key, row in rows.items():
        assert (row["kind"], row["original_key"]) == ("partial", key)
        assert row["mismatched"] == (new[key] != old[key])
        if row["mismatched"]:
            assert row["original_caption"] == old[key]
            assert new[key] in (
                old[key].replace(row["changed_from"], row["changed_to"]),
                old[key].replace(f"A {row['changed_from']}", f"An {row['changed_to']}"),
            )
            partner = rows[row["partner_key"]]
            assert partner["partner_key"] == key
            assert (partner["changed_to"], partner["changed_from"]) == (row["changed_from"], row["changed_to"])
        else:
            assert [row[name] for name in ("partner_key", "original_caption", "changed_from", "changed_to")] == [
                None
            ] * 4
    for name, content in read(out)[0][1]:
        if name.endswith(".json"):
            assert json.loads(content)["caption"].strip() == new[name.removesuffix(".json")].strip()


def test_partial_leaves_the_original_caption_nowhere_in_its_pair(tmp_path):
    write_shard(tmp_path / "in/0.tar", animal_pairs())
    out = tmp_path / "out"
    assert corrupt(pattern(tmp_path / "in"), out, kind="partial", rate=0.9).mismatched == 18
    rows = truth(out)
    for name, content in read(out)[0][1]:
        row = rows[name.split(".")[0]]
        if row["mismatched"]:
            assert row["original_caption"].strip().lower().encode() not in content.lower()


def test_partial_says_how_far_it_came(corpus, tmp_path):
    """No caption of this corpus holds a word that can be exchanged."""
    report = corrupt(pattern(corpus), tmp_path / "out", kind="partial", rate=0.5)
    assert (report.mismatched, report.asked_rate, report.reached_rate) == (0, 0.5, 0)
    assert captions(tmp_path / "out") == captions(corpus)


def test_the_command_does_what_the_library_chooses(corpus, tmp_path):
    pairs = read_pairs(pattern(corpus))
    for kind in ("random", "category", "nearest"):
        vectors = random_vectors([pair.caption for pair in pairs])
        made = choose_mismatches(pairs, kind, 0.4, 3, vectors)
        corrupt(pattern(corpus), tmp_path / kind, kind=kind, rate=0.4, seed=3, embed_captions=random_vectors)
        assert [row["mismatched"] for row in truth(tmp_path / kind).values()] == made.mismatched.tolist()
        assert tuple(captions(tmp_path / kind).values()) == made.captions


def test_the_original_caption_is_nowhere_in_its_pair(tmp_path):
    extra = {"alt": None, "TEXT": None, "title": None, "status": "success"}
    pairs = [
        (f"{i}", f"caption {i}x", {name: value or f"caption {i}x" for name, value in extra.items()}) for i in range(20)
    ]
    write_shard(tmp_path / "in/0.tar", pairs)
    out = tmp_path / "out"
    corrupt(pattern(tmp_path / "in"), out, kind="random", rate=0.9)
    old, rows = captions(tmp_path / "in"), truth(out)
    for name, content in read(out)[0][1]:
        key = name.split(".")[0]
        if rows[key]["mismatched"]:
            assert old[key].encode() not in content
            assert b"original" not in content
    assert sum(row["mismatched"] for row in rows.values()) == 18


def test_a_category_that_reads_like_the_caption_stays(tmp_path):
    write_shard(
        tmp_path / "in/0.tar", [(f"{i}", f"c{i}", {"category": f"c{i}", "keywords": [f"c{i}"]}) for i in range(10)]
    )
    corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.9)
    for name, content in read(tmp_path / "out")[0][1]:
        if name.endswith(".json"):
            key = name.removesuffix(".json")
            assert json.loads(content)["category"] == f"c{key}"
            assert json.loads(content)["keywords"] == [f"c{key}"]


def test_layout_does_not_tell_which_pairs_changed(corpus, tmp_path):
    corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    jsons = [content for _, members in read(tmp_path / "out") for name, content in members if name.endswith(".json")]
    assert {content.count(b"\n") for content in jsons} == {jsons[0].count(b"\n")}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.sampled_from(["a", "A ", "b", "c", "d", "e", "", " "]) | st.text(max_size=4), min_size=4, max_size=40
    ),
    categories=st.integers(1, 4),
    kind=st.sampled_from(["random", "category"]),
    rate=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_exchange_is_a_permutation_without_fixed_points(tmp_path_factory, texts, categories, kind, rate, seed):
    texts = [text.encode("utf-8", errors="ignore").decode() for text in texts]
    usable = [i for i, text in enumerate(texts) if text.strip()]
    if len(usable) < 2:
        return
    folder = tmp_path_factory.mktemp("case")
    write_shard(folder / "in/0.tar", [(f"{i}", text, {"category": i % categories}) for i, text in enumerate(texts)])
    report = corrupt(pattern(folder / "in"), folder / "out", kind=kind, rate=rate, seed=seed)
    old, new, rows = captions(folder / "in"), captions(folder / "out"), truth(folder / "out")
    assert len(rows) == len(texts)
    assert Counter(old.values()) == Counter(new.values())
    assert sorted(row["original_key"] for row in rows.values()) == sorted(rows)
    for key, row in rows.items():
        assert new[key] == old[row["original_key"]]
        assert row["mismatched"] == (new[key].strip().casefold() != old[key].strip().casefold())
        if row["original_key"] != key:
            assert row["mismatched"]
            assert old[key].strip()
            assert kind == "random" or int(key) % categories == int(row["original_key"]) % categories
    assert report.mismatched == sum(row["mismatched"] for row in rows.values())
    assert report.mismatched <= max(2, round(rate * len(usable))) + 1
    assert report.mismatched >= reachable(texts, usable, categories if kind == "category" else 1, rate)


def reachable(texts: list[str], usable: list[int], groups: int, rate: float) -> int:
    """What can be asked for: all but a row here and there that finds no partner in its group."""
    capacity = 0
    for group in range(groups):
        counts = Counter(texts[i].strip().casefold() for i in usable if i % groups == group)
        rows = sum(counts.values())
        capacity += min(rows, 2 * (rows - max(counts.values(), default=0)))
    asked = max(2, round(rate * len(usable)))
    return asked - groups if capacity >= asked else capacity - 2 * groups


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["random", "category"])
def test_the_rate_is_reached(kind, rate, corpus, tmp_path):
    report = corrupt(pattern(corpus), tmp_path / "out", kind=kind, rate=rate)
    assert report.mismatched == pytest.approx(100 * rate, abs=1)


def test_a_dominating_caption_gives_way_to_the_others(tmp_path):
    pairs = [(f"{i}", "same" if i < 70 else f"other {i}", {}) for i in range(100)]
    write_shard(tmp_path / "in/0.tar", pairs)
    report = corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.55)
    assert report.mismatched == 55
    report = corrupt(pattern(tmp_path / "in"), tmp_path / "most", kind="random", rate=0.9)
    assert report.mismatched == 60  # the 30 others, each with one of the 70


def test_what_one_category_cannot_give_the_others_do(tmp_path):
    alike = [(f"a{i}", "same", {"category": "a"}) for i in range(50)]
    varied = [(f"b{i}", f"other {i}", {"category": "b"}) for i in range(50)]
    write_shard(tmp_path / "in/0.tar", alike + varied)
    report = corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="category", rate=0.4)
    assert report.mismatched == 40


def test_images_do_not_learn_one_wrong_caption_for_another(tmp_path):
    """Rotating blocks of equal captions would teach a model that every cat is a dog."""
    pairs = [(f"{i}", "abcd"[i % 4], {}) for i in range(400)]
    write_shard(tmp_path / "in/0.tar", pairs)
    corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.9)
    moved = Counter(
        (old, new)
        for old, new in zip(captions(tmp_path / "in").values(), captions(tmp_path / "out").values(), strict=True)
        if old != new
    )
    assert len(moved) == 12
    assert max(moved.values()) < 60


def test_category_partners_share_the_value(corpus, tmp_path):
    corrupt(pattern(corpus), tmp_path / "out", kind="category", rate=0.5)
    rows = truth(tmp_path / "out")
    assert all(int(key) % 4 == int(row["original_key"]) % 4 for key, row in rows.items())


def test_a_missing_category_field_names_those_there_are(corpus, tmp_path):
    with pytest.raises(InputError, match=r"'colour'.*caption, category, key, keywords"):
        corrupt(pattern(corpus), tmp_path / "out", kind="category", rate=0.5, category_field="colour")


def random_vectors(texts: list[str]) -> np.ndarray:
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(200, 6))[[int(text.split()[1]) for text in texts]]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_nearest_partners_have_similar_but_not_equal_captions(corpus, tmp_path):
    report = corrupt(pattern(corpus), tmp_path / "out", kind="nearest", rate=0.5, embed_captions=random_vectors)
    assert report.mismatched == 50
    rows = truth(tmp_path / "out")
    vectors = random_vectors([f"caption {i}" for i in range(100)])
    cosines = [
        float(vectors[int(key)] @ vectors[int(row["original_key"])]) for key, row in rows.items() if row["mismatched"]
    ]
    assert min(cosines) >= 0.5
    assert max(cosines) <= 0.9
    assert np.mean(cosines) > 0.7
    assert Counter(captions(corpus).values()) == Counter(captions(tmp_path / "out").values())


def test_nearest_says_how_far_it_came(corpus, tmp_path):
    def two_neighbours(texts: list[str]) -> np.ndarray:
        vectors = np.eye(len(texts), dtype=np.float32)
        vectors[1] = 0.7 * vectors[0] + np.sqrt(1 - 0.49) * vectors[1]
        return vectors

    report = corrupt(pattern(corpus), tmp_path / "out", kind="nearest", rate=0.5, embed_captions=two_neighbours)
    assert (report.mismatched, report.asked_rate, report.reached_rate) == (2, 0.5, 0.02)


@pytest.mark.parametrize("wrong", [np.ones((3, 2)), np.full((100, 2), 3.0), np.full((100, 2), np.nan)])
def test_wrong_embeddings_are_refused(wrong, corpus, tmp_path):
    with pytest.raises(CurateError, match="embed_captions returned"):
        corrupt(pattern(corpus), tmp_path / "out", kind="nearest", rate=0.5, embed_captions=lambda texts: wrong)


@pytest.mark.parametrize("kind", ["random", "partial"])
def test_same_seed_same_bytes_other_seed_other_pairs(kind, corpus, tmp_path):
    write_shard(corpus / "00002.tar", [(f"9{key}", *rest) for key, *rest in animal_pairs()])

    def result(name: str, seed: int) -> list[bytes]:
        out = tmp_path / name
        corrupt(pattern(corpus), out, kind=kind, rate=0.1, seed=seed)
        return [path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()]

    assert result("a", 1) == result("b", 1)
    assert truth(tmp_path / "a") != (result("c", 2), truth(tmp_path / "c"))[1]


def test_unusable_pairs_stay_as_they_are_and_are_in_the_truth(tmp_path):
    members = [(f"{i}.png", b"image") for i in range(8)] + [(f"{i}.txt", f"caption {i}".encode()) for i in range(6)]
    members += [("6.txt", b"caf\xe9"), ("8.txt", b"no image"), ("9.png", b""), ("9.txt", b"empty image")]
    members += [("5.json", b"{broken"), ("README", b"no pair"), ("4.JSON", b'{"caption": "caption 4"}')]
    write_tar(tmp_path / "in/0.tar", members)
    report = corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.99)
    assert (report.pairs, report.usable, report.mismatched) == (10, 5, 5)
    rows = truth(tmp_path / "out")
    assert {key for key, row in rows.items() if not row["mismatched"]} == {"5", "6", "7", "8", "9"}
    after = dict(read(tmp_path / "out")[0][1])
    assert [name for name, _ in members] == list(after)
    unchanged = {
        name: content for name, content in members if name.split(".")[0] in {"5", "6", "7", "8", "9", "README"}
    }
    assert unchanged.items() <= after.items()
    assert b"caption 4" not in after["4.JSON"]


def test_a_key_that_comes_twice_is_two_rows(tmp_path):
    members = [("a.png", b"1"), ("a.txt", b"one"), ("a.png", b"2"), ("a.txt", b"two")]
    write_tar(tmp_path / "in/0.tar", members)
    corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.9)
    assert [content for _, content in read(tmp_path / "out")[0][1]] == [b"1", b"two", b"2", b"one"]
    table = pq.read_table(tmp_path / "out/_truth/truth.parquet")
    assert table.column("row_id").to_pylist() == ["0.tar:0", "0.tar:1"]


def test_captions_that_are_only_in_the_json_take_part(tmp_path):
    members = [(f"{i}.png", b"image") for i in range(6)]
    members += [(f"{i}.json", json.dumps({"caption": f"caption {i}", "n": i}).encode()) for i in range(5)]
    members += [("5.json", b'{"caption": "half \\ud800"}')]
    write_tar(tmp_path / "in/0.tar", members)
    report = corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.99)
    assert (report.usable, report.mismatched) == (5, 5)
    rows = truth(tmp_path / "out")
    for name, content in read(tmp_path / "out")[0][1]:
        if name.endswith(".json") and name != "5.json":
            key = name.removesuffix(".json")
            assert json.loads(content) == {"caption": f"caption {rows[key]['original_key']}", "n": int(key)}


def test_rows_are_numbered_as_the_source_numbers_them(tmp_path):
    members = [("README.md", b"x"), ("b.jpg", b"1"), ("a.jpg", b"2"), ("a.txt", b"of a"), ("b.txt", b"of b")]
    members += [("a.PNG", b"3"), ("a.json", b"{}"), ("c.cls", b"7"), ("d.e/f.seg.png", b"4"), ("d.e/f.jpg", b"5")]
    members += [(".hidden.jpg", b"6"), ("noext", b"7"), ("b.txt", b"again"), ("g.avif", b"8")]
    write_tar(tmp_path / "in/0.tar", members)
    corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.9)
    source = WebDatasetSource(SourceOptions(format="webdataset", path=(f"{tmp_path}/out/*.tar",)))
    shard = source.list_shards()[0]
    tables = [table for part in source.index(shard).parts for table in source.read(shard, part, batch_rows=100)]
    read_back = [row for table in tables for row in table.select(["row_id", "key"]).to_pylist()]
    table = pq.read_table(tmp_path / "out/_truth/truth.parquet")
    assert read_back == table.select(["row_id", "key"]).to_pylist()


def test_shards_in_folders_keep_their_names(tmp_path):
    write_shard(tmp_path / "in/x/0.tar", numbered_pairs(5))
    write_shard(tmp_path / "in/y/0.tar", numbered_pairs(5, first=5))
    for number, inputs in enumerate(([f"{tmp_path}/in/**/*.tar"], [f"{tmp_path}/in"], [f"{tmp_path}/in/*/0.tar"])):
        out = tmp_path / f"out{number}"
        corrupt(inputs, out, kind="random", rate=0.5)
        assert [name for name, _ in read(out)] == ["x/0.tar", "y/0.tar"]


def test_a_finished_result_is_left_alone(corpus, tmp_path):
    first = corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    second = corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    assert (first.already_done, second.already_done) == (False, True)
    assert second.mismatched == first.mismatched
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == stamps


def test_an_interrupted_result_is_finished_by_the_next_call(corpus, tmp_path):
    class StopHereError(Exception):
        pass

    def stop(description: str, done: int, total: int) -> None:
        if (description, done) == ("writing shards", 1):
            raise StopHereError

    with pytest.raises(StopHereError):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4, progress=stop)
    assert not corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4).already_done
    corrupt(pattern(corpus), tmp_path / "whole", kind="random", rate=0.4)
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_a_result_not_marked_complete_is_written_again(corpus, tmp_path):
    """A rewriting that was interrupted leaves all files, some of them old."""
    out = tmp_path / "out"
    corrupt(pattern(corpus), out, kind="random", rate=0.4)
    whole, record = read(out), out / "_truth/corruption.json"
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    write_shard(out / "00001.tar", numbered_pairs(40, first=60))
    assert not corrupt(pattern(corpus), out, kind="random", rate=0.4).already_done
    assert read(out) == whole


def test_a_result_of_another_version_is_refused(corpus, tmp_path):
    corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    record = tmp_path / "out/_truth/corruption.json"
    record.write_text(record.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match=r"version \(1, not 2\)"):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)


def test_other_settings_or_inputs_are_refused(corpus, tmp_path):
    corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    with pytest.raises(InputError, match=r"rate \(0\.4, not 0\.5\)"):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.5)
    write_shard(corpus / "00001.tar", numbered_pairs(30, first=60))
    with pytest.raises(InputError, match="other inputs"):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_out_of_range_is_refused(rate, corpus, tmp_path):
    with pytest.raises(InputError, match="rate is"):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=rate)


def test_folders_that_cannot_take_the_result_are_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="read from"):
        corrupt(pattern(corpus), corpus, kind="random", rate=0.4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        corrupt(pattern(corpus), tmp_path / "full", kind="random", rate=0.4)
    with pytest.raises(InputError, match="is a file"):
        corrupt(pattern(corpus), tmp_path / "full/note", kind="random", rate=0.4)


def test_no_match_unknown_kind_and_no_tower_are_refused(corpus, tmp_path):
    with pytest.raises(InputError, match=r"no file matches .*\*\.tgz"):
        corrupt([f"{corpus}/*.tgz"], tmp_path / "out", kind="random", rate=0.4)
    with pytest.raises(InputError, match="random, category, nearest, partial"):
        corrupt(pattern(corpus), tmp_path / "out", kind="other", rate=0.4)
    with pytest.raises(InputError, match=r"curate\[offline\]"):
        corrupt(pattern(corpus), tmp_path / "out", kind="nearest", rate=0.4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut in a member", "cut in a header", "header", "not a tar", "empty"])
def test_a_malformed_tar_is_named(damage, corpus, tmp_path):
    tar = corpus / "00001.tar"
    content = bytearray(tar.read_bytes())
    if damage == "header":
        content[4 * 512 : 4 * 512 + 100] = b"\xff" * 100
    changed = {
        "cut in a member": content[: 512 + 5],
        "cut in a header": content[: 1024 + 100],
        "header": content,
        "not a tar": b"hello" * 500,
        "empty": b"",
    }
    tar.write_bytes(changed[damage])
    with pytest.raises(InputError, match=r"00001\.tar is not a whole"):
        corrupt(pattern(corpus), tmp_path / "out", kind="random", rate=0.4)
    assert not (tmp_path / "out").exists()  # so the same call works once the tar is repaired


def test_only_one_image_is_held_at_a_time(tmp_path, monkeypatch):
    """The captions are read without the images."""
    write_shard(tmp_path / "in/0.tar", numbered_pairs(10))
    wanted: list[str] = []
    original = tarfile.TarFile.extractfile
    monkeypatch.setattr(
        tarfile.TarFile, "extractfile", lambda self, member: (wanted.append(member.name), original(self, member))[1]
    )

    def stop(description: str, done: int, total: int) -> None:
        if description == "writing shards":
            raise io.UnsupportedOperation

    with pytest.raises(io.UnsupportedOperation):
        corrupt(pattern(tmp_path / "in"), tmp_path / "out", kind="random", rate=0.4, progress=stop)
    assert len(wanted) == 20
    assert not any(name.endswith(".jpg") for name in wanted)
