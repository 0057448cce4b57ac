"""The refine stage in a run: what depends on what, whose columns count, and the same bytes however it is done."""

import json

import pandas as pd
import pytest

from curate.errors import InputError
from curate.execution import LocalRunner, execute
from curate.noise.model import NoiseModel, stored_posterior
from curate.noise.refined import RefinedModel
from curate.plan import make_plan
from curate.report.build import make_report
from curate.rounds import believed_artifact, rounds_of
from curate.steps import read_artifact
from curate.store import RunStore
from curate.summary import annotation_files, summarize
from tests.conftest import DECIDED_NOISE, Pipeline, SilentProgress, worked_on

NOISE = {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}}
REFINE = {"refine": {"rounds": 2, "settled": 0, "epochs": 2, "trusted_below": 0.9, "batch_size": 64}}
STAGES = ["embed", NOISE, REFINE, {"concepts": {"top_k": 3}}]


@pytest.fixture(scope="module")
def refined(shards, tiny_encoder, tmp_path_factory):
    """A finished run. Read only: copy it to change it."""
    made = Pipeline(shards, tmp_path_factory.mktemp("refined") / "run", tiny_encoder, stages=STAGES)
    made.run()
    return made


def column(pipeline, step, name):
    return pd.read_parquet(pipeline.output / step)[name]


def test_the_refined_columns_are_those_of_the_annotations_and_the_noise_steps_stay(refined):
    table = pd.read_parquet(refined.output / "annotations")
    before, after = (pd.read_parquet(refined.output / step) for step in ("noise", "refine"))
    for name in ("noise_prob", "noise_rank", "label", "smoothing", "margin_image", "margin_text", "weight"):
        pd.testing.assert_series_equal(table[name], after[name])
    pd.testing.assert_series_equal(table.noise_prob_unrefined, before.noise_prob, check_names=False)
    assert (after.noise_prob != before.noise_prob).any()
    assert table.signals.map(bool).all()
    assert table.fold.notna().all()


def test_every_round_is_kept_in_the_artifact(refined):
    facts = json.loads((refined.output / "artifacts" / "refine" / "artifact.json").read_text())
    rounds = facts["diagnostics"]["rounds"]
    assert [each["round"] for each in rounds] == [1, 2]
    for each in rounds:
        assert each["changed"] == pytest.approx((each["entered"] + each["left"]) / facts["diagnostics"]["pairs"])
        assert 0 <= each["mixture"]["noise_share"] <= 1
    trusted = (column(refined, "refine", "noise_prob") < 0.9).sum()
    assert rounds[-1]["trusted"] == trusted


def test_a_second_run_does_nothing(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    assert worked_on(copy.run()) == set()
    assert copy.contents() == refined.contents()
    assert copy.wrong() == {}


def test_a_lost_part_is_made_again_and_nothing_else(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    (copy.output / "refine" / "part-00000001.parquet").unlink()
    heard = copy.run()
    assert heard.parts == [("refine", 1)]
    assert copy.contents() == refined.contents()


@pytest.mark.parametrize("change", ["loss=infonce", "rounds=1", "trusted_below=0.8", "learning_rate=0.01"])
def test_other_options_fit_neither_noise_nor_embed_again(refined, tmp_path, change):
    copy = refined.copied_to(tmp_path)
    heard = copy.run(f"stages.refine.{change}")
    assert worked_on(heard) == {"refine fit", "refine", "concepts fit", "concepts", "annotations"}


def test_a_threshold_of_labels_fits_nothing_again(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    assert worked_on(copy.run("stages.noise.clean_below=0.2")) == {"noise", "refine", "annotations"}


def test_another_noise_model_is_refined_anew(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    assert "refine fit" in worked_on(copy.run("stages.noise.rounds=2"))


def test_concepts_are_learned_from_pairs_by_their_refined_probability(refined, tmp_path):
    """Where refinement trusts other pairs, other captions are mined."""
    plain = Pipeline(tmp_path, tmp_path / "run", refined.raw["encoder"], stages=[STAGES[0], STAGES[1], STAGES[3]])
    plain.raw["input"] = refined.raw["input"]
    plain.run()
    one, two = (
        (run.output / "artifacts" / "concepts" / "concepts.safetensors").read_bytes() for run in (plain, refined)
    )
    assert one != two


def test_captions_are_completed_where_the_refined_probability_says_so(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    copy.raw["stages"] = ["embed", DECIDED_NOISE, *STAGES[2:]]
    copy.run()
    refined_prob = column(copy, "annotations", "noise_prob")
    trusted_below = float(refined_prob.quantile(0.6))
    caption = {"when": "noise_prob > 0", "decoder": "nearest", "accept_quantile": 0, "margin": 0}
    copy.raw["stages"].append({"caption": {**caption, "trusted_below": trusted_below}})
    copy.run()
    table = pd.read_parquet(copy.output / "annotations")
    doubtful = table.noise_prob >= trusted_below
    assert (doubtful != (table.noise_prob_unrefined >= trusted_below)).any()
    pd.testing.assert_series_equal(table.synthetic_caption.notna(), doubtful, check_names=False)
    assert copy.wrong() == {}


def test_pairs_in_other_parts_are_refined_alike(refined, tmp_path):
    other = Pipeline(tmp_path, tmp_path / "run", refined.raw["encoder"], stages=STAGES)
    other.raw["input"] = {**refined.raw["input"], "part_rows": 60}
    other.run()
    one, two = (pd.read_parquet(run.output / "annotations") for run in (refined, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_fits_from_another_run_are_taken_as_they_are(refined, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("refine_noise was called")

    monkeypatch.setattr("curate.noise.refine.refine_noise", refuse)
    other = Pipeline(tmp_path, tmp_path / "run", refined.raw["encoder"], stages=STAGES)
    other.raw["input"] = {**refined.raw["input"], "part_rows": 60}
    runner = LocalRunner(2)
    execute(make_plan(other.config(), runner.index, fits_from=str(refined.output)), runner, SilentProgress())
    one, two = (pd.read_parquet(run.output / "annotations") for run in (refined, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_fits_from_a_run_whose_noise_model_is_newer_is_refused(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    facts = copy.output / "artifacts" / "noise" / "artifact.json"
    facts.write_text(facts.read_text().replace('"fingerprint": "', '"fingerprint": "newer'))
    with pytest.raises(InputError, match="older than its noise fit"):
        make_plan(copy.config(), LocalRunner(1).index, fits_from=str(copy.output))


def test_inspect_shows_what_each_round_changed(refined, curate):
    code, out, _ = curate("inspect", refined.output)
    assert code == 0
    assert "refinement" in out
    assert "ended: all rounds done" in out


def test_the_report_goes_by_the_posterior_of_the_last_round(refined):
    store = RunStore(str(refined.output))
    noise = NoiseModel.from_bytes(read_artifact(store, "noise"))
    last = RefinedModel.from_bytes(read_artifact(store, "refine"), noise).rounds[-1].posterior
    fit, prefix = believed_artifact(rounds_of(store, annotation_files(store)))
    found = stored_posterior(read_artifact(store, fit), prefix)
    assert found.scores.tolist() == last.scores.tolist()
    assert found.logits.tolist() == last.logits.tolist()
    page = make_report(store, refined.config())
    assert "<strong>score</strong>" in page
    assert 'id="rounds"' in page


def test_a_run_that_refines_no_more_has_the_noise_steps_columns_and_shows_no_rounds(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    copy.raw["stages"] = ["embed", NOISE]
    copy.run()
    table = pd.read_parquet(copy.output / "annotations")
    pd.testing.assert_series_equal(table.noise_prob, column(copy, "noise", "noise_prob"))
    assert table.noise_prob_unrefined.isna().all()
    assert summarize(RunStore(str(refined.output))).refine["rounds"]
    assert summarize(RunStore(str(copy.output))).refine == {}


def test_a_corpus_without_a_trusted_pair_keeps_what_the_noise_stage_said(refined, tmp_path, caplog):
    copy = refined.copied_to(tmp_path)
    copy.run("stages.refine.trusted_below=0.000001")
    assert "refine changes nothing: too few trusted pairs" in caplog.text
    after, before = (pd.read_parquet(copy.output / step) for step in ("annotations", "noise"))
    for name in ("noise_prob", "noise_rank", "label", "weight"):
        pd.testing.assert_series_equal(after[name], before[name])


def test_a_pair_that_cannot_be_used_has_no_refined_columns(refined):
    table = pd.read_parquet(refined.output / "annotations")
    broken = table[table.status != "ok"]
    assert broken.noise_prob.isna().all()
    assert broken.noise_prob_unrefined.isna().all()
