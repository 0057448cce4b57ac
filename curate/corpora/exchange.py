"""Who exchanges captions, or words of them, with whom: mismatched pairs on purpose, as many as asked for.

Captions and words are exchanged, never copied, so the corpus keeps each as often as it had it and nothing but the
picture tells which pairs are mismatched. Nothing here reads or writes files.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from curate.corpora.pairs import Pair, meaning
from curate.corpora.partial import WordChange, exchange_words
from curate.corpora.tar_writer import Progress, ignore_progress
from curate.errors import CurateError, InputError
from curate.noise.similarity import padded, padded_chunks

Kind = Literal["random", "category", "nearest", "partial"]
"""`random` exchanges captions among all pairs, `category` among pairs of one category, `nearest` with the nearest one
inside NEAREST_COSINES; `partial` exchanges one word of the caption."""

NEAREST_COSINES = (0.5, 0.9)
"""Partners of kind `nearest` have captions whose embeddings' cosine lies in this closed interval, which equal captions
are outside of."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Mismatches:
    """What became of each pair; positions are those of the pairs that were given.

    Attributes:
        captions: the caption that each pair now has; the very same text where it did not change.
        partners: position of the pair whose caption, or whose word, it got; -1 where nothing changed. int64 [n].
        mismatched: whether the caption now says something else, case and surrounding white space aside. bool [n].
        word_changes: what kind `partial` exchanged; None elsewhere.
    """

    captions: tuple[str, ...]
    partners: Ints
    mismatched: Bools
    word_changes: tuple[WordChange | None, ...]

    @property
    def sources(self) -> Ints:
        """Position of the pair whose caption each has: its own if it kept all of it, or all but a word. int64 [n]."""
        whole = np.array([change is None for change in self.word_changes], dtype=bool) & (self.partners >= 0)
        return np.where(whole, self.partners, np.arange(len(self.partners)))


def choose_mismatches(
    pairs: Sequence[Pair],
    kind: Kind,
    rate: float,
    seed: int = 0,
    embeddings: Floats | None = None,
    progress: Progress = ignore_progress,
) -> Mismatches:
    """Exchange captions or words among pairs so that a known share of them is mismatched.

    The same arguments give the same result. Fewer pairs than asked for are mismatched where too few can exchange: for
    equal captions, for none inside the interval (`nearest`), for want of words (`partial`).

    Args:
        pairs: usable pairs, in an order that is kept.
        kind: what is exchanged with whom.
        rate: share of the pairs to mismatch, in [0, 1); 0 changes nothing. At least two pairs change where any do.
        seed: another seed chooses other pairs and partners.
        embeddings: of each pair's caption, unit norm, float32 [n, d]; for kind `nearest` only.
        progress: called with ("choosing partners", done, total); pairs.

    Returns:
        The mismatches. O(n) for all kinds but `nearest`, which is O(n m d) for m distinct captions: 10,000 pairs take
        seconds. Its memory is 256 m values beside the embeddings.

    Raises:
        InputError: an argument is out of range, or kind `category` finds no category.
        CurateError: the embeddings are not one unit vector for each pair.
    """
    _check(pairs, kind, rate)
    target = max(2, round(rate * len(pairs))) if rate > 0 and len(pairs) > 1 else 0
    generator = random.Random(f"curate corrupt {kind} {rate!r} {seed}")
    if kind == "partial":
        return _with_words_exchanged(pairs, target, generator, progress)
    meanings = [pair.meaning for pair in pairs]
    if kind == "nearest":
        if embeddings is None:
            raise InputError("kind nearest compares captions: give their embeddings")
        vectors = unit_rows_for(len(pairs), embeddings, "embeddings have")
        sources = _swap_with_nearest(meanings, vectors, target, generator, progress)
    else:
        groups = _by_category(pairs) if kind == "category" else [list(range(len(pairs)))]
        sources = _exchange_in_groups(meanings, groups, target, generator)
    return _with_captions_exchanged(pairs, sources)


def unit_rows_for(captions: int, vectors: npt.ArrayLike, giver: str) -> Floats:
    """The vectors as float32 [captions, d].

    Raises:
        CurateError: they are not one row for each caption, or not of length 1; begins with `giver`.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != captions:
        raise CurateError(f"{giver} shape {rows.shape} for {captions} captions: give one row each")
    if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3):
        raise CurateError(f"{giver} rows that are not of length 1: normalise them")
    return rows


def _check(pairs: Sequence[Pair], kind: Kind, rate: float) -> None:
    if kind not in get_args(Kind):
        raise InputError(f"kind is {kind!r}: choose one of {', '.join(get_args(Kind))}")
    if not 0 <= rate < 1:
        raise InputError(f"rate is {rate}: give the share of pairs to mismatch, at least 0 and below 1")
    if kind == "category" and all(pair.category is None for pair in pairs):
        raise InputError("kind category exchanges among pairs of one category: not one pair has any")


def _with_captions_exchanged(pairs: Sequence[Pair], sources: Mapping[int, int]) -> Mismatches:
    captions = [pairs[sources.get(i, i)].caption for i in range(len(pairs))]
    return _mismatches(pairs, captions, sources, [None] * len(pairs))


def _with_words_exchanged(
    pairs: Sequence[Pair], target: int, generator: random.Random, progress: Progress
) -> Mismatches:
    changes = exchange_words([pair.caption for pair in pairs], target, generator, progress)
    captions = [changes[i].caption if i in changes else pair.caption for i, pair in enumerate(pairs)]
    partners = {i: change.partner for i, change in changes.items()}
    return _mismatches(pairs, captions, partners, [changes.get(i) for i in range(len(pairs))])


def _mismatches(
    pairs: Sequence[Pair],
    captions: Sequence[str],
    partners: Mapping[int, int],
    word_changes: Sequence[WordChange | None],
) -> Mismatches:
    differs = [pair.meaning != meaning(caption) for pair, caption in zip(pairs, captions, strict=True)]
    partner_of = np.array([partners.get(i, -1) for i in range(len(pairs))], dtype=np.int64)
    mismatched = np.array(differs, dtype=bool)
    for column in (partner_of, mismatched):
        column.flags.writeable = False
    return Mismatches(tuple(captions), partner_of, mismatched, tuple(word_changes))


# --- a permutation of captions, among all pairs or inside categories -------------------------------------------------


def _exchange_in_groups(
    meanings: Sequence[str], groups: Sequence[Sequence[int]], target: int, generator: random.Random
) -> dict[int, int]:
    """For each pair that loses its caption: the pair whose caption it gets."""
    if target == 0:
        return {}
    exchange: dict[int, int] = {}
    for group, size in zip(groups, _share_out(meanings, groups, target, generator), strict=True):
        exchange.update(_exchange_captions(meanings, _choose(meanings, group, size, generator), generator))
    return exchange


def _by_category(pairs: Sequence[Pair]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, pair in enumerate(pairs):
        if pair.category is not None:
            groups[pair.category].append(i)
    return [groups[category] for category in sorted(groups)]


def _share_out(
    meanings: Sequence[str], groups: Sequence[Sequence[int]], target: int, generator: random.Random
) -> list[int]:
    """How many pairs of each group exchange captions: in proportion, as far as each group's captions differ enough."""
    capacity = [_capacity([meanings[i] for i in group]) for group in groups]
    order = [number for number, group in enumerate(groups) for _ in group]
    generator.shuffle(order)
    sizes = [min(drawn, capacity[number]) for number, drawn in enumerate(_count(order[:target], len(groups)))]
    missing = target - sum(sizes)
    for number in order[target:]:
        if missing > 0 and sizes[number] < capacity[number]:
            sizes[number] += 1
            missing -= 1
    # A lone pair has nobody to exchange with: every second one gets a partner, the others stay as they are.
    lone = [number for number, size in enumerate(sizes) if size == 1]
    for position, number in enumerate(lone):
        sizes[number] = 2 if position % 2 == 0 else 0
    return sizes


def _count(numbers: Iterable[int], length: int) -> list[int]:
    counts = Counter(numbers)
    return [counts[number] for number in range(length)]


def _capacity(group: Sequence[str]) -> int:
    """The most pairs that can exchange captions so that each one's changes: no meaning may hold more than half."""
    most_common = max(Counter(group).values())
    return min(len(group), 2 * (len(group) - most_common))


def _choose(meanings: Sequence[str], group: Sequence[int], size: int, generator: random.Random) -> list[int]:
    """Pairs drawn by chance, about `size` of them, among which no meaning holds more than half."""
    order = generator.sample(group, len(group))
    chosen, spare = order[:size], iter(order[size:])
    counts = Counter(meanings[i] for i in chosen)
    while chosen:
        common, count = max(counts.items(), key=lambda item: item[1])
        if 2 * count <= len(chosen):
            break
        # Drawn in random order, so the last pair of the too common meaning is as good as any.
        position = max(place for place, i in enumerate(chosen) if meanings[i] == common)
        counts[common] -= 1
        other = next((i for i in spare if 2 * (counts[meanings[i]] + 1) <= len(chosen)), None)
        if other is None:
            del chosen[position]
        else:
            chosen[position] = other
            counts[meanings[other]] += 1
    return chosen


def _exchange_captions(meanings: Sequence[str], chosen: Sequence[int], generator: random.Random) -> dict[int, int]:
    """A random permutation of the pairs' captions in which each pair's changes.

    Possible, and always reached, where no meaning holds more than half of the pairs: a pair that got its own meaning
    then always finds one that neither has it nor got it.
    """
    sources = generator.sample(chosen, len(chosen))
    for i, pair in enumerate(chosen):
        if meanings[sources[i]] == meanings[pair]:
            j = _free_partner(meanings[pair], meanings, chosen, sources, generator)
            sources[i], sources[j] = sources[j], sources[i]
    return dict(zip(chosen, sources, strict=True))


def _free_partner(
    wanting: str, meanings: Sequence[str], chosen: Sequence[int], sources: Sequence[int], generator: random.Random
) -> int:
    start = generator.randrange(len(chosen))
    for j in chain(range(start, len(chosen)), range(start)):
        if wanting not in (meanings[chosen[j]], meanings[sources[j]]):
            return j
    raise AssertionError("a meaning holds more than half of the pairs")


# --- swaps with the nearest caption ----------------------------------------------------------------------------------


def _swap_with_nearest(
    meanings: Sequence[str], vectors: Floats, target: int, generator: random.Random, progress: Progress
) -> dict[int, int]:
    """Pairs of pairs, each swapped with the free one whose caption is nearest inside NEAREST_COSINES."""
    order = generator.sample(range(len(meanings)), len(meanings))
    free: dict[str, list[int]] = defaultdict(list)
    for i in order:
        free[meanings[i]].append(i)
    distinct = list(free)
    number = {text: column for column, text in enumerate(distinct)}
    free_counts = np.array([len(free[text]) for text in distinct])
    first = {text: i for i, text in reversed(list(enumerate(meanings)))}
    columns = vectors[[first[text] for text in distinct]]
    exchange: dict[int, int] = {}
    for done, (i, cosines) in enumerate(_cosines_of(order, [number[meanings[i]] for i in order], columns)):
        if len(exchange) + 2 > target:
            break
        progress("choosing partners", done, len(order))
        if i in exchange:
            continue
        allowed = (cosines >= NEAREST_COSINES[0]) & (cosines <= NEAREST_COSINES[1]) & (free_counts > 0)
        if not allowed.any():
            continue
        partner = free[distinct[int(np.where(allowed, cosines, -np.inf).argmax())]][0]
        for taken in (i, partner):
            free[meanings[taken]].remove(taken)
            free_counts[number[meanings[taken]]] -= 1
        exchange[i], exchange[partner] = partner, i
    progress("choosing partners", len(order), len(order))
    return exchange


def _cosines_of(order: Sequence[int], rows: Sequence[int], columns: Floats) -> Iterator[tuple[int, Floats]]:
    """Each pair with the cosines of its caption to every distinct caption, computed for a chunk of pairs at a time."""
    for part in padded_chunks(len(order)):
        cosines = padded(columns[rows[part]]) @ columns.T
        yield from zip(order[part], cosines[: part.stop - part.start], strict=True)
