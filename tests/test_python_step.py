"""Stages of the user's own in a run: their columns, what runs again when, and what is said when they go wrong."""

import json
import pickle
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import CurateError
from curate.execution import LocalRunner
from curate.plan import make_plan
from curate.store import METADATA_KEY
from tests.conftest import Pipeline, worked_on
from tests.corpus import write_shard

LENGTHS = '''
import pyarrow as pa
import pyarrow.compute as pc
import curate

class Lengths(curate.Stage):
    """Words of a caption, and whether there are many."""

    requires = ("caption", "noise_prob")
    provides = pa.schema([pa.field("words", pa.int32()), pa.field("long", pa.bool_(), metadata={"unit": "words"})])
    version = 1

    def __init__(self, many: int = 4):
        self.many = many

    def __call__(self, batch):
        words = pc.list_value_length(pc.split_pattern(batch["caption"], " ")).cast(pa.int32())
        return pa.table({"long": pc.greater(words, self.many), "words": words})

class Doubled(curate.Stage):
    requires = ("words",)
    provides = pa.schema([pa.field("doubled", pa.int64())])

    def __call__(self, batch):
        return pa.table({"doubled": pc.multiply(batch["words"].cast(pa.int64()), 2)})
'''

BRIGHTNESS = """
import io
import pyarrow as pa
from PIL import Image, ImageStat
import curate

class Brightness(curate.Stage):
    needs_pictures = True
    requires = ("width", "status")
    provides = pa.schema([pa.field("brightness", pa.float32()), pa.field("bytes_seen", pa.int64())])

    def __call__(self, batch):
        pictures = batch["image"].to_pylist()
        means = [None if data is None else self.mean(data) for data in pictures]
        sizes = [None if data is None else len(data) for data in pictures]
        return pa.table([pa.array(means, pa.float32()), pa.array(sizes, pa.int64())], schema=self.provides)

    def mean(self, data):
        return ImageStat.Stat(Image.open(io.BytesIO(data)).convert("L")).mean[0]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, in which modules can be found."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run."""
    return finished.copied_to(tmp_path)


def with_python(run: Pipeline, *stages) -> Pipeline:
    run.raw["stages"] = [each for each in run.raw["stages"] if "python" not in each] + [{"python": s} for s in stages]
    return run


def annotations(run: Pipeline) -> pd.DataFrame:
    return pd.read_parquet(run.output / "annotations")


def test_columns_of_the_users_own_are_in_the_annotations_and_nothing_else_is_done(finished, run, here):
    (here / "lengths_in_run.py").write_text(LENGTHS)
    heard = with_python(run, "lengths_in_run:Lengths", "lengths_in_run:Doubled").run()
    assert worked_on(heard) == {"python-Lengths", "python-Doubled", "annotations"}
    table = annotations(run)
    words = table.caption.str.split(" ").str.len()
    assert table.words.tolist() == words.tolist()
    assert table.long.tolist() == (words > 4).tolist()
    assert table.doubled.tolist() == (2 * words).tolist()
    assert table.drop(columns=["words", "long", "doubled"]).equals(annotations(finished))
    schema = pq.read_schema(run.output / "annotations" / "part-00000000.parquet")
    assert schema.names[-3:] == ["words", "long", "doubled"]
    assert schema.field("long").metadata == {b"unit": b"words"}
    facts = json.loads(schema.metadata[METADATA_KEY])
    assert facts["python-Lengths"]["stage"] == "lengths_in_run:Lengths"
    assert facts["versions"]["python-Lengths"] == 1
    assert run.wrong() == {}


def test_a_stage_runs_again_when_it_is_edited_or_its_options_change_and_not_otherwise(run, here):
    module = here / "edited.py"
    module.write_text(LENGTHS)
    with_python(run, "edited:Lengths").run()
    assert worked_on(run.run()) == set()
    with_python(run, {"stage": "edited:Lengths", "options": {"many": 2}})
    assert worked_on(run.run()) == {"python-Lengths", "annotations"}
    assert annotations(run).long.mean() > 0.5
    # The same number of bytes within the same second: stale bytecode would pass for it.
    module.write_text(LENGTHS.replace("pc.greater(", "pc.less   ("))
    assert worked_on(run.run()) == {"python-Lengths", "annotations"}
    assert annotations(run).long.mean() < 0.5


def test_a_stage_runs_again_where_what_it_reads_has_changed(run, here):
    (here / "reads_noise.py").write_text(LENGTHS)
    with_python(run, "reads_noise:Lengths").run()
    heard = run.run("stages.noise.clean_below=0.2")
    assert "python-Lengths" in worked_on(heard)


def test_a_stage_that_is_taken_out_takes_its_columns_along(finished, run, here):
    (here / "taken_out.py").write_text(LENGTHS)
    with_python(run, "taken_out:Lengths").run()
    assert worked_on(with_python(run).run()) == {"annotations"}
    assert annotations(run).equals(annotations(finished))


def test_the_same_class_twice_has_two_steps(run, here):
    two = LENGTHS + "\n\nclass Named(Lengths):\n    def __init__(self, name):\n"
    two += "        super().__init__()\n        self.provides = pa.schema([pa.field(name, pa.int32())])\n"
    two += "    def __call__(self, batch):\n"
    two += "        return pa.table([super().__call__(batch)['words']], schema=self.provides)\n"
    (here / "twice.py").write_text(two)
    stages = [{"stage": "twice:Named", "options": {"name": name}} for name in ("first", "second")]
    assert worked_on(with_python(run, *stages).run()) == {"python-Named", "python-Named-2", "annotations"}
    table = annotations(run)
    assert table["first"].equals(table["second"].rename("first"))
    assert run.wrong() == {}


def test_pictures_come_as_they_are_in_the_input_and_null_where_none_can_be_decoded(tiny_encoder, tmp_path, here):
    from tests.corpus import make_pairs

    pairs = make_pairs(70)
    members = [
        (f"{n:03d}.{ext}", data)
        for n, (image, caption) in enumerate(pairs)
        for ext, data in ((("png"), image), ("txt", caption.encode()))
    ]
    members += [("070.png", b"no picture"), ("070.txt", b"a broken one"), ("071.png", pairs[0][0])]
    shards = tmp_path / "pictures"
    write_shard(shards / "0.tar", members)
    (here / "brightness.py").write_text(BRIGHTNESS)
    run = Pipeline(shards, tmp_path / "run", tiny_encoder, stages=["embed", {"python": "brightness:Brightness"}])
    run.raw["input"]["part_rows"] = 1000
    run.run()
    table = annotations(run)
    assert table.bytes_seen[:70].tolist() == [len(image) for image, _ in pairs]
    assert table.brightness[:70].between(100, 256).all()
    assert table.status[70] == "corrupt_image"
    assert pd.isna(table.brightness[70])
    assert table.status[71] == "missing_caption"
    assert table.brightness[71] == table.brightness[0]


def test_part_size_and_workers_change_no_value(finished, run, here, tmp_path):
    (here / "anyhow.py").write_text(BRIGHTNESS + LENGTHS)
    with_python(run, "anyhow:Brightness", "anyhow:Lengths").run()
    other = run.copied_to(tmp_path / "other")
    for folder in ("python-Brightness", "python-Lengths", "annotations"):
        for file in (other.output / folder).iterdir():
            file.unlink()
    other.run(runner=LocalRunner(1))
    assert other.contents() == run.contents()


RAISES = (
    LENGTHS.replace("        words = ", "        self.fail(batch)\n        words = ")
    + """
    def fail(self, batch):
        pass

Lengths.fail = lambda self, batch: fail_in(batch)

def fail_in(batch):
    if "000000030" in batch["key"].to_pylist():
        raise ValueError("no 30")
"""
)


def test_an_exception_names_the_part_and_the_users_line_and_the_other_parts_are_kept(run, here):
    (here / "raises.py").write_text(RAISES.replace('("caption", ', '("key", "caption", '))
    with_python(run, "raises:Lengths")
    with pytest.raises(CurateError) as caught:
        run.run()
    told = str(caught.value)
    assert "python-Lengths: 1 of 8 parts could not be done; the others are kept" in told
    assert "part 1: 00000.tar: Lengths raised ValueError: no 30;" in told
    assert 'in fail_in: raise ValueError("no 30")' in told
    assert len(list((run.output / "python-Lengths").iterdir())) == 7


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("batch", "promises the columns words, long, but returned caption, noise_prob"),
        ("pa.table({'words': words})", "promises the columns words, long, but returned words"),
        ("pa.table({'words': words[1:], 'long': words[1:]})", "was given 25 rows and returned 24"),
        (
            "pa.table({'words': words.cast('int64'), 'long': pc.greater(words, 1)})",
            "words as int32, but returned int64",
        ),
        ("words.to_pylist()", "must return a pyarrow.Table, but returned list"),
    ],
)
def test_what_was_not_promised_is_refused(run, here, returned, told):
    text = LENGTHS.replace('pa.table({"long": pc.greater(words, self.many), "words": words})', returned)
    (here / "refused.py").write_text(text)
    with pytest.raises(CurateError, match="Lengths") as caught:
        with_python(run, "refused:Lengths").run()
    assert told in str(caught.value)


def test_commands_show_the_columns_and_say_what_they_import(run, here, curate, tmp_path):
    (here / "shown.py").write_text(LENGTHS)
    pipeline = with_python(run, "shown:Lengths").file()
    code, out, _ = curate("validate", pipeline)
    assert code == 0
    assert f"imported shown:Lengths from {here / 'shown.py'}" in out
    code, out, _ = curate("plan", pipeline)
    assert f"imported shown:Lengths from {here / 'shown.py'}" in out
    assert "python-Lengths" in out
    assert curate("run", pipeline)[0] == 0
    code, out, _ = curate("inspect", run.output, "--key", "000000003")
    assert code == 0
    assert "words" in out
    few = (annotations(run).words <= 3).sum()
    assert f"{few}" in curate("inspect", run.output, "--where", "words <= 3")[1]
    out_dir = tmp_path / "kept"
    code, *_ = curate("export", run.output, "--where", "words <= 3", "--out", out_dir, "--columns", "words,long")
    assert code == 0
    assert sum(json.loads((out_dir / "sizes.json").read_text()).values()) == few
    curate("export", run.output, "--format", "csv", "--out", tmp_path / "csv")
    assert {"words", "long"} <= set(pd.read_csv(tmp_path / "csv" / "pairs-00000.csv").columns)


def test_a_stage_that_fails_ends_the_command_with_one_and_no_traceback(run, here, curate):
    (here / "fails.py").write_text(LENGTHS.replace("        words = ", "        words = 1 / 0 + "))
    code, _, err = curate("run", with_python(run, "fails:Lengths").file())
    assert code == 1
    assert "ZeroDivisionError: division by zero; fails.py:" in err


def test_reading_a_run_imports_nothing(run, here):
    (here / "gone.py").write_text(LENGTHS + "\nopen('imported', 'w').close()\n")
    with_python(run, "gone:Lengths").run()
    (here / "imported").unlink()
    from curate.state import remember_config, remembered_config
    from curate.store import RunStore

    store = RunStore(str(run.output))
    remember_config(store, run.config())
    assert remembered_config(store).stages.python[0].stage == "gone:Lengths"
    assert not (here / "imported").exists()
    assert pa.types.is_int32(store.read_table("annotations/part-00000000.parquet").schema.field("words").type)


def test_a_worker_finds_the_module_from_any_directory_and_refuses_another_source(run, here, tmp_path, monkeypatch):
    module = here / "carried.py"
    module.write_text(LENGTHS)
    plan = make_plan(with_python(run, "carried:Lengths").config(), LocalRunner(1).index)
    (step,) = [step for step in plan.steps if step.name == "python-Lengths"]
    carried = pickle.loads(pickle.dumps(step.work))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(here)])
    carried.prepare()
    (task, *_) = plan.tasks(step)
    assert carried.body(task, carried.head(task)).column_names == ["words", "long"]
    module.write_text(LENGTHS + "\n")
    with pytest.raises(CurateError, match=r"carried\.py is not the source that this run was planned with"):
        pickle.loads(pickle.dumps(step.work)).prepare()
    module.unlink()
    with pytest.raises(CurateError, match="Every worker needs the module"):
        pickle.loads(pickle.dumps(step.work)).prepare()


def test_what_goes_wrong_while_a_stage_loads_is_told(run, here, curate):
    (here / "loads.py").write_text(LENGTHS + "\n    def prepare(self):\n        open('no such weights')\n")
    code, _, err = curate("run", with_python(run, "loads:Doubled", "loads:Doubled").file())
    assert code == 2
    code, _, err = curate("run", with_python(run, "loads:Lengths", "loads:Doubled").file())
    assert code == 1
    assert "Doubled.prepare raised FileNotFoundError: " in err
