"""What trainers and tables get: the chosen pairs, whole, and nothing else."""

import json
import tarfile

import pandas as pd
import pyarrow.parquet as pq
import pytest

from curate.errors import CurateError, InputError
from curate.export.selection import Selection
from curate.export.table import export_table
from curate.export.webdataset import SIZES_FILE, export_webdataset, extension
from curate.plan import source_options
from curate.sources import open_source
from curate.store import RunStore


@pytest.fixture
def store(finished):
    return RunStore(str(finished.output))


@pytest.fixture
def source(finished):
    return open_source(source_options(finished.config()))


@pytest.fixture
def annotations(finished):
    return pd.read_parquet(finished.output / "annotations")


def members(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            found[path.name] = [(member.name, archive.extractfile(member).read()) for member in archive]
    return found


def test_shards_hold_the_chosen_pairs_with_their_pictures_byte_for_byte(store, source, annotations, shards, tmp_path):
    sizes = export_webdataset(store, source, tmp_path, Selection("noise_rank < 0.5"), 30)
    wanted = annotations[annotations.noise_rank < 0.5]
    assert sum(sizes.values()) == len(wanted)
    assert max(sizes.values()) <= 30
    assert json.loads((tmp_path / SIZES_FILE).read_text()) == sizes
    shards_out = members(tmp_path)
    assert {name: len(held) // 3 for name, held in shards_out.items()} == sizes
    originals = {name: data for held in members(shards).values() for name, data in held}
    everything = [member for held in shards_out.values() for member in held]
    records = [json.loads(data) for name, data in everything if name.endswith(".json")]
    assert [record["row_id"] for record in records] == wanted.row_id.tolist()
    pictures = [data for name, data in everything if name.endswith(".png")]
    assert pictures == [originals[f"{key}.png"] for key in wanted.key]
    assert [data.decode() for name, data in everything if name.endswith(".txt")] == wanted.caption.tolist()


def test_keys_are_unique_and_group_by_webdatasets_rule(store, source, tmp_path):
    export_webdataset(store, source, tmp_path, Selection(), 100)
    names = [name for held in members(tmp_path).values() for name, _ in held]
    assert len(set(names)) == len(names) == 3 * 160
    assert [name.split(".")[1] for name in names[:3]] == ["png", "txt", "json"]


def test_curate_reads_what_it_exported(store, source, tmp_path):
    sizes = export_webdataset(store, source, tmp_path, Selection(columns=("noise_prob",)), 100)
    again = open_source(source.options.__class__("webdataset", (str(tmp_path / "*.tar"),)))
    rows = [
        row
        for shard in again.list_shards()
        for part in again.index(shard).parts
        for table in again.read(shard, part, 50)
        for row in table.to_pylist()
    ]
    assert len(rows) == sum(sizes.values())
    assert {row["status"] for row in rows} == {"ok"}


def test_nothing_chosen_leaves_no_shard_but_its_sizes(store, source, tmp_path):
    assert export_webdataset(store, source, tmp_path, Selection("noise_prob > 2"), 10) == {}
    assert json.loads((tmp_path / SIZES_FILE).read_text()) == {}


def test_an_input_that_is_gone_is_said(store, finished, tmp_path):
    options = source_options(finished.config())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "other.tar").write_bytes(b"")
    gone = open_source(options.__class__("webdataset", (str(tmp_path / "in" / "*.tar"),)))
    with pytest.raises(CurateError, match="does not have this file any more"):
        export_webdataset(store, gone, tmp_path, Selection(), 10)


def test_tables_hold_the_chosen_rows_and_columns(store, annotations, tmp_path):
    columns = ("key", "noise_prob", "signals")
    written = export_table(store, tmp_path, Selection("noise_rank < 0.5", columns), "parquet", 50)
    wanted = annotations[annotations.noise_rank < 0.5][list(columns)].reset_index(drop=True)
    assert sum(written.values()) == len(wanted)
    assert all(rows == 50 for rows in list(written.values())[:-1])
    pd.testing.assert_frame_equal(
        pd.concat([pd.read_parquet(tmp_path / n) for n in written], ignore_index=True), wanted
    )


def test_csv_is_flat(store, annotations, tmp_path):
    (name,) = export_table(store, tmp_path, Selection(), "csv", 10_000)
    table = pd.read_csv(tmp_path / name, dtype={"key": str})
    assert table.key.tolist() == annotations.key.tolist()
    assert table["signals.crossfit_csls"].notna().all()
    assert not {"signals", "caption_bytes"} & set(table.columns)


def test_nothing_chosen_is_a_table_without_rows(store, tmp_path):
    (name,) = export_table(store, tmp_path, Selection("noise_prob > 2", ("key",)), "parquet", 10)
    assert pq.read_table(tmp_path / name).num_rows == 0


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (Selection(columns=("key", "nose")), "--columns nose: not in the annotations"),
        (Selection(where="nose_prob < 1"), "Did you mean noise_prob"),
    ],
)
def test_what_the_run_does_not_have_is_your_input(store, selection, told, tmp_path):
    with pytest.raises(InputError, match=told):
        export_table(store, tmp_path, selection, "parquet", 10)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_named_by_what_they_are():
    starts = {b"\xff\xd8\xff\xe0": "jpg", b"\x89PNG\r\n": "png", b"RIFF1234WEBPVP8": "webp", b"GIF89a": "gif"}
    assert {extension(start): kind for start, kind in starts.items()} == {kind: kind for kind in starts.values()}
