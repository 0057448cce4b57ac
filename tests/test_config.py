"""A pipeline file is read whole or refused with one line per mistake: file, line, key, what to write instead."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curate.config import load_config, parse_config
from curate.errors import InputError

GOOD = """\
input: {format: webdataset, path: "shards/*.tar"}
output: runs/one
encoder: {model: ViT-B-32, pretrained: laion2b_s34b_b79k}
stages:
  - embed
  - noise: {folds: 4, rounds: 1}
"""


def complaint(text, overrides=()):
    with pytest.raises(InputError) as caught:
        parse_config(text, "p.yaml", overrides)
    return str(caught.value)


def test_a_short_file_gets_every_default():
    config = parse_config("input: {path: a.tar}\noutput: out\nstages: [embed, noise]\n", "p.yaml")
    assert config.input.format == "webdataset"
    assert config.encoder.model == "offline"
    assert config.stages.noise.folds == 5
    assert config.stages.noise.clean_below == 0.3


def test_values_of_the_file_are_taken():
    config = parse_config(GOOD, "p.yaml")
    assert config.encoder.pretrained == "laion2b_s34b_b79k"
    assert (config.stages.noise.folds, config.stages.noise.rounds) == (4, 1)


def test_a_distribution_gap_without_its_loss_is_a_mistake():
    with_gap = f"{GOOD}  - refine: {{loss: dsdmr, distribution_gap: 0.5}}\n"
    assert parse_config(with_gap, "p.yaml").stages.refine.distribution_gap == 0.5
    with pytest.raises(InputError, match=r"stages.refine: distribution_gap is a term of loss: dsdmr; .*loss: nitc"):
        parse_config(with_gap.replace("dsdmr", "nitc", 1), "p.yaml")


def test_a_stage_that_is_not_named_does_not_run():
    assert parse_config(GOOD.split("  - noise")[0], "p.yaml").stages.noise is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("folds", "fold", "p.yaml:6: stages.noise.fold: unknown key; did you mean 'folds'?"),
        ("- noise", "- niose", "p.yaml:6: stages: there is no stage 'niose'; did you mean 'noise'?"),
        ("output", "outptu", "p.yaml:2: outptu: unknown key; did you mean 'output'?"),
        ("rounds: 1", "rounds: two", "p.yaml:6: stages.noise.rounds: input should be a valid integer"),
        ("webdataset", "wds", "p.yaml:1: input.format: input should be 'webdataset', 'parquet', 'jsonl', 'csv' or "),
        ("folds: 4", "clean_below: 0.9", "p.yaml:6: stages.noise: clean_below (0.9) must not be above noisy_above"),
        ("- embed\n  ", "", "'embed' must come first"),
        ("folds: 4", "folds: 1", "p.yaml:6: stages.noise.folds: input should be greater than or equal to 2"),
        ("- embed", "- embed: {batch: 3}", "p.yaml:5: stages.embed.batch: unknown key; there are: decode"),
        ("- embed", "- noise\n  - embed", "is given twice"),
        ("- embed", "- [embed]", "p.yaml:5: stages: each is a name, or one name with options"),
        ("{model", "{1: x, model", "p.yaml:3: keys must be plain words"),
        ("folds: 4", "signals: [topolgy]", "p.yaml:6: stages.noise.signals: input should be 'clip_similarity', "),
        ("folds: 4", "signals: []", "p.yaml:6: stages.noise.signals: name at least one signal, and each once"),
        ("folds: 4", "signals: [osa, osa]", "p.yaml:6: stages.noise.signals: name at least one signal, and each once"),
        ("folds: 4", "signals: some", "p.yaml:6: stages.noise.signals: input should be 'default' or 'all'"),
        ("folds: 4", "mixture: gauss", "p.yaml:6: stages.noise.mixture: input should be 'default', 'null', 'gmm' or"),
        ("folds: 4", "mixture: {kind: gauss}", "p.yaml:6: stages.noise.mixture.kind: input should be 'default', "),
        ("folds: 4", "mixture: {kid: gmm}", "p.yaml:6: stages.noise.mixture.kid: unknown key; did you mean 'kind'?"),
        ("folds: 4", "mixture: {min_pairs: 3}", "p.yaml:6: stages.noise.mixture.min_pairs: input should be greater"),
        (
            "folds: 4",
            "mixture: {by: language}",
            "p.yaml:6: stages.noise.mixture.by: 'language' is not kept: add it to input.keep: [language]",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(old, new, expected):
    assert expected in complaint(GOOD.replace(old, new))


@pytest.mark.parametrize("signals", ["default", "all", "[topology]", "[osa, itc_loss]"])
def test_signals_are_a_choice_or_a_list_in_the_order_given(signals):
    config = parse_config(GOOD.replace("folds: 4", f"signals: {signals}"), "p.yaml")
    assert config.stages.noise.signals == yaml.safe_load(signals)


@pytest.mark.parametrize(
    ("mixture", "kind", "min_pairs"),
    [("gmm", "gmm", 500), ("{kind: beta}", "beta", 500), ("{min_pairs: 60}", "default", 60), ("{}", "default", 500)],
)
def test_a_mixture_is_a_kind_alone_or_with_its_options(mixture, kind, min_pairs):
    found = parse_config(GOOD.replace("folds: 4", f"mixture: {mixture}"), "p.yaml").stages.noise.mixture
    assert (found.kind, found.by, found.min_pairs) == (kind, None, min_pairs)


def test_strata_are_by_a_kept_field():
    kept = GOOD.replace("webdataset, ", "webdataset, keep: [source, language], ")
    for spelled in ("{by: language}", "{kind: gmm, by: language, min_pairs: 50}"):
        text = kept.replace("folds: 4", f"mixture: {spelled}")
        assert parse_config(text, "p.yaml").stages.noise.mixture.by == "language"
    override = "stages.noise.mixture.by=language"
    assert parse_config(kept, "p.yaml", [override]).stages.noise.mixture.by == "language"
    assert complaint(GOOD, [override]).startswith(f"--set {override}: stages.noise.mixture.by: 'language' is not kept")


def test_all_mistakes_are_told_at_once():
    told = complaint(GOOD.replace("folds", "fold").replace("pretrained", "pretained"))
    assert "'folds'" in told
    assert "'pretrained'" in told


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- b\n", "input: [", "a: b: c", "\tx: 1", "!!python/object:os.x {}"]
)
def test_what_is_no_pipeline_is_refused_with_the_file_name(text):
    assert complaint(text).startswith("p.yaml")


def test_a_key_given_twice_is_refused():
    assert "p.yaml:7: 'output' is given twice" in complaint(GOOD + "output: other\n")


def test_stages_in_the_wrong_order_are_refused():
    assert "must be in the order embed, noise" in complaint(
        GOOD.replace("- embed", "- noise").replace("- noise: {", "- embed: {")
    )


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("  - refine\n", "p.yaml:6: stages.refine: refine needs the stage noise before it"),
        ("  - noise\n  - refine: {trainable: all}\n", "p.yaml:7: stages.refine.trainable: input should be 'heads'"),
        ("  - noise\n  - refine: {loss: nlip}\n", "p.yaml:7: stages.refine.loss: input should be 'nitc', 'npc', "),
        ("  - noise\n  - refine: {round: 2}\n", "stages.refine.round: unknown key; did you mean 'rounds'?"),
        ("  - noise\n  - refine: {batch_size: 1}\n", "stages.refine.batch_size: input should be greater than or"),
        ("  - refine\n  - noise\n", "must be in the order embed, noise, refine"),
        ("  - caption\n", "stages.caption: caption needs the stages noise and concepts before it"),
    ],
)
def test_a_mistake_in_what_stages_need_is_named(stages, expected):
    assert expected in complaint(GOOD.split("  - noise")[0] + stages)


def test_overrides_win_over_the_file():
    config = parse_config(GOOD, "p.yaml", ["stages.noise.folds=3", "encoder.batch_size=8", "seed=7"])
    assert (config.stages.noise.folds, config.encoder.batch_size, config.seed) == (3, 8, 7)


def test_an_override_can_add_a_stage():
    assert parse_config(GOOD.split("  - noise")[0], "p.yaml", ["stages.noise={}"]).stages.noise is not None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stages.noise.fold=3", "--set stages.noise.fold=3: stages.noise.fold: unknown key; did you mean 'folds'?"),
        ("seed", "--set seed: must look like"),
        ("output.x=1", "--set output.x=1: 'output' has no keys below it"),
        ("seed=[", "--set seed=[: the value is not valid YAML"),
    ],
)
def test_a_wrong_override_is_named(override, expected):
    assert expected in complaint(GOOD, [override])


def test_a_missing_file_is_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_a_binary_file_is_input_error(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_config(tmp_path / "p.yaml")


@given(st.text(max_size=200))
def test_no_text_ever_gives_anything_but_a_config_or_an_input_error(text):
    with contextlib.suppress(InputError):
        parse_config(text, "p.yaml")


def test_the_shipped_pipelines_are_valid(pytestconfig):
    for file in sorted((pytestconfig.rootpath / "pipelines").glob("*.yaml")):
        load_config(file)
