"""The concepts stage in a run: what depends on what, and the same bytes however it is carried out."""

import json
from importlib.metadata import version

import pandas as pd
import pytest

from curate.errors import InputError
from curate.execution import LocalRunner, execute
from curate.plan import RowStep, make_plan
from tests.conftest import Pipeline, SilentProgress, worked_on
from tests.corpus import write_corpus

STAGES = ["embed", {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}}, {"concepts": {"top_k": 3}}]


@pytest.fixture(scope="module")
def with_concepts(shards, tiny_encoder, tmp_path_factory):
    """A finished run. Read only: copy it to change it."""
    made = Pipeline(shards, tmp_path_factory.mktemp("concepts") / "run", tiny_encoder, stages=STAGES)
    made.run()
    return made


def test_every_image_has_names_of_the_vocabulary(with_concepts):
    table = pd.read_parquet(with_concepts.output / "annotations")
    vocabulary = pd.read_csv(with_concepts.output / "artifacts" / "concepts" / "vocabulary.csv")
    assert {"circle", "square", "triangle", "cross"} <= set(vocabulary.name)
    assert (vocabulary.documents >= 3).all()
    assert table.concepts.map(len).eq(3).all()
    assert {concept["name"] for row in table.concepts for concept in row} <= set(vocabulary.name)


def test_a_second_run_does_nothing(with_concepts, tmp_path):
    copy = with_concepts.copied_to(tmp_path)
    assert worked_on(copy.run()) == set()
    assert copy.contents() == with_concepts.contents()


@pytest.mark.parametrize("change", ["top_k=2", "scorer=tagger"])
def test_what_only_the_rows_need_fits_and_embeds_nothing_again(with_concepts, tmp_path, change):
    copy = with_concepts.copied_to(tmp_path)
    assert worked_on(copy.run(f"stages.concepts.{change}")) == {"concepts", "annotations"}


def test_what_the_fit_needs_fits_again_and_embeds_nothing(with_concepts, tmp_path):
    copy = with_concepts.copied_to(tmp_path)
    heard = copy.run("stages.concepts.min_documents=5")
    assert worked_on(heard) == {"concepts fit", "concepts", "annotations"}


def test_a_threshold_of_labels_fits_nothing_again(with_concepts, tmp_path):
    copy = with_concepts.copied_to(tmp_path)
    assert worked_on(copy.run("stages.noise.clean_below=0.2")) == {"noise", "annotations"}


def test_other_noise_options_weigh_pairs_anew(with_concepts, tmp_path):
    copy = with_concepts.copied_to(tmp_path)
    assert "concepts fit" in worked_on(copy.run("stages.noise.rounds=2"))


def test_pairs_in_other_parts_get_the_same_concepts(with_concepts, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "run", with_concepts.raw["encoder"], stages=STAGES)
    other.raw["input"] = {**with_concepts.raw["input"], "part_rows": 60}
    other.run()
    one, two = (pd.read_parquet(run.output / "annotations") for run in (with_concepts, other))
    assert one.concepts.map(list).tolist() == two.concepts.map(list).tolist()


def test_it_works_without_noise_and_says_so(with_concepts, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "run", with_concepts.raw["encoder"], stages=["embed", "concepts"])
    other.raw["input"] = with_concepts.raw["input"]
    other.run()
    facts = json.loads((other.output / "artifacts" / "concepts" / "artifact.json").read_text())
    assert facts["diagnostics"]["weights"] == "all 1: there is no noise stage"
    assert pd.read_parquet(other.output / "annotations").concepts.notna().all()


def test_an_image_without_a_caption_has_concepts_and_a_caption_without_an_image_none(with_concepts, tmp_path):
    import random
    import tarfile

    from tests.corpus import add_member, draw

    shards = write_corpus(tmp_path / "shards")
    with tarfile.open(shards / "00009.tar", "w") as tar:
        add_member(tar, "lonely.png", draw("red", "circle", random.Random(0)))
        add_member(tar, "blind.txt", b"a red circle")
    other = Pipeline(shards, tmp_path / "run", with_concepts.raw["encoder"], stages=STAGES)
    other.run()
    table = pd.read_parquet(other.output / "annotations").set_index("key")
    assert table.status["lonely"] == "missing_caption"
    assert len(table.concepts["lonely"]) == 3
    assert table.status["blind"] == "missing_image"
    assert table.concepts["blind"] is None


def run_with_fits(pipeline, run):
    runner, heard = LocalRunner(2), SilentProgress()
    execute(make_plan(pipeline.config(), runner.index, fits_from=str(run)), runner, heard)
    return heard


def test_fits_from_another_run_carry_the_concepts(with_concepts, tmp_path):
    others = write_corpus(tmp_path / "others", count=40, seed=7)
    scoring = Pipeline(others, tmp_path / "scoring", with_concepts.raw["encoder"], stages=STAGES)
    run_with_fits(scoring, with_concepts.output)
    artifacts = [
        {name: data for name, data in run.contents().items() if name.startswith("artifacts/")}
        for run in (scoring, with_concepts)
    ]
    assert artifacts[0] == artifacts[1]
    assert pd.read_parquet(scoring.output / "annotations").concepts.map(len).eq(3).all()
    assert worked_on(run_with_fits(scoring, with_concepts.output)) == set()


def test_fits_from_a_run_without_concepts_is_input_error(finished, tmp_path):
    scoring = Pipeline(tmp_path, tmp_path / "scoring", finished.raw["encoder"], stages=STAGES)
    scoring.raw["input"] = finished.raw["input"]
    with pytest.raises(InputError, match="no finished concepts fit there"):
        run_with_fits(scoring, finished.output)


def test_a_vocabulary_file_is_known_by_what_is_in_it(with_concepts, tmp_path):
    copy = with_concepts.copied_to(tmp_path)
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("circle\nsquare\n")
    two.write_text("circle\n\nsquare\nCircle\n")
    assert "concepts fit" in worked_on(copy.run(f"stages.concepts.vocabulary={one}"))
    assert worked_on(copy.run(f"stages.concepts.vocabulary={two}")) == set()
    assert pd.read_parquet(copy.output / "annotations").concepts.map(len).eq(2).all()


def test_the_library_of_the_index_is_named_where_there_is_one(with_concepts, tmp_path, monkeypatch):
    file = tmp_path / "names.txt"
    file.write_text("circle\nsquare\ncross\n")
    copy = with_concepts.copied_to(tmp_path)

    def said():
        plan = make_plan(copy.config(f"stages.concepts.vocabulary={file}"), LocalRunner(1).index)
        return next(step.facts for step in plan.steps if isinstance(step, RowStep) and step.name == "concepts")

    monkeypatch.setattr("curate.plan.concepts.EXACT_NAMES", 3)
    assert "faiss-cpu" not in said()["concepts"]
    monkeypatch.setattr("curate.plan.concepts.EXACT_NAMES", 2)
    assert said()["concepts"]["faiss-cpu"] == version("faiss-cpu")


def test_a_missing_vocabulary_file_is_told_before_anything_runs(pipeline):
    pipeline.raw["stages"] = STAGES
    with pytest.raises(InputError, match="no such vocabulary file"):
        pipeline.run("stages.concepts.vocabulary=nowhere.txt")
    assert not (pipeline.output / "embed").exists()
