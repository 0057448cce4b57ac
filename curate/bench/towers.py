"""The larger model that downstream figures are about: whole open_clip towers, trained on pixels and words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.bench.curated import Curated, Rows, Split
from curate.bench.draws import drawn_batches
from curate.bench.noise import Corpus
from curate.bench.paper.retrieval import Recalls, recalls
from curate.bench.recipes import Recipe, numbered
from curate.bench.trials import ModelName
from curate.models.finetune import Hints, TrainingBatch, autocast_for, finetune
from curate.models.finetune_options import FinetuneOptions
from curate.models.threads import one_torch_thread
from curate.models.towers import TrainableTowers, build_untrained_towers
from curate.models.weights import ModelFiles
from curate.noise.similarity import Floats

Pixels = NDArray[np.uint8]

SMALL_SIDE = 64
SMALL_MODEL = ModelFiles(
    model="small",
    pretrained="untrained",
    config={
        "model_cfg": {
            "embed_dim": 128,
            # CLIP's residual network, one block a stage: with so few pictures convolutions learn more than patches do.
            "vision_cfg": {"image_size": SMALL_SIDE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
            "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
        }
    },
    weights=(),
)
"""What is trained where no towers are named: 4.6 million weights, 3.2 million of them the table of words."""


@dataclass(frozen=True)
class TowerOptions:
    """How towers are trained; AdamW, warm-up, cosine and clipping are those of `curate.models.finetune`.

    Attributes:
        epochs: how many times the whole training part, whatever share of it is used: all methods have the same budget.
        batch: pairs a step.
        learning_rate: the highest.
    """

    epochs: int
    batch: int
    learning_rate: float

    def steps_for(self, rows: int) -> int:
        """How many steps towers are trained for if there are so many pairs, used or not."""
        return max(self.epochs * rows // self.batch, 1)


FROM_SCRATCH = TowerOptions(epochs=8, batch=128, learning_rate=1e-3)
FINE_TUNING = TowerOptions(epochs=5, batch=128, learning_rate=1e-5)


@dataclass(frozen=True)
class TowersModel:
    """Whole towers.

    Attributes:
        start: towers with their initial weights, anew at every call; by a seed.
        pixels: of the corpus, uint8 [n, side, side, 3].
        options: how they are trained.
        precision: fp32, bf16 or fp16 (mixed precision).
        described: what they are, for the records.
    """

    start: Callable[[int], TrainableTowers]
    pixels: Pixels
    options: TowerOptions
    precision: str
    described: dict[str, Any]
    name: ModelName = "towers"

    def trial(self, corpus: Corpus, split: Split, part: Curated, seed: int) -> TowersTrial:
        """See `TrainedModel`."""
        captions = [corpus.pairs[row].caption for row in split.test]
        return TowersTrial(self, split, captions, seed)

    def facts(self) -> dict[str, Any]:
        """See `TrainedModel`."""
        towers = self.start(0)
        weights = sum(weight.numel() for weight in towers.model.parameters())
        return {
            **self.described,
            "parameters": weights,
            "image_size": self.pixels.shape[1],
            "device": next(towers.model.parameters()).device.type,
            "precision": self.precision,
            **asdict(self.options),
        }


class TowersTrial:
    """See `Trial`.

    Args:
        model: what is trained.
        split: which pixels are trained on and tested on.
        captions: of the test pairs, [m].
        seed: of initial weights and batches.
    """

    def __init__(self, model: TowersModel, split: Split, captions: Sequence[str], seed: int) -> None:
        self.model, self.split, self.captions, self.seed = model, split, captions, seed

    def recalls(self, recipe: Recipe) -> Recalls:
        """See `Trial`."""
        with one_torch_thread(), torch.random.fork_rng(devices=[]):
            towers = self.model.start(self.seed)
            self._train(towers, recipe)
            return recalls(*self._embedded(towers), np.arange(len(self.captions)))

    def _train(self, towers: TrainableTowers, recipe: Recipe) -> None:
        options = self.model.options
        steps = options.steps_for(len(self.split.train))
        # An epoch of the loop is the whole budget here: recipes have epochs of their own, of different lengths.
        how = FinetuneOptions(
            trainable="full", loss="nitc", epochs=1, batch_size=options.batch, learning_rate=options.learning_rate,
            seed=self.seed,
        )  # fmt: skip
        pairs = TowerPairs.of(self.model.pixels, self.split.train, recipe, towers)

        def batches(_: int, start: int) -> Iterator[TrainingBatch]:
            return islice(pairs.batches(options.batch, self.seed), start, steps)

        finetune(towers.model, towers.normalise, batches, steps, how, None, autocast_for(self.model.precision))

    def _embedded(self, towers: TrainableTowers) -> tuple[Floats, Floats]:
        """The test pairs, unit rows; float32 [m, d] each."""
        autocast, tokens = autocast_for(self.model.precision), towers.tokenizer(list(self.captions))
        device = next(towers.model.parameters()).device
        towers.model.eval()
        found: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode(), torch.autocast(device.type, autocast, enabled=autocast is not None):
            for start in range(0, len(tokens), self.model.options.batch):
                rows = slice(start, start + self.model.options.batch)
                pixels = torch.from_numpy(self.model.pixels[self.split.test[rows]]).to(device)
                image, text = towers.model(towers.normalise(pixels), tokens[rows].to(device))[:2]
                found.append((image.float().cpu(), text.float().cpu()))
        image, text = (torch.cat(side).numpy() for side in zip(*found, strict=True))
        return image, text


@dataclass(frozen=True)
class TowerPairs:
    """A training part as towers are given it: both captions of a pair one behind the other, [2, n, ...].

    Its pixels are those of the corpus at `rows`, [n].
    """

    pixels: Pixels
    rows: Rows
    tokens: Tensor
    caption: NDArray[np.int64]
    recipe: Recipe

    @classmethod
    def of(cls, pixels: Pixels, rows: Rows, recipe: Recipe, towers: TrainableTowers) -> TowerPairs:
        captions = recipe.captions, recipe.other_captions
        tokens = torch.stack([towers.tokenizer(list(texts)) for texts in captions])
        return cls(pixels, rows, tokens, np.stack(numbered(*captions)), recipe)

    def batches(self, size: int, seed: int) -> Iterator[TrainingBatch]:
        """Without end; which caption of a pair is taken is drawn anew at every step."""
        generator = torch.Generator().manual_seed(seed)
        weight, chance = (
            torch.from_numpy(column.astype(np.float32)) for column in (self.recipe.weight, self.recipe.chance)
        )
        for drawn in drawn_batches(weight, size, generator):
            other = (torch.rand(len(drawn), generator=generator) < chance[drawn]).long()
            rows = drawn.numpy()
            yield TrainingBatch(
                torch.from_numpy(self.pixels[self.rows[rows]]),
                self.tokens[other, drawn],
                self._hints(rows, other.numpy()),
            )

    def _hints(self, rows: NDArray[np.intp], other: NDArray[np.int64]) -> Hints:
        """Pairs of one caption are no negatives of each other, pairs of one picture are: as heads are trained."""
        nothing = np.zeros(len(rows), dtype=np.float32)
        return Hints(
            noise_prob=nothing, smoothing=self.recipe.smoothing[rows], weight=nothing, margin_image=nothing,
            margin_text=nothing, picture=rows.astype(np.int64), caption=self.caption[other, rows],
        )  # fmt: skip


def untrained(device: str) -> Callable[[int], TrainableTowers]:
    """SMALL_MODEL with initial weights drawn by a seed, on a device."""
    return lambda seed: build_untrained_towers(SMALL_MODEL, device, seed)
