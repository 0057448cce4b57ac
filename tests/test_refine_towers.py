"""The refine stage with towers in a run: trained, embedded again, scored again; killed, resumed, settled, refused."""

import json
import re

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from curate.clean import needless_files, remove
from curate.config import parse_config
from curate.errors import InputError
from curate.execution import LocalRunner
from curate.plan import finetune_options, make_plan, refine_options
from curate.report.build import make_report
from curate.store import RunStore
from curate.summary import summarize
from tests.conftest import DECIDED_NOISE, worked_on

REFINE = {"trainable": "full", "rounds": 2, "settled": 0, "epochs": 2, "batch_size": 16, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def refined(with_noise, trusted_below, tmp_path_factory):
    """A finished run whose towers were trained in two rounds. Read only: copy it to change it."""
    made = with_noise.copied_to(tmp_path_factory.mktemp("towers"))
    refine = {**REFINE, "trusted_below": trusted_below, "checkpoint_steps": 1}
    made.raw["stages"] = ["embed", DECIDED_NOISE, {"refine": refine}]
    made.run()
    return made


def weights(pipeline, number):
    return load_file(pipeline.output / f"artifacts/refine-{number}/weights.safetensors")


def facts(pipeline, name):
    return json.loads((pipeline.output / "artifacts" / name / "artifact.json").read_text())


def test_every_round_leaves_its_weights_its_embeddings_and_its_mixture(refined):
    start = load_file(refined.raw["encoder"]["pretrained"])
    first, second = weights(refined, 1), weights(refined, 2)
    assert any(not torch.equal(first[name], start[name].float()) for name in start)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for number in (1, 2):
        assert len(facts(refined, f"refine-{number}")["diagnostics"]["epoch_losses"]) == 2
        assert 0 <= facts(refined, f"refine-{number}-noise")["diagnostics"]["noise_share"] <= 1
        embedded = pd.read_parquet(refined.output / f"refine-{number}-embed")
        assert set(embedded.columns) == {"image_embedding", "text_embedding"}
        assert len(embedded) == 160


def test_annotations_hold_what_is_believed_after_the_last_round(refined):
    table = pd.read_parquet(refined.output / "annotations")
    noise, first, last = (
        pd.read_parquet(refined.output / step) for step in ("noise", "refine-1-noise", "refine-2-noise")
    )
    for name in ("noise_prob", "noise_rank", "label", "smoothing", "weight"):
        pd.testing.assert_series_equal(table[name], last[name])
    pd.testing.assert_series_equal(table.noise_prob_unrefined, noise.noise_prob, check_names=False)
    assert (last.noise_prob != noise.noise_prob).any()
    rejected = table.rejected_in_round
    assert (rejected[(last.label == "noisy") & (first.label != "noisy")] == 2).all()
    assert rejected[(noise.label != "noisy") & (first.label != "noisy") & (last.label != "noisy")].isna().all()


def test_what_each_round_moved_is_shown(refined, trusted_below, curate):
    before = pd.read_parquet(refined.output / "noise").noise_prob < trusted_below
    told = []
    for number in (1, 2):
        after = pd.read_parquet(refined.output / f"refine-{number}-noise").noise_prob < trusted_below
        told.append((number, after.sum(), (after & ~before).sum(), (before & ~after).sum()))
        before = after
    rounds = summarize(RunStore(str(refined.output))).refine["rounds"]
    assert [(each["round"], each["trusted"], each["entered"], each["left"]) for each in rounds] == told
    code, out, _ = curate("inspect", refined.output, "--count", 0)
    assert code == 0
    assert "loss" in out
    page = make_report(RunStore(str(refined.output)), refined.config())
    for number, trusted, entered, left in told:
        cells = "".join(f'<td class="number">{count}</td>' for count in (trusted, entered, left))
        assert re.search(rf'<th scope="row">{number}</th>\s*{cells}', page)


def test_trained_towers_can_be_named_as_an_encoder(refined, tmp_path):
    other = refined.copied_to(tmp_path)
    pretrained = str(refined.output / "artifacts/refine-2/weights.safetensors")
    other.raw |= {"output": str(tmp_path / "other"), "stages": ["embed"]}
    other.output = tmp_path / "other"
    other.raw["encoder"] = {**refined.raw["encoder"], "pretrained": pretrained}
    other.run()
    ours = pd.read_parquet(refined.output / "refine-2-embed")
    pd.testing.assert_frame_equal(pd.read_parquet(other.output / "embed")[list(ours.columns)], ours)


def test_a_second_run_does_nothing(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    heard = copy.run()
    assert worked_on(heard) == set()
    assert {report.name for report in heard.steps if report.rows} == set()
    assert copy.contents() == refined.contents()
    assert copy.wrong() == {}


class Death(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("saved", [2, 7])
def test_killed_in_training_and_run_again_it_has_the_same_bytes(refined, with_noise, tmp_path, monkeypatch, saved):
    copy = with_noise.copied_to(tmp_path)
    copy.raw["stages"] = refined.raw["stages"]
    write, left = RunStore.write_bytes, [saved]

    def dying(self, name, data):
        if name.endswith("checkpoint.safetensors"):
            if not left[0]:
                raise Death
            left[0] -= 1
        write(self, name, data)

    monkeypatch.setattr(RunStore, "write_bytes", dying)
    with pytest.raises(Death):
        copy.run()
    monkeypatch.undo()
    copy.run()
    assert copy.contents() == refined.contents()


def test_a_round_is_left_out_where_labels_have_settled(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    copy.run("stages.refine.settled=1")
    assert facts(copy, "refine-2")["diagnostics"]["settled"]
    assert facts(copy, "refine-2")["files"] == []
    table, first = (pd.read_parquet(copy.output / step) for step in ("annotations", "refine-1-noise"))
    pd.testing.assert_series_equal(table.noise_prob, first.noise_prob)
    heard = copy.run("stages.refine.settled=1")
    assert worked_on(heard) == set()
    assert not any("refine-2-" in report.name for report in heard.steps)
    stale = {"artifacts/refine-2-noise", "refine-2-embed", "refine-2-noise"}
    assert set(copy.wrong()) == stale
    store = RunStore(str(copy.output))
    removed = {each.name.rpartition("/")[0] for each in needless_files(store)}
    assert removed == stale
    remove(store, needless_files(store), "1")
    assert copy.wrong() == {}


def test_other_options_of_refinement_embed_and_fit_noise_no_more(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    heard = copy.run("stages.refine.loss=dsdmr", "stages.refine.rounds=1")
    assert "embed" not in worked_on(heard)
    assert "noise fit" not in worked_on(heard)
    assert "refine-1-embed" in worked_on(heard)
    assert (
        worked_on(copy.run("stages.refine.loss=dsdmr", "stages.refine.rounds=1", "stages.refine.checkpoint_steps=3"))
        == set()
    )


def test_lora_is_trained_too(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    copy.run("stages.refine.trainable=lora", "stages.refine.rounds=1", "stages.refine.lora_rank=2")
    start, trained = load_file(refined.raw["encoder"]["pretrained"]), weights(copy, 1)
    changed = {name for name in start if not torch.equal(trained[name], start[name].float())}
    assert changed
    assert all(trained[name].ndim == 2 for name in changed)


def test_the_offline_pair_has_no_towers_to_train(refined):
    with pytest.raises(InputError, match=r"stages\.refine\.trainable: full trains an open_clip model"):
        refined.config("encoder={model: offline}")


def test_towers_are_not_taken_from_another_run(refined, tmp_path):
    copy = refined.copied_to(tmp_path)
    with pytest.raises(InputError, match=r"Name them as the encoder"):
        make_plan(copy.config(), LocalRunner(1).index, fits_from=str(refined.output))


def test_what_towers_are_trained_with_has_defaults_of_its_own():
    text = (
        "input: {path: x}\noutput: y\nencoder: {model: ViT-B-32, pretrained: z}\nstages: [embed, noise, {refine: %s}]"
    )
    heads, full = (
        parse_config(text % options, "p.yaml").stages.refine for options in ("{}", "{trainable: full, epochs: 4}")
    )
    assert (heads.learning_rate, full.learning_rate) == (1e-3, 1e-5)
    assert full.epochs == 4


@pytest.mark.parametrize("trainable", ["heads", "full", "lora"])
def test_the_distribution_gap_of_the_file_is_what_is_trained_with(trainable):
    text = (
        "input: {path: x}\noutput: y\nencoder: {model: ViT-B-32, pretrained: z}\n"
        f"stages: [embed, noise, {{refine: {{trainable: {trainable}, loss: dsdmr, distribution_gap: 0.5}}}}]"
    )
    stages = parse_config(text, "p.yaml").stages
    heads = refine_options(stages.noise, stages.refine).heads
    assert (heads if trainable == "heads" else finetune_options(stages.refine, 0)).distribution_gap == 0.5


def test_where_nearly_nobody_is_trusted_nothing_changes(with_noise, tmp_path, caplog):
    copy = with_noise.copied_to(tmp_path)
    copy.raw["stages"] = ["embed", DECIDED_NOISE, {"refine": {**REFINE, "trusted_below": 1e-9}}]
    copy.run()
    assert "refine-1 changes nothing: 0 pairs can be trusted, 50 are needed" in caplog.text
    table = pd.read_parquet(copy.output / "annotations")
    pd.testing.assert_series_equal(table.noise_prob, table.noise_prob_unrefined, check_names=False)
