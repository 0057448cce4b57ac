"""What a run promises: one row per pair, nothing done twice, the same bytes however it is carried out."""

import json
import random
import re
import shutil
import socket
import struct

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import CurateError, InputError
from curate.execution import LocalRunner
from curate.schema import ANNOTATION_SCHEMA, NOISE_SCHEMA
from curate.store import METADATA_KEY, RunStore
from curate.verify import verify_run
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_corpus, write_shard


@pytest.fixture
def copied(finished, tmp_path):
    """A finished run with a corpus of its own, both free to be changed. The copy keeps all times."""
    copy = Pipeline(tmp_path / "shards", tmp_path / "run", finished.raw["encoder"])
    write_corpus(tmp_path / "shards")
    shutil.copytree(finished.output, copy.output)
    copy.run()
    return copy


def touched(pipeline, before):
    """Files outside _state that were written since `before`, a dict of name -> mtime."""
    return {name for name, time in times(pipeline).items() if before.get(name) != time}


def times(pipeline):
    return {name: (pipeline.output / name).stat().st_mtime_ns for name in pipeline.contents()}


def shuffled_corpus(folder):
    """The pairs of the finished run, each with its key, in another order and other shards."""
    pairs = list(enumerate(make_pairs(160)))
    random.Random(3).shuffle(pairs)
    for shard, taken in enumerate((pairs[:15], pairs[15:100], pairs[100:])):
        members = [(f"{n:09d}.{ext}", data) for n, (i, c) in taken for ext, data in (("png", i), ("txt", c.encode()))]
        write_shard(folder / f"{shard}.tar", members)
    return folder


def noise_by_key(pipeline):
    """Every noise column and cluster of each pair, floats as their bits, other pairs by their keys."""
    table = pq.read_table(pipeline.output / "annotations").sort_by("key")
    assert table.num_rows == 160
    names = [*NOISE_SCHEMA.names, "near_duplicate_cluster"]
    made = {name: as_bits(table.column(name).combine_chunks()) for name in ["key", *names]}
    key_of = dict(zip(table.column("row_id").to_pylist(), made["key"], strict=True))
    entries = {name: [row and key_of[row] for row in made[name]] for name in ("memory_image", "memory_text")}
    return {**made, **entries}


def as_bits(array):
    if pa.types.is_struct(array.type):
        return {field.name: as_bits(array.field(field.name)) for field in array.type}
    if pa.types.is_floating(array.type):
        return [None if value is None else struct.pack("<d", value) for value in array.to_pylist()]
    return array.to_pylist()


def test_every_pair_is_annotated_once_in_input_order(finished):
    table = pd.read_parquet(finished.output / "annotations")
    assert list(table.columns) == ANNOTATION_SCHEMA.names
    assert table.key.tolist() == [f"{n:09d}" for n in range(160)]
    assert table.row_id.is_unique
    assert table.caption.tolist() == [caption for _, caption in make_pairs(160)]
    assert (table.status == "ok").all()
    assert table.noise_prob.between(0, 1).all()
    assert set(table.label) <= {"clean", "uncertain", "noisy"}


def test_the_provenance_of_every_score_is_in_the_file(finished):
    metadata = pq.read_schema(finished.output / "annotations" / "part-00000000.parquet").metadata
    facts = json.loads(metadata[METADATA_KEY])
    assert facts["schema_version"] == 1
    assert len(facts["encoder"]["weights_sha256"]) == 64
    assert {"precision", "interpolation", "resize_mode", "libraries"} <= set(facts["encoder"])
    assert facts["decode"]["mode"] == "exact"
    assert facts["noise"]["folds"] == 3
    assert facts["noise"]["seed"] == 0


def test_parts_keep_their_limit(finished):
    manifest = pd.read_parquet(finished.output / "manifest.parquet")
    assert manifest.rows.max() <= 25
    assert manifest.rows.sum() == 160


def test_a_second_run_does_nothing(copied):
    before = times(copied)
    heard = copied.run()
    assert heard.parts == []
    assert touched(copied, before) == set()
    assert copied.wrong() == {}


def test_losing_the_state_folder_loses_nothing(copied):
    before = times(copied)
    shutil.rmtree(copied.output / "_state")
    assert copied.run().parts == []
    assert touched(copied, before) == set()
    assert copied.wrong() == {}


def test_leftovers_of_a_killed_run_are_removed(copied):
    contents = copied.contents()
    for folder in ("", "_state", "embed", "noise", "duplicates", "annotations", "artifacts/noise"):
        (copied.output / folder / ".tmp-1-part-00000000.parquet").write_bytes(b"half")
    copied.run()
    assert copied.contents() == contents
    assert not list(copied.output.rglob(".tmp-*"))


def test_a_deleted_column_file_is_redone_alone(copied):
    contents = copied.contents()
    (copied.output / "embed" / "part-00000003.parquet").unlink()
    assert copied.run().parts == [("embed", 3)]
    assert copied.contents() == contents


def test_a_broken_column_file_is_redone(copied):
    contents = copied.contents()
    (copied.output / "noise" / "part-00000002.parquet").write_bytes(b"PAR1 broken")
    assert copied.run().parts == [("noise", 2)]
    assert copied.contents() == contents


def test_another_threshold_redoes_only_what_hangs_on_it(copied):
    before = times(copied)
    heard = copied.run("stages.noise.noisy_above=0.9")
    assert {name for name, _ in heard.parts} == {"noise", "annotations"}
    assert not any(name.startswith(("embed", "artifacts")) for name in touched(copied, before))


def test_another_seed_does_not_embed_again(copied):
    heard = copied.run("seed=1")
    assert {name for name, _ in heard.parts} == {"noise", "annotations"}
    redone = [report.name for report in heard.steps if report.rows]
    assert redone == ["noise fit", "noise", "duplicates", "annotations"]


def test_a_touched_shard_with_the_same_content_costs_nothing(copied):
    path = copied.output.parent / "shards" / "00001.tar"
    path.touch()
    before = times(copied)
    assert copied.run().parts == []
    assert touched(copied, before) == set()


def test_a_new_shard_becomes_new_parts_and_old_ones_are_not_embedded_again(copied):
    pairs = make_pairs(30, seed=5)
    members = [
        (f"x{n}.{ext}", data) for n, (i, c) in enumerate(pairs) for ext, data in (("png", i), ("txt", c.encode()))
    ]
    write_shard(copied.output.parent / "shards" / "00000a.tar", members)
    heard = copied.run()
    assert {number for name, number in heard.parts if name == "embed"} == {8, 9}
    assert pd.read_parquet(copied.output / "annotations").key.tolist()[160:] == [f"x{n}" for n in range(30)]


def test_a_changed_shard_is_redone_under_its_old_numbers(copied):
    shards = copied.output.parent / "shards"
    other = write_corpus(copied.output.parent / "other", seed=9)
    shutil.copy(other / "00001.tar", shards / "00001.tar")
    heard = copied.run()
    assert {number for name, number in heard.parts if name == "embed"} == {2, 3}
    assert len(pd.read_parquet(copied.output / "annotations")) == 160


def test_a_vanished_shard_takes_its_parts_along(copied):
    (copied.output.parent / "shards" / "00003.tar").unlink()
    heard = copied.run()
    assert not any(name == "embed" for name, _ in heard.parts)
    assert len(pd.read_parquet(copied.output / "annotations")) == 120
    assert not (copied.output / "embed" / "part-00000007.parquet").exists()


def test_one_and_four_workers_give_the_same_bytes(finished, tmp_path):
    for workers in (1, 4):
        other = Pipeline(tmp_path, tmp_path / str(workers), finished.raw["encoder"])
        other.raw["input"] = finished.raw["input"]
        other.run(runner=LocalRunner(workers))
        assert other.contents() == finished.contents()


def test_no_file_names_a_path_or_the_machine(finished):
    forbidden = re.compile(rf"\b{re.escape(socket.gethostname())}\b|\bworkers\b|\brunner\b")
    for name, data in finished.contents().items():
        assert str(finished.output.parent).encode() not in data, name
        facts = pq.read_schema(finished.output / name).metadata[METADATA_KEY] if name.endswith("parquet") else data
        assert not name.endswith((".parquet", ".json")) or not forbidden.search(facts.decode()), name


@pytest.mark.parametrize(("part_rows", "workers"), [(1000, 1), (7, 4)])
def test_neither_order_nor_part_size_nor_workers_change_a_bit_of_any_pair(finished, tmp_path, part_rows, workers):
    other = Pipeline(shuffled_corpus(tmp_path / "shuffled"), tmp_path / "run", finished.raw["encoder"])
    other.raw["input"]["part_rows"] = part_rows
    other.run(runner=LocalRunner(workers))
    assert noise_by_key(other) == noise_by_key(finished)


@pytest.mark.parametrize(("limit", "rows"), [(130, 145), (20, 20)])
def test_a_trial_takes_the_first_pairs_and_leaves_the_real_run_alone(copied, limit, rows):
    contents = copied.contents()
    copied.raw["stages"] = ["embed"]
    copied.run(limit=limit)
    trial = pd.read_parquet(copied.output.parent / f"run-limit-{limit}" / "annotations")
    assert trial.key.tolist() == [f"{n:09d}" for n in range(rows)]
    assert verify_run(RunStore(f"{copied.output}-limit-{limit}")).ok
    assert copied.contents() == contents


def test_a_shard_that_changes_while_running_fails_only_its_parts(pipeline, tmp_path):
    from curate.execution import execute
    from curate.plan import make_plan
    from tests.conftest import SilentProgress

    pipeline.raw["input"]["path"] = str(write_corpus(tmp_path / "mine") / "*.tar")
    runner = LocalRunner(2)
    plan = make_plan(pipeline.config(), runner.index)
    (tmp_path / "mine" / "00002.tar").unlink()
    with pytest.raises(CurateError, match=r"embed: 2 of 8 parts could not be done"):
        execute(plan, runner, SilentProgress())
    done = sorted(path.name for path in (pipeline.output / "embed").iterdir())
    assert len(done) == 6


def test_an_input_without_pairs_is_input_error(pipeline, tmp_path):
    write_shard(tmp_path / "empty" / "0.tar", [])
    pipeline.raw["input"]["path"] = str(tmp_path / "empty" / "*.tar")
    with pytest.raises(InputError, match="not one pair"):
        pipeline.run()


def test_too_few_pairs_for_noise_are_told(pipeline, tmp_path):
    write_corpus(tmp_path / "few", count=20)
    pipeline.raw["input"]["path"] = str(tmp_path / "few" / "*.tar")
    with pytest.raises(CurateError, match="at least 100 usable pairs"):
        pipeline.run()


def test_embedding_alone_is_a_pipeline(pipeline):
    pipeline.raw["stages"] = ["embed"]
    pipeline.run()
    table = pd.read_parquet(pipeline.output / "annotations")
    assert len(table) == 160
    assert table.noise_prob.isna().all()


def test_a_run_on_an_object_store_has_the_same_bytes(finished, tmp_path):
    url = f"memory://{tmp_path.name}/run"
    other = Pipeline(tmp_path, tmp_path / "unused", finished.raw["encoder"])
    other.raw.update(input=finished.raw["input"], output=url)
    other.run()
    assert other.run().parts == []
    store = fsspec.filesystem("memory")
    for name, data in finished.contents().items():
        assert store.cat_file(f"/{tmp_path.name}/run/{name}") == data, name


def test_a_run_tells_of_every_step_and_counts_pairs_by_status(pipeline, tmp_path):
    pairs = make_pairs(130)
    members = [
        (f"{n:03}.{ext}", data) for n, (i, c) in enumerate(pairs) for ext, data in (("png", i), ("txt", c.encode()))
    ]
    members[0] = ("000.png", b"no picture")
    write_shard(tmp_path / "mine" / "0.tar", members)
    pipeline.raw["input"]["path"] = str(tmp_path / "mine" / "*.tar")
    heard = pipeline.run()
    assert heard.statuses == {"ok": 129, "corrupt_image": 1}
    told = {start.name: start for start in heard.started}
    assert [*told] == ["embed", "noise fit", "noise", "duplicates", "annotations"]
    embed = told["embed"]
    assert (embed.rows, embed.rows_done, embed.parts, embed.parts_done, embed.workers) == (130, 0, 6, 0, 2)
    assert told["noise fit"].about == "at most 130 pairs, 3 folds, 1 rounds"
    (pipeline.output / "embed" / "part-00000005.parquet").unlink()
    again = pipeline.run().started[0]
    assert (again.rows, again.rows_done, again.parts, again.parts_done, again.workers) == (130, 125, 6, 5, 1)
