"""What a trainer does with a curated corpus: recipes by name, and the references that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.bench.curated import Curated
from curate.corpora.pairs import meaning
from curate.errors import InputError
from curate.export.drawing import COMPLETED_WEIGHT
from curate.noise.similarity import Bools, Floats

RAW, ORACLE, FULL_CLEAN = "raw", "oracle", "full_clean"
TRUSTED_BELOW = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a trainer does with each of n pairs.

    Attributes:
        weight: how often the pair is drawn, relative to those of weight 1; 0 leaves it out, [n].
        smoothing: omega of NLIP's loss, [n].
        captions, text: what is trained on, and its embeddings, float32 [n, dt].
        other_captions, other_text: stand in for it with probability `chance`, [n].
    """

    weight: Floats
    smoothing: Floats
    captions: Sequence[str]
    text: Floats
    other_captions: Sequence[str]
    other_text: Floats
    chance: Floats


def _as_they_came(part: Curated, weight: Floats | Bools) -> Recipe:
    nothing = np.zeros(len(part), dtype=np.float32)
    return Recipe(weight.astype(np.float32), nothing, part.captions, part.text, part.captions, part.text, nothing)


def _raw(part: Curated) -> Recipe:
    return _as_they_came(part, np.ones(len(part), dtype=np.float32))


def _kept(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part))


def _weighted(part: Curated) -> Recipe:
    return replace(_as_they_came(part, 1 - part.noise_prob), smoothing=part.smoothing)


def _completed(part: Curated) -> Recipe:
    weight = np.where(part.changed, np.float32(COMPLETED_WEIGHT), 1 - part.noise_prob)
    return _instead(_as_they_came(part, weight), part.completed, part.completed_text)


def _mixed(part: Curated) -> Recipe:
    return replace(
        _completed(part),
        captions=part.captions,
        text=part.text,
        other_captions=part.completed,
        other_text=part.completed_text,
        chance=part.p_use_synthetic,
    )


def _oracle(part: Curated) -> Recipe:
    return _as_they_came(part, ~part.mismatched)


def _full_clean(part: Curated) -> Recipe:
    return _instead(_raw(part), part.true_captions, part.true_text)


def _nothing_lost(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part) | ~part.mismatched)


def _no_residue(part: Curated) -> Recipe:
    return _as_they_came(part, is_kept(part) & ~part.mismatched)


def _true_captions(part: Curated) -> Recipe:
    pairs = zip(part.changed, part.true_captions, part.captions, strict=True)
    captions = [true if changed else given for changed, true, given in pairs]
    return _instead(_completed(part), captions, np.where(part.changed[:, None], part.true_text, part.text))


def _instead(recipe: Recipe, captions: Sequence[str], text: Floats) -> Recipe:
    return replace(recipe, captions=captions, text=text, other_captions=captions, other_text=text)


def is_kept(part: Curated) -> Bools:
    kept: Bools = part.noise_prob < TRUSTED_BELOW
    return kept


Method: TypeAlias = Callable[[Curated], Recipe]
REFERENCES: dict[str, Method] = {RAW: _raw, ORACLE: _oracle, FULL_CLEAN: _full_clean}
RECIPES: dict[str, Method] = {"kept": _kept, "weighted": _weighted, "completed": _completed, "mixed": _mixed}
ABLATIONS: dict[str, Method] = {
    "kept_nothing_lost": _nothing_lost,
    "kept_no_residue": _no_residue,
    "completed_true_captions": _true_captions,
}
METHODS: Mapping[str, Method] = {**REFERENCES, **RECIPES, **ABLATIONS}
ABLATED = "ablations"


def check_methods(names: Sequence[str]) -> list[str]:
    """The methods to train: those asked for, and the references that they are compared with, in one order.

    "all" stands for all recipes, "ablations" for the recipes with the truth in place of one part at a time.

    Raises:
        InputError: there is no such method.
    """
    unknown = [name for name in names if name not in (*METHODS, "all", ABLATED)]
    if unknown:
        raise InputError(f"--method {', '.join(unknown)}: choose among all, {ABLATED}, {', '.join(METHODS)}")
    wanted = {*REFERENCES, *names}
    wanted |= {*RECIPES} if "all" in names else set()
    wanted |= {*ABLATIONS} if ABLATED in names else set()
    return [name for name in METHODS if name in wanted]


def numbered(*captions: Sequence[str]) -> list[NDArray[np.int64]]:
    """A number for every caption, the same for captions that say the same; int64 [n] each."""
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(meaning(text), len(numbers)) for text in texts]) for texts in captions]
