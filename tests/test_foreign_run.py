"""A run directory of somebody else: nothing in it is executed, nothing outside is changed, no traceback."""

import json
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMANDS = ("inspect", "report", "run")


class Pickled:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def artifacts(run):
    return sorted(file for file in (run / "artifacts").rglob("*") if file.is_file() and file.suffix != ".json")


def put_pickles(run, outside):
    for file in artifacts(run):
        file.write_bytes(pickle.dumps(Pickled(outside / "executed")))
    (run / "artifacts" / "noise" / "model.pkl").write_bytes(pickle.dumps(Pickled(outside / "executed")))


def put_lying_headers(run, outside):
    """Headers that claim petabytes, negative offsets, or other types."""
    for number, file in enumerate(artifacts(run)):
        header = json.dumps({"a": {"dtype": "F64", "shape": [10**15], "data_offsets": [0, 8 * 10**15]}}).encode()
        claims = (len(header).to_bytes(8, "little") + header, b"\xff" * 16, b"\x02" + bytes(7) + b"{}", b"")
        file.write_bytes(claims[number % len(claims)])


def set_facts(run, **changes):
    for file in (run / "artifacts").rglob("artifact.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def name_files_outside(run, outside):
    set_facts(run, files=["../../../outside/secret", "/etc/passwd"])


def put_other_json(run, outside):
    for file, text in zip(sorted(run.rglob("*.json")), ["[1]", "null", "7", '"x"', "{}"] * 9, strict=False):
        file.write_text(text)


def put_broken_json(run, outside):
    for file in run.rglob("*.json"):
        file.write_text("[" * 100_000)


def link_folders_out(run, outside):
    for name in ("embed", "annotations", "_state"):
        if (run / name).is_dir():
            shutil.move(run / name, outside / name)
            (run / name).symlink_to(outside / name)


def link_files_out(run, outside):
    for file in [*run.rglob("*.parquet"), *run.rglob("*.json"), *run.rglob("*.jsonl")]:
        file.unlink()
        file.symlink_to(outside / "secret")


def put_other_columns(run, outside):
    for file in (run / "annotations").glob("*.parquet"):
        pq.write_table(pa.table({"x\x1b[31m": [1, 2]}), file)


def put_other_types(run, outside):
    for file in (run / "annotations").glob("*.parquet"):
        table = pq.read_table(file)
        place = table.column_names.index("noise_prob")
        pq.write_table(table.set_column(place, "noise_prob", pa.array(["x"] * table.num_rows)), file)


def cut_files(run, outside):
    for file in run.rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-20])


def put_other_manifest(run, outside):
    pq.write_table(pa.table({"shard": ["../../outside/secret"], "rows": [10**12]}), run / "manifest.parquet")


SPOILS = (
    put_pickles,
    put_lying_headers,
    name_files_outside,
    put_other_json,
    put_broken_json,
    link_folders_out,
    link_files_out,
    put_other_columns,
    put_other_types,
    cut_files,
    put_other_manifest,
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_spoilt_run_is_worked_on_or_refused(finished, tmp_path, curate, spoil, command):
    run = finished.copied_to(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("as it was")
    spoil(run.output, outside)
    before = {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    target = run.file() if command == "run" else run.output
    code, out, err = curate(command, target, *(["--out", tmp_path / "r.html"] if command == "report" else []))
    assert code in (0, 1, 2)
    assert code == 0 or err
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == before
