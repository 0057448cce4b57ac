"""A run as Python sees it: tables, pairs with pictures, counts; and what is said when something is not there."""

import io
import json
import tracemalloc
from itertools import islice

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import curate
from curate.errors import CurateError, InputError
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_corpus, write_shard


@pytest.fixture(scope="module")
def run(with_noise):
    return curate.open(with_noise.output, pipeline=with_noise.raw)


@pytest.fixture(scope="module")
def truth(with_noise):
    """The annotations as pandas reads them."""
    return pd.read_parquet(with_noise.output / "annotations")


@pytest.fixture(scope="module")
def damaged(tiny_encoder, tmp_path_factory):
    """A run of embeddings over pairs of which two have no usable picture."""
    folder = tmp_path_factory.mktemp("damaged")
    image = make_pairs(1)[0][0]
    members = [("a.png", image), ("a.txt", b"fine"), ("b.png", b"nothing"), ("b.txt", b"broken"), ("c.txt", b"none")]
    write_shard(folder / "s" / "0.tar", members)
    pipeline = Pipeline(folder / "s", folder / "run", tiny_encoder, stages=["embed"])
    return curate.run(pipeline.raw)


def test_tables_are_the_annotations(run, truth):
    assert run.to_pandas().equals(truth)
    table = run.to_arrow()
    assert table.schema.equals(run.schema, check_metadata=True)
    assert table.column_names == run.columns == list(truth.columns)
    assert run.schema.field("noise_prob").metadata == {b"direction": b"higher is noisier"}


def test_columns_and_conditions_choose(run, truth):
    where = "noise_prob < 0.5 and signals.clip_similarity > 0 and label != 'uncertain'"
    similarity = truth.signals.map(lambda signals: signals["clip_similarity"])
    kept = truth[(truth.noise_prob < 0.5) & (similarity > 0) & (truth.label != "uncertain")]
    assert 0 < len(kept) < len(truth)
    found = run.to_pandas(["label", "row_id"], where)
    assert found.columns.tolist() == ["label", "row_id"]
    assert found.row_id.tolist() == kept.row_id.tolist()
    assert [pair.row_id for pair in run.pairs(where)] == kept.row_id.tolist()


def test_pairs_have_the_bytes_of_their_pictures_and_the_columns_that_were_asked_for(run, truth):
    images = [image for image, _ in make_pairs(160)]
    pairs = list(run.pairs(columns=["noise_prob", "label"]))
    assert [pair.image for pair in pairs] == images
    assert [pair["noise_prob"] for pair in pairs] == truth.noise_prob.tolist()
    assert pairs[0].annotations.keys() == {"row_id", "key", "caption", "noise_prob", "label"}
    assert (pairs[3].key, pairs[3].caption) == ("000000003", truth.caption[3])
    picture = pairs[3].picture()
    assert picture.tobytes() == Image.open(io.BytesIO(images[3])).convert("RGB").tobytes()
    assert set(next(run.pairs()).annotations) == set(run.columns)


def test_a_pair_says_what_it_is_and_not_its_bytes(run):
    pair = next(run.pairs(columns=["label"]))
    assert repr(pair).startswith("Pair('00000.tar:0', '")
    assert repr(pair).endswith(f"', {len(pair.image):,} bytes of image, 4 columns)")


def test_counts_and_length_are_those_of_the_annotations(run, truth):
    assert run.counts == truth.label.value_counts().to_dict()
    assert len(run) == 160
    told = repr(run)
    assert told.startswith(f"Run('{run.url}': 160 pairs: ")
    assert all(f"{count} {label}" in told for label, count in run.counts.items())
    assert run.summary(top=3).labels == {"clean": 0, "uncertain": 0, "noisy": 0, **run.counts}


def test_provenance_says_what_made_it(run):
    assert run.provenance["encoder"]["precision"] == "fp32"
    assert "annotations" in run.provenance["versions"]
    json.dumps(run.provenance)


def test_pairs_that_cannot_be_used_are_there_and_counted(damaged):
    assert damaged.counts == {"corrupt_image": 1, "missing_image": 1, "ok": 1}
    fine, broken, without = damaged.pairs(columns=["status"])
    assert fine.picture().size == (48, 48)
    assert broken.image == b"nothing"
    with pytest.raises(CurateError, match=r"0\.tar:1: the picture cannot be decoded"):
        broken.picture()
    assert without.image is None
    assert "no image" in repr(without)
    with pytest.raises(CurateError, match="this pair has no picture"):
        without.picture()


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda run: run.to_arrow(["captoin"]), "columns: captoin: not in the annotations, which have row_id, key"),
        (lambda run: run.to_arrow("caption"), r"columns: must be a list of names, such as \['caption'\]"),
        (lambda run: run.to_arrow(where="noise < 1"), "^where noise < 1: there is no column 'noise'. Did you mean"),
        (lambda run: run.to_arrow(where="noise_prob < 'a'"), "^where noise_prob < 'a': these cannot be compared"),
        (lambda run: run.pairs(where="noise_prob <"), "^where noise_prob <: not a condition"),
        (lambda run: run.pairs(columns=["x"]), "columns: x: not in the annotations"),
    ],
)
def test_what_is_not_there_is_told_at_once(run, ask, told):
    with pytest.raises(InputError, match=told):
        ask(run)


def test_a_run_reads_its_pictures_from_where_its_pipeline_says(with_noise, tmp_path):
    copy = with_noise.copied_to(tmp_path)
    moved = curate.open(copy.output)
    with pytest.raises(InputError, match="does not say where its input is"):
        moved.pairs()
    raw = {**copy.raw, "input": {**copy.raw["input"], "path": "nowhere/*.tar"}}
    with pytest.raises(InputError, match="matches no file"):
        next(curate.open(copy.output, pipeline=raw).pairs())
    assert next(curate.open(copy.output, pipeline=copy.raw).pairs()).key == "000000000"


def test_input_that_changed_since_is_told(with_noise, tmp_path):
    copy = with_noise.copied_to(tmp_path)
    shards = write_corpus(tmp_path / "shards", count=120)
    raw = {**copy.raw, "input": {**copy.raw["input"], "path": str(shards / "*.tar")}}
    with pytest.raises(CurateError, match=r"00003\.tar: the input does not have this file any more"):
        list(curate.open(copy.output, pipeline=raw).pairs())


def test_a_broken_file_is_told(with_noise, tmp_path):
    copy = with_noise.copied_to(tmp_path)
    (copy.output / "annotations" / "part-00000003.parquet").write_bytes(b"no Parquet")
    with pytest.raises(CurateError, match="annotations cannot be read"):
        curate.open(copy.output).to_arrow()
    (copy.output / "annotations" / "part-00000000.parquet").write_bytes(b"no Parquet")
    with pytest.raises(CurateError, match=r"part-00000000\.parquet: cannot be read"):
        curate.open(copy.output)


def test_a_run_on_an_object_store_is_opened_by_its_url(with_noise, truth, tmp_path):
    url = f"memory://{tmp_path.name}/run"
    store = fsspec.filesystem("memory")
    store.put(str(with_noise.output), f"/{tmp_path.name}/run", recursive=True)
    run = curate.open(url, pipeline=with_noise.raw)
    assert run.to_pandas().equals(truth)
    assert next(run.pairs()).image == make_pairs(1)[0][0]


def test_pairs_hold_a_few_pictures_at_a_time(tiny_encoder, tmp_path):
    noise = Image.effect_noise((700, 700), 90).convert("RGB")
    sink = io.BytesIO()
    noise.save(sink, "BMP")
    members = [(f"{n:03d}.{end}", data) for n in range(200) for end, data in (("bmp", sink.getvalue()), ("txt", b"x"))]
    write_shard(tmp_path / "s" / "0.tar", members)
    pipeline = Pipeline(tmp_path / "s", tmp_path / "run", tiny_encoder, stages=["embed"])
    pipeline.raw["input"]["part_rows"] = 1000
    run = curate.run(pipeline.raw, workers=1)
    tracemalloc.start()
    assert sum(len(pair.image) for pair in islice(run.pairs(), 200)) > 290_000_000
    peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes()
    tracemalloc.stop()
    assert peak < 250_000_000


def test_reading_a_run_imports_no_stage_of_the_users_own(with_noise, tmp_path):
    copy = with_noise.copied_to(tmp_path)
    stages = {"embed": {}, "python": [{"stage": "there_is_no_such_module:Stage"}]}
    held = {"folder": str(tmp_path), "pipeline": {**copy.raw, "stages": stages}}
    (copy.output / "_state" / "pipeline.json").write_text(json.dumps(held))
    assert next(curate.open(copy.output).pairs()).key == "000000000"


def test_a_file_of_an_unfinished_extension_is_not_counted_before_it_is_there(with_noise, tmp_path):
    copy = with_noise.copied_to(tmp_path)
    (copy.output / "annotations" / "part-00000007.parquet").unlink()
    assert len(curate.open(copy.output)) == 145
