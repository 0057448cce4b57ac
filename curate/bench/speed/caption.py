"""Row `caption`: the captioner with keys and values kept between words, and without: all words again for each word."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.models.captioner import Captioner, CaptionerOptions, CaptionRows, fit_captioner
from curate.models.captioner_networks import Ensemble, Given

if TYPE_CHECKING:
    from curate.models.captioner_networks import State

METHODS = ("ours", "without_cache", "gru")
PICTURES = 256
_IMAGE_DIM = 512
_WORDS = 2000


class Recomputing(Ensemble):
    """The same networks without a cache: every step runs over all words so far."""

    def __init__(self, ensemble: Ensemble) -> None:
        torch.nn.Module.__init__(self)
        self.shape, self.members = ensemble.shape, ensemble.members

    def start(self, given: Given) -> State:
        """See `Network`: what captions are written from, and no word yet."""
        none = torch.zeros((len(given.image), 0), dtype=torch.int64)
        return none, given.image, given.concepts, given.scores, given.votes

    def step(self, words: torch.Tensor, state: State, place: int) -> tuple[torch.Tensor, State]:
        """See `Network`."""
        before, *conditions = state
        so_far = torch.cat([before, words.unsqueeze(1)], dim=1)
        scores = self.forward(so_far, Given(*conditions))
        return scores[:, -1], (so_far, *conditions)


def caption_child(method: str) -> ChildCommand:
    """Captions of 256 pictures per measurement, by the Transformer with its cache, without it, or by the GRU."""
    return module_child(f"caption {method}", "curate.bench.speed.caption", {"method": method})


def captioner(architecture: Any, pictures: int, options: CaptionerOptions | None = None) -> Captioner:
    """One that has seen a few captions of random words: how fast it writes does not hang on what it has learned."""
    random = np.random.default_rng(0)
    drawn = random.integers(_WORDS, size=(pictures, 8))
    captions = [" ".join(f"word{number}" for number in row) for row in drawn]
    how = options or CaptionerOptions(epochs=1, least_steps=1)
    how = dataclasses.replace(how, architecture=architecture, least_count=1)
    return fit_captioner(rows(pictures), captions, np.ones(pictures, dtype=np.float32), how, seed=0)


def rows(pictures: int) -> CaptionRows:
    """Seeded features without concepts; a neighbour says one word of each picture."""
    random = np.random.default_rng(1)
    image = random.standard_normal((pictures, _IMAGE_DIM), dtype=np.float32)
    return CaptionRows(image, [[]] * pictures, [[(f"word{row % _WORDS}", 1.0)] for row in range(pictures)])


def _make(given: dict[str, Any]) -> Measure:
    method = given["method"]
    model = captioner("gru" if method == "gru" else "transformer", 2 * PICTURES)
    if method == "without_cache":
        model = dataclasses.replace(model, network=Recomputing(model.network))
    asked = rows(PICTURES)

    def measure() -> Answer:
        started = time.perf_counter()
        captions = model.greedy(asked)
        seconds = time.perf_counter() - started
        return {"captions": len(captions), "tokens": sum(len(text.split()) for text in captions), "seconds": seconds}

    return measure


if __name__ == "__main__":
    serve(_make)
