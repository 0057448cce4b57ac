"""Which concepts occur together, as a map: words that share many pictures lie close to each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.ranking import Doubles

MAP_SIZE = (900, 520)
_MOST_LINKS_PER_WORD = 3
_LEAST_TOGETHER = 3
_LETTERS = (13.0, 25.0)
_LETTER_WIDTH = 0.58
_PADDING = (8.0, 5.0)
_STEPS = 300
_MARGIN = 14.0


@dataclass(frozen=True)
class ConceptMap:
    """A drawing's figures.

    Attributes:
        words: the concepts.
        places: middle of each word in pixels of MAP_SIZE, float64 [k, 2]; no two words overlap where there is room.
        sizes: of the letters in pixels, float64 [k].
        links: numbers of two concepts and the strength of their link, in (0, 1]; the strongest first.
    """

    words: tuple[str, ...]
    places: Doubles
    sizes: Doubles
    links: tuple[tuple[int, int, float], ...]


def concept_map(pictures: Iterable[Sequence[str]], names: Sequence[str]) -> ConceptMap:
    """Lay out concepts by how often they are found in the same picture.

    The strength of a link is the cosine of two concepts' occurrences, n_ij / sqrt(n_i n_j) (Ochiai 1957), which
    favours neither frequent concepts nor rare ones. Places are the first eigenvectors of the normalised Laplacian,
    relaxed by springs (Fruchterman and Reingold 1991). The same pictures in any order give the same map.

    Args:
        pictures: names found in each.
        names: to draw; others are left out.
    """
    counts = _together(pictures, names)
    each = np.maximum(np.diag(counts), 1)
    strength = counts / np.sqrt(np.outer(each, each))
    np.fill_diagonal(strength, 0)
    strength[counts < _LEAST_TOGETHER] = 0
    smallest, largest = _LETTERS
    sizes = smallest + (largest - smallest) * np.sqrt(np.diag(counts) / each.max(initial=1.0))
    boxes = np.column_stack([np.array([len(name) for name in names]) * sizes * _LETTER_WIDTH, sizes * 1.15]) + _PADDING
    places = _apart(_relaxed(_spectral(strength), strength), boxes)
    return ConceptMap(tuple(names), places, sizes, tuple(_links(strength)))


def _together(pictures: Iterable[Sequence[str]], names: Sequence[str]) -> Doubles:
    """Pictures that show both of two concepts, on the diagonal those that show one; float64 [k, k]."""
    number = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for found in pictures:
        held = sorted({number[name] for name in found if name in number})
        counts[np.ix_(held, held)] += 1
    return counts


def _links(strength: Doubles) -> list[tuple[int, int, float]]:
    """The strongest of every concept, scaled to the strongest of all."""
    kept = {
        (min(first, int(second)), max(first, int(second)))
        for first, row in enumerate(strength)
        for second in np.argsort(-row, kind="stable")[:_MOST_LINKS_PER_WORD]
        if row[second] > 0
    }
    most = float(strength.max(initial=0)) or 1.0
    return sorted(((a, b, float(strength[a, b]) / most) for a, b in kept), key=lambda link: (-link[2], link[:2]))


def _spectral(strength: Doubles) -> Doubles:
    """Places in the unit square; float64 [k, 2]."""
    count = len(strength)
    if count < 3:
        return np.column_stack([np.linspace(0.3, 0.7, count), np.full(count, 0.5)])
    # A little of everything with everything, so that islands have places too.
    joined = strength + 0.01
    degree = np.sqrt(joined.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(count) - joined / np.outer(degree, degree))
    axes = vectors[:, 1:3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    order: NDArray[np.intp] = axes.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    places: Doubles = (order + 0.5) / count
    return places


def _relaxed(places: Doubles, strength: Doubles) -> Doubles:
    """Springs between what occurs together, and a push between all; places in the unit square."""
    natural = 0.9 / np.sqrt(max(len(places), 1))
    for step in range(_STEPS):
        apart = places[:, None] - places[None]
        distance = np.sqrt((apart**2).sum(axis=2)) + 1e-3
        force = natural**2 / distance - 6 * strength * distance**2 / natural
        push = (apart / distance[:, :, None] * force[:, :, None]).sum(axis=1)
        push -= 0.05 * (places - 0.5)
        length = np.sqrt((push**2).sum(axis=1, keepdims=True)) + 1e-12
        places = places + push / length * np.minimum(length, 0.05 * (1 - step / _STEPS))
    low, high = places.min(axis=0, initial=1.0), places.max(axis=0, initial=0.0)
    scaled: Doubles = (places - low) / np.maximum(high - low, 1e-9)
    return scaled


def _apart(places: Doubles, boxes: Doubles) -> Doubles:
    """Places in pixels, moved until no two words overlap (or for so long as is sensible)."""
    size = np.array(MAP_SIZE, dtype=np.float64)
    low, high = boxes / 2 + _MARGIN, size - boxes / 2 - _MARGIN
    places = low + places * (high - low)
    needed = (boxes[:, None] + boxes[None]) / 2
    for _ in range(_STEPS):
        apart = places[:, None] - places[None]
        overlap = needed - np.abs(apart)
        overlap[np.arange(len(places)), np.arange(len(places))] = -1
        touching = (overlap > 0).all(axis=2)
        if not touching.any():
            break
        # Along the axis on which less has to be moved; words in one place part by their number.
        axis = (overlap[:, :, 1] <= overlap[:, :, 0]).astype(int)
        sign = np.sign(apart)
        tie = np.sign(np.arange(len(places))[:, None] - np.arange(len(places))[None])
        sign = np.where(sign == 0, tie[:, :, None], sign)
        for number in (0, 1):
            moved = np.where(touching & (axis == number), sign[:, :, number] * overlap[:, :, number] / 2, 0)
            places[:, number] += 0.6 * moved.sum(axis=1)
        places = np.clip(places, low, high)
    return places
