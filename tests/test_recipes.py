"""The pipelines that follow a paper: each runs but for encoder and input as it stands, and differs where papers do."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from curate.config import load_config
from tests.conftest import Pipeline

RECIPES = Path(__file__).parent.parent / "pipelines"
PAPERS = ("nlip", "npc", "dsdmr")
SIGNAL = {"nlip": "itc_loss", "npc": "negative_impact", "dsdmr": "clip_similarity"}


@pytest.fixture(scope="module")
def run_recipe(shards, tiny_encoder, tmp_path_factory):
    """Annotations of a recipe; only encoder, input and output are set, and what a test asks for."""
    folder, made = tmp_path_factory.mktemp("recipes"), {}

    def run(name, *changes):
        if (name, changes) not in made:
            output = folder / f"{name}-{len(made)}"
            fixed = {"encoder": tiny_encoder, "input": {"path": f"{shards}/*.tar"}, "output": str(output)}
            sets = [f"{key}={json.dumps(value)}" for key, value in fixed.items()]
            pipeline = Pipeline(shards, output, tiny_encoder)
            pipeline.config = lambda *_: load_config(RECIPES / f"{name}.yaml", [*sets, *changes])
            pipeline.run()
            made[name, changes] = pd.read_parquet(output / "annotations")
            made[name, changes].attrs["run"] = str(output)
        return made[name, changes]

    return run


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.yaml"))])
def test_every_recipe_is_a_pipeline_that_names_its_schema(name):
    load_config(RECIPES / f"{name}.yaml")
    assert (RECIPES / f"{name}.yaml").read_text().startswith("# yaml-language-server: $schema=../schemas/")


@pytest.mark.parametrize("name", [*PAPERS, "web"])
def test_a_recipe_runs_from_its_file(run_recipe, name):
    table = run_recipe(name)
    assert len(table) == 160
    assert table.noise_prob.between(0, 1).all()
    if name in PAPERS:
        assert re.search(r"^# Different:", (RECIPES / f"{name}.yaml").read_text(), re.MULTILINE)


def first_noise_prob(table):
    """What the noise stage says, before any refinement."""
    unrefined = table.noise_prob_unrefined
    return table.noise_prob if unrefined.isna().all() else unrefined.rename("noise_prob")


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("other", PAPERS)
def test_the_signal_is_what_makes_the_first_noise_prob_differ(run_recipe, name, other):
    mine, theirs = first_noise_prob(run_recipe(name)), first_noise_prob(run_recipe(other))
    with_their_signal = first_noise_prob(run_recipe(name, f"stages.noise.signals=[{SIGNAL[other]}]"))
    assert mine.equals(theirs) == (name == other)
    pd.testing.assert_series_equal(with_their_signal, theirs)


# Random towers know nothing: by NPC's signal nobody is certain and next to nobody is trusted, so that no loss would
# have anything to go by.
TRAINED = (
    "stages.noise.signals=[clip_similarity]",
    "stages.refine.trusted_below=1",
    "stages.refine.rounds=1",
    "stages.refine.learning_rate=0.001",
)


@pytest.mark.parametrize("name", ["npc", "dsdmr"])
def test_the_towers_of_a_recipe_are_trained_by_the_loss_of_its_paper(run_recipe, name):
    runs = (run_recipe(name, *changes) for changes in (TRAINED, (*TRAINED, "stages.refine.loss=infonce")))
    ours, plain = (load_file(Path(table.attrs["run"]) / "artifacts/refine-1/weights.safetensors") for table in runs)
    assert any(not torch.equal(weight, plain[part]) for part, weight in ours.items())
