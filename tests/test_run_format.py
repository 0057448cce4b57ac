"""A run directory says which version can read it: older ones are read, newer ones are refused by every command."""

import json

import pytest

from curate.errors import CurateError
from curate.run_format import FORMAT_FILE, RunFormat, read_format, write_format
from curate.schema import SCHEMA_VERSION
from curate.store import RunStore


def test_a_run_without_a_format_file_is_of_version_1(tmp_path):
    assert read_format(RunStore(str(tmp_path))) == RunFormat(1, 1)


def test_the_version_that_laid_it_out_stays(tmp_path):
    store = RunStore(str(tmp_path))
    write_format(store, "0.1.0")
    write_format(store, "0.2.0", ["noise"])
    assert read_format(store) == RunFormat(1, SCHEMA_VERSION, "0.1.0", ("noise",))


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"{}", b'{"run_format": "x"}', b"\xff"])
def test_a_format_file_that_cannot_be_understood_is_named(tmp_path, left):
    (tmp_path / FORMAT_FILE).write_bytes(left)
    with pytest.raises(CurateError, match=r"format\.json: cannot be understood"):
        read_format(RunStore(str(tmp_path)))


@pytest.mark.parametrize("newer", ["run_format", "schema_version"])
def test_every_command_refuses_a_newer_run(finished, tmp_path, curate, newer):
    copy = finished.copied_to(tmp_path)
    said = json.loads((copy.output / FORMAT_FILE).read_text())
    (copy.output / FORMAT_FILE).write_text(json.dumps({**said, newer: 9, "written_by": "9.8.7"}))
    contents, pipeline = copy.contents(), copy.file()
    commands = [
        ("run", pipeline),
        ("plan", pipeline),
        ("inspect", copy.output),
        ("report", copy.output),
        ("export", copy.output, "--out", tmp_path / "out"),
        ("verify", copy.output),
        ("clean", copy.output),
        ("run", pipeline, f"--set=output={tmp_path / 'other'}", "--fits-from", copy.output),
    ]
    for command in commands:
        code, _, told = curate(*command)
        assert code == 1, command
        assert "was written by curate 9.8.7 in a newer format" in " ".join(told.split()), command
        assert "Upgrade curate" in told
    assert copy.contents() == contents
