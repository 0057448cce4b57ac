"""Hostile inputs come out as promised, and the bench sees it where they do not."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from curate.bench.hostile.examine import DAMAGES, Drawn, examine
from curate.bench.hostile.inputs import Damage, ExpectedRow, HostileFile, HostilePair, HostilePipeline
from curate.bench.hostile.measure import Job, _Reader, draw_inputs, pack
from curate.bench.hostile.pictures import CORNERS, four_quarters, saved
from curate.schema import Status

GOOD = saved(four_quarters(), "PNG")
OK = frozenset({Status.OK})


def test_draws_are_reproducible_and_hold_every_kind():
    drawn = draw_inputs(1000, 7)
    assert drawn == draw_inputs(1000, 7) != draw_inputs(1000, 8)
    assert {one.kind for one in drawn} == set(DAMAGES)
    assert len(drawn) == 1000
    assert Counter(one for job in pack(drawn, 7) for one in job.inputs) == Counter(drawn)
    assert all(len({one.group for one in job.inputs}) == 1 for job in pack(drawn, 7))


@pytest.mark.parametrize("kind", DAMAGES)
def test_an_input_is_drawn_again_from_its_seed(kind):
    if "bomb" not in kind:
        assert Drawn(kind, "3").build() == Drawn(kind, "3").build()


@pytest.mark.slow
def test_hostile_inputs_come_out_as_promised(curate, tmp_path):
    code, out, _ = curate("bench", "hostile", "--inputs", "150", "--seed", "5", "--json", tmp_path / "found.json")
    assert code == 0, out
    environment, *records = json.loads((tmp_path / "found.json").read_text())
    assert environment["metric"] == "environment"
    total = Counter()
    for record in records:
        total[record["metric"]] += record["value"]
    assert total == {"inputs": 150, "promised": 150, "crash": 0, "hang": 0, "outside": 0, "wrong": 0}


PLANTED = {
    "status": HostilePair((("png", GOOD), ("txt", b"x")), frozenset({Status.CORRUPT_IMAGE}), "x"),
    "caption": HostilePair((("png", GOOD), ("txt", b"x")), OK, "y"),
    "caption bytes": HostilePair((("png", GOOD), ("txt", b"\xff")), frozenset({Status.CAPTION_NOT_UTF8}), b"\xfe"),
    "colours": HostilePair((("png", GOOD), ("txt", b"x")), OK, "x", corners=CORNERS[::-1]),
    "rows": HostileFile(".tar", bytes(1024), (ExpectedRow("k", OK),)),
    "no shard error": HostileFile(".tar", bytes(1024), (), errors=True),
    "a shard error": HostileFile(".tar", b"", (), errors=False),
    "not refused": HostileFile(".tar", bytes(1024), refused=True),
    "no mistake": HostilePipeline("input: {path: a.tar}\noutput: out\nstages: [embed]\n"),
}
GROUPS = {HostilePair: "picture", HostileFile: "tar", HostilePipeline: "pipeline"}


@pytest.mark.parametrize("name", PLANTED)
def test_a_broken_promise_is_seen(name, tmp_path, monkeypatch):
    planted = PLANTED[name]
    damage = Damage("planted", GROUPS[type(planted)], "", lambda draw: planted)
    monkeypatch.setitem(DAMAGES, "planted", damage)
    (outcome,) = examine([Drawn("planted", "")], tmp_path)
    assert outcome.verdict == "wrong"
    assert outcome.detail


def test_what_is_raised_is_a_crash(tmp_path, monkeypatch):
    planted = HostileFile(".unknown", b"")
    monkeypatch.setitem(DAMAGES, "planted", Damage("planted", "tar", "", lambda draw: planted))
    (outcome,) = examine([Drawn("planted", "")], tmp_path)
    assert (outcome.verdict, outcome.detail) == ("crash", "KeyError: '.unknown'")


def test_a_reading_process_that_dies_costs_the_guilty_input_only(tmp_path):
    good = [Drawn("caption: blank", str(number)) for number in range(3)]
    # Nobody can build it: the reading process ends with an error.
    guilty = Drawn("caption: no such kind", "0")
    monkey = Damage("no such kind", "caption", "", lambda draw: PLANTED["status"])
    DAMAGES["caption: no such kind"] = monkey
    try:
        with _Reader(tmp_path / "output") as reader:
            found = reader.read(Job((good[0], guilty, *good[1:])))
    finally:
        del DAMAGES["caption: no such kind"]
    assert [(outcome.drawn, outcome.verdict) for outcome in found] == [
        (good[0], "promised"),
        (guilty, "crash"),
        (good[1], "promised"),
        (good[2], "promised"),
    ]


WATCHED = """
import os, socket, subprocess, sys
from pathlib import Path
from curate.bench.hostile.watch import Watch
folder, outside = Path(sys.argv[1]), Path(sys.argv[2])
(folder / "link").symlink_to(outside)
watch = Watch(folder)
(folder / "x").write_text("allowed")
(folder / "x").rename(folder / "y")
outside.joinpath("read").read_text()
assert watch.taken() == []
for act in (
    lambda: (outside / "new").write_text("x"),
    lambda: (folder / "link" / "new").write_text("x"),
    lambda: (folder / ".." / "outside" / "new").write_text("x"),
    lambda: (folder / "y").rename(outside / "y"),
    lambda: (outside / "read").unlink(),
    lambda: (outside / "made").mkdir(),
    lambda: os.open(outside / "new", os.O_CREAT | os.O_WRONLY),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: socket.create_connection(("127.0.0.1", 9)),
):
    try:
        act()
    except PermissionError:
        pass
    assert len(watch.taken()) == 1
"""


def test_the_watch_refuses_what_lies_outside(tmp_path):
    for name in ("folder", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "read").write_text("as it was")
    script = [sys.executable, "-c", WATCHED, tmp_path / "folder", tmp_path / "outside"]
    told = subprocess.run(script, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert [file.name for file in (tmp_path / "outside").iterdir()] == ["read"]
