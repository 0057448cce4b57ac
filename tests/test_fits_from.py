"""Scoring with the models of another run: they are copied, never fitted again, and the run they come from stays."""

import shutil
from dataclasses import asdict

import pandas as pd
import pytest

from curate.errors import InputError
from curate.execution import LocalRunner, execute
from curate.plan import make_plan
from tests.conftest import Pipeline, SilentProgress
from tests.corpus import write_corpus
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """80 pairs that the finished run never saw. Read only."""
    return write_corpus(tmp_path_factory.mktemp("others"), count=80, seed=7)


@pytest.fixture
def scoring(finished, others, tmp_path):
    """A pipeline over the other pairs that has not run."""
    return Pipeline(others, tmp_path / "scoring", finished.raw["encoder"])


@pytest.fixture
def never_fits(monkeypatch):
    def refuse(*_):
        raise AssertionError("fit_noise was called")

    monkeypatch.setattr("curate.noise.fit.fit_noise", refuse)


def run_with_fits(pipeline, run, *overrides):
    runner, heard = LocalRunner(2), SilentProgress()
    execute(make_plan(pipeline.config(*overrides), runner.index, fits_from=str(run)), runner, heard)
    return heard


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def below(contents, folder):
    return {name: data for name, data in contents.items() if name.startswith(folder)}


@pytest.mark.usefixtures("never_fits")
def test_other_pairs_are_scored_with_the_same_models_and_the_old_run_stays(finished, scoring):
    before = files_of(finished.output)
    run_with_fits(scoring, finished.output)
    table = pd.read_parquet(scoring.output / "annotations")
    assert len(table) == 80
    assert table.noise_prob.between(0, 1).all()
    fitted_on = pd.read_parquet(finished.output / "annotations")
    assert set(table.memory_image.dropna()) <= set(fitted_on.row_id)
    assert below(scoring.contents(), "artifacts/") == below(finished.contents(), "artifacts/")
    assert files_of(finished.output) == before


@pytest.mark.usefixtures("never_fits")
def test_a_pair_scores_what_it_scored_in_the_run_with_the_fit(finished, tmp_path):
    again = Pipeline(tmp_path, tmp_path / "again", finished.raw["encoder"])
    again.raw["input"] = {**finished.raw["input"], "part_rows": 1000}
    run_with_fits(again, finished.output)
    one, two = (pd.read_parquet(run.output / "annotations") for run in (finished, again))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.usefixtures("never_fits")
def test_a_second_run_with_the_same_fits_does_nothing(finished, scoring):
    run_with_fits(scoring, finished.output)
    contents = scoring.contents()
    heard = run_with_fits(scoring, finished.output)
    assert heard.parts == []
    assert [report.name for report in heard.steps if "fit" in report.name] == []
    assert scoring.contents() == contents
    assert scoring.wrong() == {}


def test_added_inputs_are_scored_alone_with_the_runs_own_fits(finished, tmp_path, never_fits):
    shards = write_corpus(tmp_path / "shards")
    grown = Pipeline(shards, tmp_path / "grown", finished.raw["encoder"])
    shutil.copytree(finished.output, grown.output)
    before = grown.contents()
    shutil.copy(write_corpus(tmp_path / "more", count=40, seed=8) / "00000.tar", shards / "00004.tar")
    heard = run_with_fits(grown, grown.output)
    assert {part for part in heard.parts if part[0] != "annotations"} == {
        (step, number) for step in ("embed", "noise") for number in (8, 9)
    }
    after = grown.contents()
    for folder in ("embed/", "noise/", "artifacts/"):
        assert {name: after[name] for name in below(before, folder)} == below(before, folder)
    assert len(pd.read_parquet(grown.output / "annotations")) == 200
    assert grown.wrong() == {}


def test_other_fits_score_again(finished, scoring, tmp_path):
    run_with_fits(scoring, finished.output)
    old = below(scoring.contents(), "noise/")
    seeded = Pipeline(tmp_path, tmp_path / "seeded", finished.raw["encoder"], seed=1)
    seeded.raw["input"] = finished.raw["input"]
    seeded.run()
    heard = run_with_fits(scoring, seeded.output)
    assert {name for name, _ in heard.parts} == {"noise", "annotations"}
    assert below(scoring.contents(), "artifacts/") == below(seeded.contents(), "artifacts/")
    assert below(scoring.contents(), "noise/") != old


def test_a_missing_run_is_input_error(scoring, tmp_path):
    with pytest.raises(InputError, match=r"--fits-from .*nothing: no finished noise fit there"):
        run_with_fits(scoring, tmp_path / "nothing")


def test_an_unfinished_fit_is_input_error(finished, scoring, tmp_path):
    shutil.copytree(finished.output, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "artifacts" / "noise" / "artifact.json").unlink()
    with pytest.raises(InputError, match="no finished noise fit there"):
        run_with_fits(scoring, tmp_path / "unfinished")
    assert not (scoring.output / "artifacts").exists()


def test_another_encoder_is_named_by_what_differs(finished, others, tmp_path):
    encoder = asdict(tiny_model(tmp_path / "other-model", seed=1))
    other = Pipeline(others, tmp_path / "run", encoder)
    with pytest.raises(InputError, match=r"weights_sha256: \w{64}, here \w{64}") as caught:
        run_with_fits(other, finished.output)
    assert "config_sha256" not in str(caught.value)
    assert "Use the same encoder" in str(caught.value)


def test_other_strata_than_the_fits_are_input_error(finished, scoring):
    scoring.raw["input"]["keep"] = ["language"]
    with pytest.raises(InputError, match=r"its posteriors are by nothing, here mixture.by is language"):
        run_with_fits(scoring, finished.output, "stages.noise.mixture.by=language")


@pytest.mark.usefixtures("never_fits")
def test_changed_inputs_are_compared_with_all_under_the_old_fits(finished, tmp_path):
    shards = write_corpus(tmp_path / "shards")
    changed = Pipeline(shards, tmp_path / "changed", finished.raw["encoder"])
    shutil.copytree(finished.output, changed.output)
    shutil.copy(shards / "00000.tar", shards / "00003.tar")
    run_with_fits(changed, changed.output)
    table = pd.read_parquet(changed.output / "annotations")
    assert table.duplicate_of[120:].notna().all()
    assert table.duplicate_of[120:].isin(table.row_id[:40]).all()
