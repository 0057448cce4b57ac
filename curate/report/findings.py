"""What the page shows, gathered from the annotations one part at a time: counts, histograms, and pairs to look at.

Memory does not grow with the corpus: figures are counts in fixed bins, signals come from a bounded sample of pairs,
and of the pairs to look at only as many are held as the page has room for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest import read_parts
from curate.noise.grouping import hash_strings
from curate.schema import Status
from curate.store import RunStore
from curate.summary import annotation_files

Doubles = NDArray[np.float64]

PROBABILITY_BINS = 200
SAMPLED_PAIRS = 20_000
_LEFT_OUT = ("caption_bytes", "image_sha256", "duplicate_key", "fields")


@dataclass(frozen=True)
class Gallery:
    """Pairs that are worth a look for one reason.

    Attributes:
        name: short, for links.
        title, hint: what these pairs are, for a person.
        rows: their annotations, first the most telling.
    """

    name: str
    title: str
    hint: str
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Findings:
    """Everything the page says of a run, but for the pictures.

    Attributes:
        pairs: all pairs.
        statuses, labels: pairs by status, usable pairs by label.
        counts, noise: usable pairs, and the sum of their noise_prob, by noise_prob in bins of equal width from 0 to 1;
            float64 [PROBABILITY_BINS].
        sample: noise_prob and every signal of at most about 20,000 usable pairs, float64 [m] each; NaN: not computed.
        concepts: how often each concept was found in the sample, where the run has concepts.
        caption_words: words of each caption in the sample.
        galleries: pairs to look at.
    """

    pairs: int
    statuses: dict[str, int]
    labels: dict[str, int]
    counts: Doubles
    noise: Doubles
    sample: dict[str, Doubles]
    concepts: dict[str, int]
    caption_words: Doubles
    galleries: tuple[Gallery, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The pairs of all galleries; one may be there twice."""
        return [row for gallery in self.galleries for row in gallery.rows]


@dataclass
class _Chosen:
    """The best rows so far of one gallery."""

    name: str
    title: str
    hint: str
    cost: Callable[[pa.Table], Doubles]
    size: int
    held: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    def look_at(self, table: pa.Table) -> None:
        """Lowest cost first, not finite: not for this gallery; of pairs with one caption only the first is held.

        A caption that is wrong a hundred times is one finding.
        """
        cost = self.cost(table)
        places = self._first_of_each_caption(table, cost)
        rows = table.take(pa.array(places, pa.int64())).to_pylist()
        new = [(float(cost[place]), row["row_id"], row) for place, row in zip(places, rows, strict=True)]
        best: dict[str, tuple[float, str, dict[str, Any]]] = {}
        for each in sorted(self.held + new, key=lambda each: each[:2]):
            best.setdefault(each[2]["caption"] or each[1], each)
        self.held = list(best.values())[: self.size]

    def _first_of_each_caption(self, table: pa.Table, cost: Doubles) -> list[int]:
        captions, ids = table.column("caption").to_pylist(), table.column("row_id").to_pylist()
        found: dict[str, int] = {}
        for place in np.argsort(cost, kind="stable").tolist():
            if len(found) == self.size or not np.isfinite(cost[place]):
                break
            found.setdefault(captions[place] or ids[place], place)
        return list(found.values())

    def gallery(self) -> Gallery:
        """What was found."""
        return Gallery(self.name, self.title, self.hint, tuple(row for _, _, row in self.held))


def gather(store: RunStore, pairs_per_gallery: int) -> Findings:
    """Read a run's annotations once.

    Args:
        store: a run directory.
        pairs_per_gallery: most pairs to look at for each reason.

    Raises:
        InputError: there are no annotations.
    """
    names = annotation_files(store)
    pairs = sum(part.rows for part in read_parts(store).values())
    one_in = max(1, -(-pairs // SAMPLED_PAIRS))
    chosen = _galleries(pairs_per_gallery)
    statuses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    counts, noise = np.zeros(PROBABILITY_BINS), np.zeros(PROBABILITY_BINS)
    sampled: list[dict[str, Doubles]] = []
    concepts: Counter[str] = Counter()
    words: list[int] = []
    for table in _annotations(store, names):
        statuses.update(table.column("status").to_pylist())
        usable = table.filter(pc.is_valid(table.column("noise_prob")))
        labels.update(usable.column("label").to_pylist())
        probability = _doubles(usable.column("noise_prob"))
        bins = np.minimum((probability * PROBABILITY_BINS).astype(int), PROBABILITY_BINS - 1)
        counts += np.bincount(bins, minlength=PROBABILITY_BINS)
        noise += np.bincount(bins, probability, minlength=PROBABILITY_BINS)
        kept = usable.filter(pa.array(hash_strings(usable.column("row_id").to_pylist(), 1) % np.uint64(one_in) == 0))
        sampled.append(_signals(kept))
        concepts.update(_concept_names(kept))
        words += [len(caption.split()) for caption in kept.column("caption").to_pylist()]
        for each in chosen:
            each.look_at(table)
    return Findings(
        pairs=sum(statuses.values()),
        statuses=dict(statuses.most_common()),
        labels={name: labels[name] for name in ("clean", "uncertain", "noisy")} if labels else {},
        counts=counts,
        noise=noise,
        sample={name: np.concatenate([each[name] for each in sampled]) for name in sampled[0]},
        concepts=dict(concepts.most_common()),
        caption_words=np.array(words, dtype=np.float64),
        galleries=tuple(each.gallery() for each in chosen),
    )


def _annotations(store: RunStore, names: Sequence[str]) -> Iterator[pa.Table]:
    for name in names:
        table = store.read_table(name)
        yield table.drop_columns([column for column in _LEFT_OUT if column in table.column_names])


def _galleries(size: int) -> list[_Chosen]:
    return [
        _Chosen("noisy", "Most doubtful", "captions that least seem to belong to their picture", _from_noisiest, size),
        _Chosen("boundary", "On the boundary", "noise_prob nearest to one half: look here to judge", _from_half, size),
        _Chosen("clean", "Least doubtful", "the best matches of the corpus", _from_cleanest, size),
        _Chosen("random", "At random", "what the corpus is like", _by_hash, size),
        _Chosen("unusable", "Unusable", "pairs that could not be read, and why", _unusable, size),
    ]


def _from_noisiest(table: pa.Table) -> Doubles:
    return 1 - _doubles(table.column("noise_rank"))


def _from_half(table: pa.Table) -> Doubles:
    return np.abs(_doubles(table.column("noise_prob")) - 0.5)


def _from_cleanest(table: pa.Table) -> Doubles:
    return _doubles(table.column("noise_rank"))


def _by_hash(table: pa.Table) -> Doubles:
    usable = np.isfinite(_doubles(table.column("noise_prob")))
    return np.where(usable, hash_strings(table.column("row_id").to_pylist(), 2).astype(np.float64), np.inf)


def _unusable(table: pa.Table) -> Doubles:
    broken = pc.not_equal(table.column("status"), Status.OK.value).to_numpy()
    return np.where(broken, hash_strings(table.column("row_id").to_pylist(), 2).astype(np.float64), np.inf)


def _doubles(column: pa.ChunkedArray) -> Doubles:
    """Nulls become NaN."""
    values: Doubles = column.to_numpy().astype(np.float64)
    return values


def _signals(table: pa.Table) -> dict[str, Doubles]:
    signals = table.column("signals").combine_chunks()
    fields = [] if isinstance(signals, pa.ChunkedArray) else signals.type
    made = {field.name: _doubles(pa.chunked_array([signals.field(field.name)])) for field in fields}
    return {"noise_prob": _doubles(table.column("noise_prob")), **made}


def _concept_names(table: pa.Table) -> Iterator[str]:
    if "concepts" in table.column_names:
        for concepts in table.column("concepts").to_pylist():
            yield from (concept["name"] for concept in concepts or ())
