"""`curate inspect`: what a person reads in the terminal, and that nothing else gets there."""

import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.cli import shared
from curate.cli.shared import harmless
from curate.store import METADATA_KEY
from tests.corpus import make_pairs, write_shard

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EVIL = f"\x1b[31m\x1b]0;owned\x07\x9b2J{BIDI}\r\n"


def test_inspect_shows_a_run_and_one_pair_in_full(curate, finished, tmp_path):
    code, out, _ = curate("inspect", finished.output, "--count", 3)
    assert code == 0
    assert "160" in out
    code, out, _ = curate("inspect", finished.output, "--key", "000000007", "--json", tmp_path / "pair.json")
    assert code == 0
    assert "signals.crossfit_csls" in out
    (pair,) = json.loads((tmp_path / "pair.json").read_text())["pairs"]
    assert pair["row"] == 7
    assert pair["signals"]["crossfit_csls"] is not None


@pytest.fixture
def completed(curate, pipeline):
    """A run that remembers its input, in whose annotations every pair of the first part has a completed caption."""
    curate("run", pipeline.file(), "--quiet")
    file = pipeline.output / "annotations" / "part-00000000.parquet"
    table = pq.read_table(file)
    facts = json.loads(table.schema.metadata[METADATA_KEY])
    for number, name in enumerate(table.column_names):
        new = {
            "synthetic_caption": [f"{EVIL}a [bold]teapot[/bold]"] * len(table),
            "synthetic_score": [2.5] * len(table),
            "completed_caption": [f"{EVIL}a [bold]teapot[/bold]"] * len(table),
            "caption_source": ["synthetic"] * len(table),
            "concepts": [[{"name": f"{EVIL}kettle", "score": 1.0}]] * len(table),
            "key": [f"{EVIL}{key}" for key in table["key"].to_pylist()],
        }.get(name)
        if new is not None:
            table = table.set_column(number, table.field(name), pa.array(new, table.field(name).type))
    metadata = {METADATA_KEY: json.dumps({**facts, "caption_fit": "x"}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    for other in sorted(file.parent.iterdir()):
        if other != file:
            other.unlink()
    return pipeline


@pytest.fixture
def width(monkeypatch):
    def set_width(columns):
        monkeypatch.setattr(shared.out, "_width", columns)

    return set_width


@pytest.mark.parametrize("columns", [80, 160])
def test_completions_side_by_side_with_pictures_beside_them(curate, completed, width, columns, tmp_path):
    width(columns)
    folder = tmp_path / "pictures"
    code, out, _ = curate(
        "inspect", completed.output, "--completions", 4, "--pictures", folder, "--json", tmp_path / "a.json"
    )
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    assert out.count("[+bold]teapot[/bold+]") == 4
    assert out.count("kettle") == 4
    assert out.count("synthetic, score 2.50") == 4
    assert out.count("00000.tar/") == 4
    assert not re.search(f"[{BIDI}\x1b\x07\x9b]", out)
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["completions"]["sources"] == {"synthetic": 25}
    shown = {example["row_id"]: example for example in answer["completions"]["shown"]}
    assert set(answer["pictures"]) == set(shown)
    assert sorted(answer["pictures"].values()) == [str(folder / f"{number}.jpg") for number in (1, 2, 3, 4)]
    for file in answer["pictures"].values():
        assert Image.open(file).size == (256, 256)
        # A path that is longer than the terminal is broken into lines.
        assert file.rpartition("/")[2] in "".join(map(str.strip, out.splitlines()))


def test_a_terminal_that_shows_pictures_gets_them_and_marks_in_bold(curate, completed, monkeypatch):
    monkeypatch.setattr(shared.out, "_force_terminal", True)
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.delenv("TMUX", raising=False)
    code, out, _ = curate("inspect", completed.output, "--completions", 3)
    assert code == 0
    assert out.count("\x1b_Ga=T,f=100") == 3
    assert not re.search(f"[{BIDI}\x07\x9b]", out)
    assert "+bold]" not in out
    (completed.output / "_state" / "pipeline.json").unlink()
    code, out, _ = curate("inspect", completed.output, "--completions", 3)
    assert code == 0
    assert "no pictures: " in out
    assert "\x1b_G" not in out


def test_pictures_that_cannot_be_read_are_your_input(curate, completed, tmp_path):
    (completed.output / "_state" / "pipeline.json").unlink()
    code, _, told = curate("inspect", completed.output, "--pictures", tmp_path / "new")
    assert code == 2
    assert "--pipeline" in told
    code, _, _ = curate(
        "inspect", completed.output, "--pictures", tmp_path / "new", "--pipeline", completed.file(), "--count", 3
    )
    assert code == 0
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_the_pairs_asked_for_are_counted_drawn_and_shown(curate, finished, tmp_path):
    table = pd.read_parquet(finished.output / "annotations")
    middle = table.noise_prob.median()
    code, out, _ = curate(
        "inspect",
        finished.output,
        "--where",
        f"noise_prob < {middle}",
        "--top",
        "clean",
        "--json",
        tmp_path / "a.json",
    )
    assert code == 0
    assert re.search(rf"pairs\s+{(table.noise_prob < middle).sum()}\s+of 160", out)
    assert "least suspicious" in out
    answer = json.loads((tmp_path / "a.json").read_text())
    bars = re.findall(r"^(\d\.\d)-\d\.\d ([░▒█]*)\s+(\d+)$", out, re.MULTILINE)
    by_bin = zip(*answer["histogram"].values(), strict=True)
    assert [int(count) for _, _, count in bars] == [sum(counts) for counts in by_bin]
    assert all(bool(bar) == bool(int(count)) for _, bar, count in bars)
    assert answer["order"] == "clean"
    assert answer["shown"][0]["noise_prob"] == pytest.approx(float(table.noise_prob.min()))


def test_inspect_judges_against_the_truth(curate, finished, tmp_path):
    table = pd.read_parquet(finished.output / "annotations")
    truth = pa.table({"row_id": table.row_id, "mismatched": table.noise_prob > table.noise_prob.median()})
    pq.write_table(truth, tmp_path / "truth.parquet")
    code, _, _ = curate(
        "inspect", finished.output, "--truth", tmp_path / "truth.parquet", "--json", tmp_path / "a.json"
    )
    assert code == 0
    assert json.loads((tmp_path / "a.json").read_text())["truth"]["auroc"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--key", "nobody"], "nobody"),
        (["--truth", "nothing.parquet"], "nothing.parquet"),
        (["--status", "okay"], "Did you mean ok?"),
        (["--top", "20"], "must be noisy, clean or boundary"),
        (["--completions", "3"], "add the stage caption"),
        (["--where", "nose < 1"], "no column 'nose'"),
        (["--key", "000000007", "--top", "clean"], "leave out"),
        (["--pictures", "."], "is not empty"),
    ],
)
def test_inspect_names_what_is_wrong_in_one_line(curate, finished, arguments, expected):
    code, out, told = curate("inspect", finished.output, *arguments)
    assert (code, out) == (2, "")
    assert expected in told
    assert told.count("\n") == 1


def test_inspect_of_no_run_is_your_input(curate, tmp_path):
    code, _, told = curate("inspect", tmp_path)
    assert code == 2
    assert "no annotations here" in told


@pytest.mark.parametrize("sign", BIDI + "\x1b\x07\x9b\r\n\u200b\ufeff\u2028")
def test_no_control_character_and_no_direction_mark_is_harmless(sign):
    assert harmless(f"a{sign}b") == "a b"


def test_no_message_commands_the_terminal(curate, finished):
    code, _, told = curate("inspect", finished.output, "--key", f"{EVIL}x")
    assert code == 2
    assert not re.search(f"[{BIDI}\x1b\x07\x9b]", told)


def test_a_caption_cannot_command_the_terminal(curate, pipeline, tmp_path):
    members = []
    for number, (image, caption) in enumerate(make_pairs(120)):
        evil = f"\x1b[31m\x1b]0;owned\x07[bold]{caption}[/bold]\u202e\r\n" if number % 2 else caption
        members += [(f"{number}.png", image), (f"{number}.txt", evil.encode())]
    write_shard(tmp_path / "evil" / "0.tar", members)
    pipeline.raw["input"]["path"] = str(tmp_path / "evil" / "*.tar")
    code, out, _ = curate("run", pipeline.file())
    assert code == 0
    code, more, _ = curate("inspect", pipeline.output, "--count", 120)
    assert "[bold]" in more
    assert not {"\x1b]", "\x07", "\u202e"} & set(out + more)
    assert "\x1b]0" not in out + more
