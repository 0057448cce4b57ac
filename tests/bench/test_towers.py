"""Whole towers: the same start for every recipe, what they learn, and what each recipe lets them see."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import yaml

from curate.bench.curated import Curated, Split
from curate.bench.draws import drawn_batches
from curate.bench.noise import Corpus
from curate.bench.recipes import METHODS, REFERENCES, Recipe
from curate.bench.setup import downstream_model
from curate.bench.towers import FROM_SCRATCH, SMALL_MODEL, SMALL_SIDE, TowerOptions, TowerPairs, TowersModel, untrained
from curate.bench.trials import Trial
from curate.config import EncoderConfig
from curate.corpora.pairs import Pair
from curate.errors import InputError
from curate.execution import LocalRunner
from curate.models.towers import build_untrained_towers
from curate.models.weights import ModelFiles
from curate.plan import make_plan
from tests.bench.test_downstream import told_right
from tests.conftest import Pipeline
from tests.tiny import tiny_coca

SIDE, TRAINED, TESTED = 16, 96, 36
TINY = ModelFiles(
    "tiny", "untrained",
    {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
            "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        }
    },
    (),
)  # fmt: skip
COLOURS = {
    "red": (230, 20, 20), "green": (20, 200, 40), "blue": (30, 40, 230), "yellow": (240, 230, 30),
    "black": (5, 5, 5), "white": (250, 250, 250),
}  # fmt: skip
OPTIONS = TowerOptions(epochs=30, batch=32, learning_rate=4e-3)


@pytest.fixture(scope="module")
def flags() -> tuple[Corpus, np.ndarray]:
    """Pictures of two colours, the left and the right half, that are named by their captions."""
    names, count = list(COLOURS), TRAINED + TESTED
    chosen = [(row % 6, row // 6 % 6) for row in range(count)]
    pixels = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for row, (left, right) in enumerate(chosen):
        pixels[row, :, : SIDE // 2], pixels[row, :, SIDE // 2 :] = COLOURS[names[left]], COLOURS[names[right]]
    pixels += np.random.default_rng(0).integers(0, 5, pixels.shape, dtype=np.uint8)
    pairs = tuple(Pair(str(row), f"{names[left]} and {names[right]}") for row, (left, right) in enumerate(chosen))
    nothing = np.zeros((count, 2), np.float32)
    return Corpus(pairs, tuple(map(str, range(count))), nothing, nothing, False, "flags"), pixels


@pytest.fixture(scope="module")
def split() -> Split:
    rows = np.arange(TRAINED + TESTED)
    return Split(rows[TRAINED:], rows[:TRAINED])


@pytest.fixture(scope="module")
def part(flags) -> Curated:
    """Half of the captions are exchanged."""
    wrong = np.arange(TRAINED) % 2 == 0
    sources = np.where(wrong, np.roll(np.arange(TRAINED), 14), np.arange(TRAINED))
    said = [pair.caption for pair in flags[0].pairs[:TRAINED]]
    nothing = np.zeros((TRAINED, 2), np.float32)
    told = told_right(wrong, nothing, nothing, sources)
    return replace(told, captions=[said[row] for row in sources], true_captions=said, completed=said)


def model(pixels: np.ndarray, options: TowerOptions = OPTIONS) -> TowersModel:
    return TowersModel(lambda seed: build_untrained_towers(TINY, "cpu", seed), pixels, options, "fp32", {})


def trial(flags, split: Split, part: Curated, seed: int = 0, epochs: int = OPTIONS.epochs) -> Trial:
    corpus, pixels = flags
    return model(pixels, replace(OPTIONS, epochs=epochs)).trial(corpus, split, part, seed)


def test_what_is_exchanged_spoils_the_towers_and_the_truth_does_not(flags, split, part):
    training = trial(flags, split, part)
    raw, oracle = (training.recalls(METHODS[name](part)).total for name in ("raw", "oracle"))
    assert oracle > raw + 60


def test_every_recipe_starts_from_the_same_weights_whatever_was_trained_before(flags, split, part):
    training = trial(flags, split, part, epochs=1)
    first = training.recalls(METHODS["mixed"](part))
    training.recalls(METHODS["raw"](part))
    torch.rand(5)
    assert training.recalls(METHODS["mixed"](part)) == first
    assert trial(flags, split, part, epochs=1).recalls(METHODS["mixed"](part)) == first


def test_initial_weights_are_those_of_the_seed():
    one, again, other = (build_untrained_towers(TINY, "cpu", seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in one.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_the_callers_random_numbers_and_threads_are_left_alone(flags, split, part):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trial(flags, split, part, epochs=1).recalls(METHODS["raw"](part))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def steps_of(monkeypatch, training: Trial, recipe: Recipe) -> list[torch.Tensor]:
    """The rows of every step."""
    seen = []

    def noted(weight, size, generator):
        for rows in drawn_batches(weight, size, generator):
            seen.append(rows)
            yield rows

    monkeypatch.setattr("curate.bench.towers.drawn_batches", noted)
    training.recalls(recipe)
    return seen


def test_the_budget_does_not_depend_on_how_many_pairs_are_used(flags, split, part, monkeypatch):
    training = trial(flags, split, part, epochs=2)
    for name in ("raw", "oracle"):
        recipe = METHODS[name](part)
        steps = steps_of(monkeypatch, training, recipe)
        assert [len(rows) for rows in steps] == [32] * (2 * TRAINED // 32)
        assert recipe.weight[torch.cat(steps).numpy()].all()


@pytest.fixture(scope="module")
def towers():
    return build_untrained_towers(TINY, "cpu", 0)


def first_batch(flags, towers, recipe: Recipe):
    return next(TowerPairs.of(flags[1], np.arange(TRAINED), recipe, towers).batches(TRAINED, 0))


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_the_other_caption_is_taken_by_chance(flags, towers, part, chance):
    recipe = replace(METHODS["mixed"](part), chance=np.full(TRAINED, chance, np.float32), weight=np.ones(TRAINED))
    batch = first_batch(flags, towers, recipe)
    taken = recipe.other_captions if chance else recipe.captions
    rows = batch.hints.picture
    assert torch.equal(batch.tokens, towers.tokenizer([taken[row] for row in rows]))
    assert np.array_equal(batch.pixels.numpy(), flags[1][rows])


def test_pairs_of_one_caption_are_known_as_such_and_smoothing_is_that_of_the_pair(flags, towers, part):
    recipe = METHODS["weighted"](replace(part, smoothing=np.linspace(0, 0.5, TRAINED, dtype=np.float32)))
    batch = first_batch(flags, towers, recipe)
    said = np.array([recipe.captions[row] for row in batch.hints.picture])
    assert len(set(said)) < len(said)
    assert np.array_equal(batch.hints.caption[:, None] == batch.hints.caption, said[:, None] == said)
    assert np.array_equal(batch.hints.smoothing, recipe.smoothing[batch.hints.picture])


def test_the_small_model_takes_its_pictures_and_long_captions():
    towers = untrained("cpu")(0)
    pixels = towers.normalise(torch.zeros(2, SMALL_SIDE, SMALL_SIDE, 3, dtype=torch.uint8))
    tokens = towers.tokenizer(["one word " * 40, "two"])
    image, text, _ = towers.model(pixels, tokens)
    assert image.shape == text.shape == (2, SMALL_MODEL.config["model_cfg"]["embed_dim"])


@pytest.fixture
def command(shards, tmp_path, curate, monkeypatch):
    """The records of `curate bench downstream --model towers` with an encoder; towers are trained for a moment."""
    short = TowerOptions(epochs=1, batch=64, learning_rate=1e-3)
    monkeypatch.setattr("curate.bench.towers.FROM_SCRATCH", short)
    monkeypatch.setattr("curate.bench.towers.FINE_TUNING", short)
    stages = ["embed", {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}}, {"concepts": {"min_documents": 2}}]

    def call(encoder: dict) -> list[dict]:
        pipeline, answer = tmp_path / "pipeline.yaml", tmp_path / "answer.json"
        caption = {"caption": {"decoder": "consensus"}}
        raw = Pipeline(shards, tmp_path / "unused", encoder, stages=[*stages, caption]).raw
        pipeline.write_text(yaml.safe_dump(raw))
        fixed = ["--input", f"{shards}/*.tar", "--pipeline", pipeline, "--work", tmp_path / "run", "--json", answer]
        arguments = ["--model", "towers", "--rate", ".4", "--seeds", 1, "--method", "kept"]
        code, _, err = curate("bench", "downstream", *fixed, *arguments)
        assert code == 0, err
        return json.loads(answer.read_text())

    return call


def test_without_towers_of_its_own_a_pipeline_trains_the_small_model(finished, tmp_path):
    copy = finished.copied_to(tmp_path)
    plan = make_plan(copy.config(), LocalRunner(1).index)
    config = plan.config.model_copy(update={"encoder": EncoderConfig(model="offline")})
    small = downstream_model("towers", config, plan)
    assert small.facts() == {
        "model": "small", "pretrained": "untrained", "parameters": 4_584_153, "image_size": SMALL_SIDE,
        "device": "cpu", "precision": "fp32", **asdict(FROM_SCRATCH),
    }  # fmt: skip


def test_towers_that_write_cannot_be_trained(finished, tmp_path):
    copy = finished.copied_to(tmp_path)
    plan = make_plan(copy.config(), LocalRunner(1).index)
    coca = tiny_coca(tmp_path / "coca")
    given = EncoderConfig(model=coca.model, pretrained=coca.pretrained)
    with pytest.raises(InputError, match=r"encoder.model: coca is no open_clip model of an image and a text tower"):
        downstream_model("towers", plan.config.model_copy(update={"encoder": given}), plan)


def test_the_command_trains_the_towers_of_the_pipeline_from_their_weights(command, tiny_encoder):
    environment, *measured = command(tiny_encoder)
    towers = environment["towers"]
    assert environment["model"] == "towers"
    assert (towers["model"], towers["pretrained"], towers["image_size"]) == ("tiny", "local", 32)
    assert {record["model"] for record in measured} == {"towers"}
    assert {record["method"] for record in measured} == {"ours", *REFERENCES, "kept"}
    again = command(tiny_encoder)
    figures = [
        [record["value"] for record in records[1:] if record["metric"] != "seconds"]
        for records in ([environment, *measured], again)
    ]
    assert figures[0] == figures[1]
