"""What trainers and tables get: the chosen pairs, whole, and nothing else."""

import json
import tarfile
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from webdataset.shardlists import expand_urls

from curate.errors import CurateError, InputError
from curate.export.drawing import COMPLETED_WEIGHT, draw_weights, weight_groups
from curate.export.huggingface import export_huggingface
from curate.export.pictures import extension
from curate.export.selection import Selection, usable
from curate.export.table import export_table
from curate.export.webdataset import SIZES_FILE, export_webdataset
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


@pytest.fixture
def completed_store(completed):
    return RunStore(str(completed.output))


def records(folder):
    """The .json members of the shards in a folder, in order."""
    everything = [member for held in members(folder).values() for member in held]
    return [json.loads(data) for name, data in everything if name.endswith(".json")]


def texts(folder):
    """The .txt members likewise."""
    return [data.decode() for held in members(folder).values() for name, data in held if name.endswith(".txt")]


def members(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            found[path.name] = [(member.name, archive.extractfile(member).read()) for member in archive]
    return found


def test_shards_hold_the_chosen_pairs_with_their_pictures_byte_for_byte(store, source, annotations, shards, tmp_path):
    sizes = export_webdataset(store, source, tmp_path, Selection("noise_rank < 0.5"), 30).sizes
    wanted = annotations[annotations.noise_rank < 0.5]
    assert sum(sizes.values()) == len(wanted)
    assert max(sizes.values()) <= 30
    assert json.loads((tmp_path / SIZES_FILE).read_text()) == sizes
    shards_out = members(tmp_path)
    assert {name: len(held) // 3 for name, held in shards_out.items()} == sizes
    originals = {name: data for held in members(shards).values() for name, data in held}
    everything = [member for held in shards_out.values() for member in held]
    assert [record["row_id"] for record in records(tmp_path)] == wanted.row_id.tolist()
    pictures = [data for name, data in everything if name.endswith(".png")]
    assert pictures == [originals[f"{key}.png"] for key in wanted.key]
    assert texts(tmp_path) == wanted.caption.tolist()


def test_keys_are_unique_and_group_by_webdatasets_rule(store, source, tmp_path):
    export_webdataset(store, source, tmp_path, Selection(), 100)
    names = [name for held in members(tmp_path).values() for name, _ in held]
    assert len(set(names)) == len(names) == 3 * 160
    assert [name.split(".")[1] for name in names[:3]] == ["png", "txt", "json"]


def test_curate_reads_what_it_exported(store, source, tmp_path):
    sizes = export_webdataset(store, source, tmp_path, Selection(columns=("noise_prob",)), 100).sizes
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
    assert export_webdataset(store, source, tmp_path, Selection("noise_prob > 2"), 10).groups == ()
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


def test_hints_for_trainers_are_in_the_json_of_each_pair(store, source, annotations, tmp_path):
    export_webdataset(store, source, tmp_path, Selection(), 100)
    found = pd.DataFrame(records(tmp_path))
    for name in ("noise_prob", "smoothing", "weight", "margin_image", "margin_text"):
        np.testing.assert_array_equal(found[name].astype(np.float32), annotations[name])


def test_a_trainer_gets_the_completed_captions(completed_store, source, completed, tmp_path):
    export_webdataset(completed_store, source, tmp_path, Selection(caption="completed"), 100)
    assert texts(tmp_path) == pd.read_parquet(completed.output / "annotations").completed_caption.tolist()


def test_a_trainer_that_mixes_gets_both_captions_and_how_often_to_take_which(
    completed_store, source, completed, tmp_path
):
    written = export_webdataset(completed_store, source, tmp_path, Selection(None, ("label",), "both"), 100)
    annotated = pd.read_parquet(completed.output / "annotations")
    found = pd.DataFrame(records(tmp_path))
    assert list(found) == ["key", "row_id", "caption", "label", "completed_caption", "p_use_synthetic"]
    assert found.caption.tolist() == texts(tmp_path) == annotated.caption.tolist()
    assert found.completed_caption.tolist() == annotated.completed_caption.tolist()
    changed = annotated[annotated.caption_source != "original"]
    assert 0 < len(changed) < len(annotated)
    assert written.p_completed == pytest.approx(changed.p_use_synthetic.mean())


@pytest.mark.parametrize("caption", ["completed", "both"])
def test_both_captions_need_a_run_that_completes_them(store, source, caption, tmp_path):
    with pytest.raises(InputError, match=f"--caption {caption}: this run completed no captions"):
        export_webdataset(store, source, tmp_path, Selection(caption=caption), 100)


def test_a_picture_without_a_caption_is_usable_once_it_has_a_synthetic_one():
    status = ["ok", "missing_caption", "missing_caption", "empty_caption", "corrupt_image"]
    source = ["original", "synthetic", None, "original", "original"]
    table = pa.table({"status": status, "caption_source": source, "row": range(5)})
    assert usable(table, "original")["row"].to_pylist() == [0]
    assert usable(table, "completed")["row"].to_pylist() == usable(table, "both")["row"].to_pylist() == [0, 1]


def test_weighted_shards_hold_every_pair_once_beside_pairs_that_are_drawn_alike(store, source, annotations, tmp_path):
    written = export_webdataset(store, source, tmp_path, Selection(), 20, weighted=True)
    assert sum(written.sizes.values()) == len(annotations)
    assert max(written.sizes.values()) <= 20
    assert json.loads((tmp_path / SIZES_FILE).read_text()) == written.sizes
    shards_out = members(tmp_path)
    assert {name: len(held) // 3 for name, held in shards_out.items()} == written.sizes
    seen = Counter()
    for group in written.groups:
        held = [json.loads(data) for name in group.sizes for key, data in shards_out[name] if key.endswith(".json")]
        weights = [1 - record["noise_prob"] for record in held]
        assert max(weights) - min(weights) <= 1 / 8
        assert group.weight == pytest.approx(np.mean(weights))
        assert expand_urls(group.pattern) == list(group.sizes)
        seen.update(record["row_id"] for record in held)
    assert seen == Counter(annotations.row_id.tolist())
    keys = [name for held in shards_out.values() for name, _ in held]
    assert len(set(keys)) == len(keys)


def test_an_error_leaves_no_half_shard(store, source, tmp_path):
    class Breaks:
        def list_shards(self):
            return source.list_shards()

        def read(self, shard, part, batch_rows):
            if part.first_row:
                raise CurateError("gone")
            yield from source.read(shard, part, batch_rows)

    with pytest.raises(CurateError, match="gone"):
        export_webdataset(store, Breaks(), tmp_path, Selection(), 10, weighted=True)
    for path in tmp_path.iterdir():
        with tarfile.open(path) as archive:
            assert len(archive.getnames()) == 30


def test_a_completed_pair_is_drawn_by_one_half_if_its_caption_is_used():
    source = ["original", None, "synthetic", "merged"]
    table = pa.table({"noise_prob": [0.0, 0.25, 0.9, None], "caption_source": source})
    np.testing.assert_allclose(draw_weights(table, "completed"), [1, 0.75, COMPLETED_WEIGHT, COMPLETED_WEIGHT])
    np.testing.assert_allclose(draw_weights(table.slice(0, 3), "original"), [1, 0.75, 0.1])
    with pytest.raises(InputError, match="no noise_prob"):
        draw_weights(table, "original")


def test_groups_of_weights_cover_zero_and_one():
    assert weight_groups(np.array([1.0, 0.875, 0.874, 0.125, 0.0])).tolist() == [0, 0, 1, 6, 7]


def test_pictures_in_parquet_are_marked_and_named_by_what_they_are(store, source, annotations, shards, tmp_path):
    written = export_huggingface(store, source, tmp_path, Selection("noise_rank < 0.5", ("key", "caption")), 30)
    wanted = annotations[annotations.noise_rank < 0.5]
    assert sum(written.values()) == len(wanted)
    assert max(written.values()) <= 30
    table = pa.concat_tables([pq.read_table(tmp_path / name) for name in written])
    assert table.column_names == ["image", "key", "caption"]
    assert table["key"].to_pylist() == wanted.key.tolist()
    originals = {name: data for held in members(shards).values() for name, data in held}
    pictures = table["image"].to_pylist()
    assert [picture["bytes"] for picture in pictures] == [originals[f"{key}.png"] for key in wanted.key]
    assert [picture["path"] for picture in pictures[:2]] == ["000000000.png", "000000001.png"]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}}
    assert b"curate" in table.schema.metadata


def test_curate_reads_the_parquet_with_pictures_that_it_exported(store, source, annotations, tmp_path):
    export_huggingface(store, source, tmp_path, Selection(columns=("caption",)), 100)
    again = open_source(source.options.__class__("parquet", (str(tmp_path / "*.parquet"),)))
    rows = [
        row
        for shard in again.list_shards()
        for part in again.index(shard).parts
        for table in again.read(shard, part, 50)
        for row in table.to_pylist()
    ]
    assert [row["caption"] for row in rows] == annotations.caption.tolist()
    assert {row["status"] for row in rows} == {"ok"}
