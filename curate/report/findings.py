"""What the page shows, gathered from the annotations one part at a time: counts, histograms, and pairs to look at.

Memory does not grow with the corpus: figures are counts in fixed bins, signals come from a bounded sample of pairs,
and of the pairs to look at only as many are held as the page has room for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest import read_parts
from curate.noise.grouping import hash_strings
from curate.ranking import ORDERS, BestRows, Cost, Doubles, at_random, doubles
from curate.schema import Status
from curate.store import RunStore
from curate.summary import annotation_files

PROBABILITY_BINS = 200
SAMPLED_PAIRS = 20_000
_GALLERY_SEED = 2
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
    galleries = _galleries(pairs_per_gallery)
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
        probability = doubles(usable.column("noise_prob"))
        bins = np.minimum((probability * PROBABILITY_BINS).astype(int), PROBABILITY_BINS - 1)
        counts += np.bincount(bins, minlength=PROBABILITY_BINS)
        noise += np.bincount(bins, probability, minlength=PROBABILITY_BINS)
        kept = usable.filter(pa.array(hash_strings(usable.column("row_id").to_pylist(), 1) % np.uint64(one_in) == 0))
        sampled.append(_signals(kept))
        concepts.update(_concept_names(kept))
        words += [len(caption.split()) for caption in kept.column("caption").to_pylist()]
        for _, best in galleries:
            best.look_at(table)
    return Findings(
        pairs=sum(statuses.values()),
        statuses=dict(statuses.most_common()),
        labels={name: labels[name] for name in ("clean", "uncertain", "noisy")} if labels else {},
        counts=counts,
        noise=noise,
        sample={name: np.concatenate([each[name] for each in sampled]) for name in sampled[0]},
        concepts=dict(concepts.most_common()),
        caption_words=np.array(words, dtype=np.float64),
        galleries=tuple(replace(gallery, rows=tuple(best.rows)) for gallery, best in galleries),
    )


def _annotations(store: RunStore, names: Sequence[str]) -> Iterator[pa.Table]:
    for name in names:
        table = store.read_table(name)
        yield table.drop_columns([column for column in _LEFT_OUT if column in table.column_names])


def _galleries(size: int) -> list[tuple[Gallery, BestRows]]:
    """The galleries without their rows yet, and what gathers these."""
    orders: list[tuple[str, str, str, Cost]] = [
        ("noisy", "Most doubtful", "captions that least seem to belong to their picture", ORDERS["noisy"]),
        ("boundary", "On the boundary", "noise_prob nearest to one half: look here to judge", ORDERS["boundary"]),
        ("clean", "Least doubtful", "the best matches of the corpus", ORDERS["clean"]),
        ("random", "At random", "what the corpus is like", _usable_at_random),
        ("unusable", "Unusable", "pairs that could not be read, and why", _unusable_at_random),
    ]
    return [(Gallery(name, title, hint, ()), BestRows(cost, size)) for name, title, hint, cost in orders]


def _usable_at_random(table: pa.Table) -> Doubles:
    usable = np.isfinite(doubles(table.column("noise_prob")))
    return np.where(usable, at_random(_GALLERY_SEED)(table), np.inf)


def _unusable_at_random(table: pa.Table) -> Doubles:
    broken = pc.not_equal(table.column("status"), Status.OK.value).to_numpy()
    return np.where(broken, at_random(_GALLERY_SEED)(table), np.inf)


def _signals(table: pa.Table) -> dict[str, Doubles]:
    signals = table.column("signals").combine_chunks()
    fields = [] if isinstance(signals, pa.ChunkedArray) else signals.type
    made = {field.name: doubles(pa.chunked_array([signals.field(field.name)])) for field in fields}
    return {"noise_prob": doubles(table.column("noise_prob")), **made}


def _concept_names(table: pa.Table) -> Iterator[str]:
    if "concepts" in table.column_names:
        for concepts in table.column("concepts").to_pylist():
            yield from (concept["name"] for concept in concepts or ())
