"""Stages of the user's own before anything runs: each mistake is told with its line, and what to do."""

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from curate.config import config_of, load_config
from curate.errors import InputError
from curate.plan.python import provided, python_stages
from curate.validate import validate

GOOD = """
import pyarrow as pa
import curate

class Words(curate.Stage):
    requires = ("caption",)
    provides = pa.schema([pa.field("words", pa.int32())])

    def __init__(self, many: int = 4):
        self.many = many

    def __call__(self, batch):
        return pa.table({"words": pa.nulls(batch.num_rows, pa.int32())})

class Other(Words):
    provides = pa.schema([pa.field("others", pa.list_(pa.struct([("a", pa.float64()), ("b", pa.string())])))])

NoStage = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, in which modules can be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def stages_of(*python, stages=("embed",)):
    values = {"input": {"path": "*.tar"}, "output": "run", "stages": [*stages, *({"python": each} for each in python)]}
    return python_stages(config_of(values, "pipeline"))


def complaint(*python, **more):
    with pytest.raises(InputError) as caught:
        stages_of(*python, **more)
    return str(caught.value)


def test_a_stage_is_found_beside_the_pipeline_with_its_options(here):
    (here / "stages_found.py").write_text(GOOD)
    first, second = stages_of({"stage": "stages_found:Words", "options": {"many": 9}}, "stages_found:Other")
    assert first.loaded.stage.many == 9
    assert (first.step, second.step) == ("python-Words", "python-Other")
    assert first.columns == (("embed", ["caption"]),)
    assert provided([first, second]).names == ["words", "others"]


def test_columns_come_from_the_last_step_that_makes_them(here):
    (here / "stages_last.py").write_text(GOOD.replace('("caption",)', '("label", "fold", "duplicate_of", "shard")'))
    (stage,) = stages_of("stages_last:Words", stages=["embed", "noise", "refine"])
    assert dict(stage.columns) == {
        "refine": ["label"],
        "noise": ["fold"],
        "duplicates": ["duplicate_of"],
        "embed": ["shard"],
    }


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"caption"', '"captoin"', "requires 'captoin', which no stage before it makes; did you mean 'caption'?"),
        ('"caption"', '"concepts"', "requires 'concepts', which the stage concepts makes; add that stage before it"),
        ('"caption"', '"duplicate_of"', "which the stage noise makes; add that stage"),
        ('"caption"', '"image"', "set needs_pictures = True"),
        ('("caption",)', "()", "requires nothing: name columns, or set needs_pictures = True"),
        ('("caption",)', '"caption"', "requires must be a tuple of column names, but is 'caption'"),
        ('("caption",)', '("caption", "caption")', "requires names a column twice"),
        ('"words", pa.int32()', '"label", pa.string()', "provides 'label', which is a column of curate's own"),
        ('"words", pa.int32()', '"pixels", pa.string()', "provides 'pixels', which is a column of curate's own"),
        ('"words", pa.int32()', '"my words", pa.int32()', "'my words' is no name for a column"),
        ('"words", pa.int32()', '"in", pa.int32()', "'in' is no name for a column"),
        ("pa.int32())])", "pa.int32(), nullable=False)])", "words must be nullable"),
        ("pa.int32())])", "pa.binary())])", "words is binary; types are bool, integers"),
        ("pa.int32())])", "pa.list_(pa.date32()))])", "words is list<item: date32[day]>; types are"),
        ('pa.schema([pa.field("words", pa.int32())])', '["words"]', "provides must be a pa.schema([...])"),
        ("    requires", "    version = 'one'\n    requires", "version must be an integer, but is 'one'"),
        ("    requires", "    needs_pictures = 1\n    requires", "needs_pictures must be True or False, but is 1"),
        ("def __call__", "def call", "'Words' in {here}/stages_wrong.py has no __call__(self, batch)"),
        ("class Words(curate.Stage)", "class Words", "'Words' in {here}/stages_wrong.py is no stage"),
        ("class Words", "class Wrods", "stages_wrong.py has no 'Words'"),
        ("import curate", "import curate, no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import curate", "import curate; 1 / 0", "ZeroDivisionError: division by zero; stages_wrong.py:3 in <mod"),
        ("import curate", "import curate; raise SystemExit(0)", "SystemExit: 0"),
        ("import curate", "import curate as", "SyntaxError"),
        ("self.many = many", "raise ValueError('too many')", "options: Words refuses them: ValueError: too many"),
    ],
)  # fmt: skip
def test_what_a_stage_declares_wrongly_is_told(here, old, new, told):
    assert old in GOOD
    (here / "stages_wrong.py").write_text(GOOD.replace(old, new).replace("class Other(Words)", "class Other(list)"))
    said = complaint("stages_wrong:Words")
    assert said.startswith("pipeline: python: stages_wrong:Words: ")
    assert told.format(here=here) in said
    assert "\n" not in said


def test_options_that_a_stage_does_not_take_are_told(here):
    (here / "stages_options.py").write_text(GOOD)
    said = complaint({"stage": "stages_options:Words", "options": {"most": 3}})
    assert "options: got an unexpected keyword argument 'most'; it takes many" in said


def test_a_module_that_is_not_there_is_told_with_where_it_was_sought(here):
    assert f"there is no module 'no_such_stages' in {here} or in sys.path" in complaint("no_such_stages:A")
    assert "No module named 'no_such_package'" in complaint("no_such_package.stages:A")
    assert "is no Python source file" in complaint("math:A")


def test_two_stages_with_one_column_are_told(here):
    (here / "stages_same.py").write_text(GOOD)
    assert "provides 'words', which python-Words provides already" in complaint(*["stages_same:Words"] * 2)


def test_a_module_in_a_package_is_found(here):
    (here / "stages_package").mkdir()
    (here / "stages_package" / "__init__.py").write_text("")
    (here / "stages_package" / "inner.py").write_text(GOOD)
    (stage,) = stages_of("stages_package.inner:Words")
    assert stage.loaded.reference.folder == str(here)


def test_an_edited_module_is_another_one_in_the_same_process(here):
    module = here / "stages_edited.py"
    module.write_text(GOOD)
    before = stages_of("stages_edited:Words")[0].loaded
    assert stages_of("stages_edited:Words")[0].loaded.reference == before.reference
    module.write_text(GOOD.replace("int = 4", "int = 5"))
    after = stages_of("stages_edited:Words")[0].loaded
    assert (before.stage.many, after.stage.many) == (4, 5)
    assert before.reference.sha256 != after.reference.sha256


def test_a_module_of_the_same_name_in_another_directory_is_another_one(here, monkeypatch):
    for folder, many in (("one", 1), ("two", 2)):
        (here / folder).mkdir()
        (here / folder / "stages_placed.py").write_text(GOOD.replace("int = 4", f"int = {many}"))
        monkeypatch.chdir(here / folder)
        assert stages_of("stages_placed:Words")[0].loaded.stage.many == many


def test_validate_tells_all_mistakes_in_the_order_of_their_lines(here):
    (here / "stages_valid.py").write_text(GOOD)
    (here / "p.yaml").write_text(
        "input: {path: '*.tar'}\noutput: run\nstages:\n  - embed\n  - python: stages_valid:Worrds\n"
        "  - python: stages_valid\n  - python: {stage: 'stages_valid:Words', options: {most: 1}}\n"
    )
    with pytest.raises(InputError) as caught:
        validate(Path("p.yaml"))
    told = str(caught.value).split("\n")
    assert told[0].startswith("p.yaml:1: ")
    assert told[1].startswith("p.yaml:6: stages.python.1: write module:Class, such as my_module:MyStage")
    (here / "p.yaml").write_text((here / "p.yaml").read_text().replace("  - python: stages_valid\n", ""))
    with pytest.raises(InputError) as caught:
        validate(Path("p.yaml"))
    told = str(caught.value).split("\n")
    assert told[1].startswith("p.yaml:5: python: stages_valid:Worrds: ")
    assert told[1].endswith("has no 'Worrds'; stages in it: Words, Other")
    assert told[2].startswith("p.yaml:6: python: stages_valid:Words: options: ")


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ("- embed\n  - python\n", "p.yaml:5: stages.python.0.stage: is missing; write such as `- python: my_module:"),
        ("- python: a:B\n  - embed\n", "p.yaml:3: stages: must be in the order embed, python"),
        (
            "- embed\n  - python: {stage: 'a:B', option: {}}\n",
            "p.yaml:5: stages.python.0.option: unknown key; did you",
        ),
        (
            "- embed\n  - python: {stage: 'a:B', options: {since: 2020-01-01}}\n",
            "p.yaml:5: stages.python.0.options: must",
        ),
        ("- embed\n  - python: {stage: 'a:B', options: {since: .nan}}\n", "p.yaml:5: stages.python.0.options: m"),
        ("- embed\n  - python: 'a.b:c:d'\n", "p.yaml:5: stages.python.0: write module:Class"),
    ],
)
def test_mistakes_in_the_pipeline_file_are_told_with_their_line(here, stages, told):
    (here / "p.yaml").write_text(f"input: {{path: '*.tar'}}\noutput: run\nstages:\n  {stages}")
    with pytest.raises(InputError) as caught:
        load_config("p.yaml")
    assert str(caught.value).startswith(told)


def test_types_that_every_export_can_hold_are_taken(here):
    kinds = "pa.bool_(), pa.uint64(), pa.float32(), pa.string(), pa.list_(pa.list_(pa.int8()))"
    fields = f"[pa.field(f'c{{n}}', kind) for n, kind in enumerate([{kinds}])]"
    (here / "stages_types.py").write_text(GOOD.replace('[pa.field("words", pa.int32())]', fields))
    assert len(provided(stages_of("stages_types:Words"))) == 5
    assert isinstance(provided([]), pa.Schema)
