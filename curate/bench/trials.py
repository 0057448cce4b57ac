"""The models that downstream figures are about, behind one interface; and heads on frozen towers as one of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from curate.bench.curated import Curated, Split
from curate.bench.noise import Corpus
from curate.bench.paper.retrieval import Recalls, recalls
from curate.bench.recipes import Recipe, numbered
from curate.noise.similarity import Floats

if TYPE_CHECKING:
    from curate.bench.heads import HeadOptions, TrainingSet

ModelName: TypeAlias = Literal["heads", "towers"]


class Trial(Protocol):
    """The same training and the same test for every recipe."""

    def recalls(self, recipe: Recipe) -> Recalls:
        """Of the test pairs, after training by a recipe. What was trained before changes nothing."""
        ...


class TrainedModel(Protocol):
    """What is trained: heads on frozen towers, or whole towers."""

    @property
    def name(self) -> ModelName:
        """What the records call it."""
        ...

    def trial(self, corpus: Corpus, split: Split, part: Curated, seed: int) -> Trial:
        """Of the training part `part`, which is `split.train` of the corpus, tested on `split.test`.

        The seed is that of initial weights and batches.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What the first record says of it, JSON types."""
        ...


@dataclass(frozen=True)
class HeadsModel:
    """Heads on frozen embeddings."""

    options: HeadOptions
    name: ModelName = "heads"

    def trial(self, corpus: Corpus, split: Split, part: Curated, seed: int) -> HeadsTrial:
        """See `TrainedModel`."""
        return HeadsTrial(part, corpus.image[split.test], corpus.text[split.test], self.options, seed)

    def facts(self) -> dict[str, Any]:
        """See `TrainedModel`."""
        return asdict(self.options)


class HeadsTrial:
    """See `Trial`.

    Args:
        part: what is trained on.
        image, text: embeddings of the test pairs, float32 [m, dv], [m, dt].
        options: of the heads.
        seed: of initial weights and batches.
    """

    def __init__(self, part: Curated, image: Floats, text: Floats, options: HeadOptions, seed: int) -> None:
        from curate.bench.heads import fit_reducer

        self.part, self.image, self.text, self.options, self.seed = part, image, text, options, seed
        components = options.components_for(len(part))
        self.reducers = fit_reducer(part.image, components), fit_reducer(part.text, components)

    def recalls(self, recipe: Recipe) -> Recalls:
        """See `Trial`."""
        from curate.bench.heads import train_heads

        heads = train_heads(training_set(self.part, recipe), *self.reducers, self.options, self.seed)
        return recalls(*heads.project(self.image, self.text), np.arange(len(self.image)))


def training_set(part: Curated, recipe: Recipe) -> TrainingSet:
    """What the heads are trained on by a recipe."""
    from curate.bench.heads import TrainingSet

    caption, other = numbered(recipe.captions, recipe.other_captions)
    return TrainingSet(
        part.image, recipe.text, caption, recipe.other_text, other, recipe.chance, recipe.weight, recipe.smoothing
    )
