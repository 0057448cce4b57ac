"""A run whose captions a CoCa checkpoint writes, from its pipeline file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from curate.errors import CurateError
from curate.execution import LocalRunner, execute
from curate.models.weights import file_sha256
from curate.plan import RowStep, make_plan
from curate.store import METADATA_KEY
from tests.conftest import Pipeline, SilentProgress, worked_on
from tests.corpus import write_corpus
from tests.tiny import COCA_IMAGE_SIZE, tiny_coca


def checkpoint(pipeline):
    return pipeline.raw["stages"][-1]["caption"]["coca"]["pretrained"]


def caption_tasks(pipeline):
    """The work of the caption step and its tasks for all parts, nothing being loaded."""
    plan = make_plan(pipeline.config(), LocalRunner(1).index)
    step = next(step for step in plan.steps if isinstance(step, RowStep) and step.name == "caption")
    return step.work, plan.tasks(replace(step, done=frozenset()))


def test_captions_are_written_from_a_pipeline_file(with_coca, tmp_path, curate):
    copy = with_coca.copied_to(tmp_path)
    shutil.rmtree(copy.output / "caption")
    assert curate("run", copy.file(), "--quiet")[0] == 0
    assert copy.contents() == with_coca.contents()
    table = pd.read_parquet(copy.output / "annotations")
    written = table.synthetic_caption.notna()
    assert 10 < written.sum() < len(table)
    assert (table.noise_rank[written] > 0.3).all()
    assert np.isfinite(table.synthetic_score[written]).all()
    assert table.synthetic_caption[written].str.strip().all()
    assert table.synthetic_caption[written].nunique() > 5


def test_the_originals_stay_and_nothing_was_trained(with_coca, finished):
    captions = pd.read_parquet(finished.output / "annotations").caption
    assert pd.read_parquet(with_coca.output / "annotations").caption.tolist() == captions.tolist()
    files = json.loads((with_coca.output / "artifacts/caption/artifact.json").read_text())["files"]
    assert files == ["bank.safetensors", "completion.json"]


def test_files_say_which_checkpoint_wrote(with_coca):
    metadata = pq.read_schema(with_coca.output / "annotations/part-00000000.parquet").metadata[METADATA_KEY]
    coca = json.loads(metadata)["coca"]
    assert coca["weights_sha256"] == file_sha256(Path(checkpoint(with_coca)))
    assert (coca["model"], coca["pretrained"], coca["precision"], coca["longest"]) == ("coca", "local", "fp32", 6)
    assert str(with_coca.output.parent).encode() not in metadata


def test_only_what_hangs_on_a_change_is_done_again(with_coca, tmp_path):
    copy = with_coca.copied_to(tmp_path)
    assert worked_on(copy.run()) == set()
    assert worked_on(copy.run("stages.caption.coca.longest=3")) == {"caption", "annotations"}
    other = tiny_coca(tmp_path / "other", seed=1).pretrained
    assert worked_on(copy.run(f"stages.caption.coca.pretrained={other}")) == {"caption", "annotations"}


def test_the_same_bytes_with_one_worker_and_other_parts(with_coca, tmp_path):
    one = Pipeline(tmp_path, tmp_path / "one", {})
    one.raw = {**with_coca.raw, "output": str(one.output), "input": {**with_coca.raw["input"], "part_rows": 1000}}
    one.run(runner=LocalRunner(1))
    columns = ["row_id", "synthetic_caption", "synthetic_score", "completed_caption", "p_use_synthetic"]
    tables = [pd.read_parquet(run.output / "annotations", columns=columns) for run in (with_coca, one)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_new_shards_are_captioned_with_old_fits(with_coca, tmp_path):
    shards = write_corpus(tmp_path / "shards", count=40, seed=7)
    new = Pipeline(shards, tmp_path / "new", **{name: with_coca.raw[name] for name in ("encoder", "stages")})
    runner = LocalRunner(2)
    execute(make_plan(new.config(), runner.index, fits_from=str(with_coca.output)), runner, SilentProgress())
    table = pd.read_parquet(new.output / "annotations")
    assert table.synthetic_caption.notna().sum() > 5
    assert (new.output / "artifacts/caption/bank.safetensors").read_bytes() == (
        with_coca.output / "artifacts/caption/bank.safetensors"
    ).read_bytes()


def test_only_pictures_that_get_a_caption_are_decoded(with_coca):
    work, tasks = caption_tasks(with_coca)
    tables = [work.head(task) for task in tasks]
    captions = pd.read_parquet(with_coca.output / "caption").synthetic_caption
    pixels = [value for table in tables for value in table["pixels"].to_pylist()]
    assert [value is not None for value in pixels] == captions.notna().tolist()
    assert {len(value) for value in pixels if value is not None} == {COCA_IMAGE_SIZE * COCA_IMAGE_SIZE * 3}
    # A null takes no memory on the way to the model.
    assert sum(table["pixels"].nbytes for table in tables) < 2000 * captions.notna().sum()


def test_pictures_are_those_of_their_rows(with_coca, monkeypatch):
    work, tasks = caption_tasks(with_coca)
    for task in tasks[:2]:
        everything = work.coca.pixels(task, np.arange(task.part.rows)).to_pylist()
        assert len(set(everything)) > 10
        monkeypatch.setattr("curate.steps.DECODE_BATCH_ROWS", 7)
        pixels = work.head(task)["pixels"].to_pylist()
        monkeypatch.undo()
        assert any(pixels)
        assert all(some in (None, whole) for some, whole in zip(pixels, everything, strict=True))


def test_a_part_without_doubtful_rows_reads_no_shard(with_coca):
    work, tasks = caption_tasks(with_coca)
    gone = [replace(task, shard=replace(task.shard, uri="/no/such.tar")) for task in tasks]
    never = replace(work, how=replace(work.how, when="noise_prob > 2"))
    assert never.head(gone[0])["pixels"].null_count == gone[0].part.rows
    with pytest.raises(CurateError, match=r"such\.tar"):
        [work.head(task) for task in gone]


def test_a_checkpoint_that_does_not_fit_is_your_input(with_coca, tiny_encoder, tmp_path, curate):
    copy = with_coca.copied_to(tmp_path)
    wrong = f"stages.caption.coca.pretrained={tiny_encoder['pretrained']}"
    code, _, told = curate("run", copy.file(), "--set", wrong, "--quiet")
    assert code == 2
    assert f"caption.coca.pretrained: {tiny_encoder['pretrained']}: this checkpoint does not fit coca" in told
    assert "missing: text.cls_emb" in told


def test_a_model_that_does_not_write_is_your_input(with_coca, tmp_path, curate):
    copy = with_coca.copied_to(tmp_path)
    code, _, told = curate("run", copy.file(), "--set", "stages.caption.coca.model=ViT-B-32", "--quiet")
    assert code == 2
    assert "caption.coca.model: ViT-B-32 has no text decoder" in told
