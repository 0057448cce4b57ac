"""What the page shows, gathered from the annotations one part at a time: counts, a sample, and pairs to look at.

Memory does not grow with the corpus: figures are counts in fixed bins or by a name of the vocabulary, what needs the
values themselves comes from a bounded sample of pairs, and of the pairs to look at only as many are held as the page
has room for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest import read_parts
from curate.noise.grouping import hash_strings
from curate.ranking import Doubles, doubles
from curate.report.galleries import RANDOM_COLUMN, Galleries, Gallery
from curate.schema import Status, annotation_table
from curate.store import RunStore
from curate.summary import LABELS, annotation_files

PROBABILITY_BINS = 200
SAMPLED_PAIRS = 20_000
_SEED = 2
_LEFT_OUT = ("caption_bytes", "image_sha256", "duplicate_key", "fields")


@dataclass(frozen=True)
class Sample:
    """Usable pairs, all or an even sample of about SAMPLED_PAIRS; m of them.

    Attributes:
        noise_prob: in [0, 1], float64 [m]; NaN: none.
        signals: float64 [m] each, in published orientation; NaN: not computed.
        captions: as they came.
        completed: what trainers get, by row; None: the run completes no captions.
        concepts: names of what each picture shows, the best first.
    """

    noise_prob: Doubles
    signals: dict[str, Doubles]
    captions: tuple[str, ...]
    completed: tuple[str, ...] | None
    concepts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ConceptCount:
    """How often a concept was found, and in how many usable pairs the caption is expected to be wrong.

    Attributes:
        pairs: that show it, all of the run.
        usable: those of them that have a noise_prob.
        noise: sum of their noise_prob.
    """

    pairs: int
    usable: int
    noise: float


@dataclass(frozen=True)
class Findings:
    """Everything the page says of a run, but for the pictures.

    Attributes:
        pairs: all pairs.
        statuses, labels, sources: pairs by status, usable pairs by label, pairs by caption_source.
        copies, near_copies: pairs that repeat an earlier one; pairs whose picture another one (nearly) has too.
        counts, noise: usable pairs, and the sum of their noise_prob, by noise_prob in bins of equal width from 0 to 1;
            float64 [PROBABILITY_BINS].
        concepts: the most frequent first, over all pairs.
        sample: of the usable pairs.
        galleries: pairs to look at.
    """

    pairs: int
    statuses: dict[str, int]
    labels: dict[str, int]
    sources: dict[str, int]
    copies: int
    near_copies: int
    counts: Doubles
    noise: Doubles
    concepts: dict[str, ConceptCount]
    sample: Sample
    galleries: tuple[Gallery, ...]

    @property
    def usable(self) -> int:
        """Pairs that can be used."""
        return self.statuses.get(Status.OK.value, 0)

    @property
    def scored(self) -> int:
        """Pairs with a noise_prob."""
        return int(self.counts.sum())

    @property
    def row_ids(self) -> set[str]:
        """Of the pairs of all galleries."""
        return {row["row_id"] for gallery in self.galleries for row in gallery.rows}


def gather(store: RunStore, pairs_per_gallery: int, examples: int) -> Findings:
    """Read a run's annotations once.

    Args:
        store: a run directory.
        pairs_per_gallery: most pairs to look at for each question.
        examples: most pairs to show of each label and status.

    Raises:
        InputError: there are no annotations.
    """
    names = annotation_files(store)
    pairs = sum(part.rows for part in read_parts(store).values())
    galleries = Galleries(pairs_per_gallery, examples)
    counted = _Counted()
    sampled: list[pa.Table] = []
    for table in _annotations(store, names):
        counted.count(table)
        galleries.look_at(table)
        usable = table.filter(pc.equal(table.column("status"), Status.OK.value))
        sampled.append(usable.filter(pc.less(usable.column(RANDOM_COLUMN), SAMPLED_PAIRS / max(pairs, SAMPLED_PAIRS))))
    return Findings(
        pairs=sum(counted.statuses.values()),
        statuses=dict(counted.statuses.most_common()),
        labels={name: counted.labels[name] for name in LABELS} if counted.labels else {},
        sources=dict(counted.sources.most_common()),
        copies=counted.copies,
        near_copies=counted.near_copies,
        counts=counted.counts,
        noise=counted.noise,
        concepts=counted.concept_counts(),
        sample=_sample(pa.concat_tables(sampled)),
        galleries=galleries.found,
    )


def _annotations(store: RunStore, names: Sequence[str]) -> Iterator[pa.Table]:
    """Part by part, with columns that an older run does not have as null and the column RANDOM_COLUMN."""
    for name in names:
        table = annotation_table(store.read_table(name)).drop_columns(list(_LEFT_OUT))
        hashed = hash_strings(table.column("row_id").to_pylist(), _SEED).astype(np.float64) / 2.0**64
        yield table.append_column(RANDOM_COLUMN, pa.array(hashed))


@dataclass
class _Counted:
    """Counts over all pairs seen so far."""

    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    near_copies: int = 0
    counts: Doubles = field(default_factory=lambda: np.zeros(PROBABILITY_BINS))
    noise: Doubles = field(default_factory=lambda: np.zeros(PROBABILITY_BINS))
    concepts: Counter[str] = field(default_factory=Counter)
    concepts_usable: Counter[str] = field(default_factory=Counter)
    concepts_noise: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def count(self, table: pa.Table) -> None:
        """One part more."""
        for counter, column in ((self.statuses, "status"), (self.labels, "label"), (self.sources, "caption_source")):
            counter.update(_value_counts(table.column(column)))
        self.copies += len(table) - table.column("duplicate_of").null_count
        self.near_copies += len(table) - table.column("near_duplicate_cluster").null_count
        probability = doubles(table.column("noise_prob").drop_null())
        bins = np.minimum((probability * PROBABILITY_BINS).astype(int), PROBABILITY_BINS - 1)
        self.counts += np.bincount(bins, minlength=PROBABILITY_BINS)
        self.noise += np.bincount(bins, probability, minlength=PROBABILITY_BINS)
        self._count_concepts(table)

    def _count_concepts(self, table: pa.Table) -> None:
        lists = table.column("concepts").combine_chunks()
        rows = pc.list_parent_indices(lists)
        names = pc.struct_field(pc.list_flatten(lists), "name")
        noise = pc.cast(table.column("noise_prob").take(rows), pa.float64())
        found = pa.table({"name": names, "noise": noise}).group_by("name", use_threads=False)
        totals = found.aggregate([([], "count_all"), ("noise", "count"), ("noise", "sum")]).to_pydict()
        for name, pairs, usable, wrong in zip(
            totals["name"], totals["count_all"], totals["noise_count"], totals["noise_sum"], strict=True
        ):
            self.concepts[name] += pairs
            self.concepts_usable[name] += usable
            self.concepts_noise[name] += wrong or 0.0

    def concept_counts(self) -> dict[str, ConceptCount]:
        """By name, the most frequent first, equal ones by name."""
        ordered = sorted(self.concepts.items(), key=lambda item: (-item[1], item[0]))
        return {
            name: ConceptCount(pairs, self.concepts_usable[name], self.concepts_noise[name]) for name, pairs in ordered
        }


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}


def _sample(table: pa.Table) -> Sample:
    signals = table.column("signals").combine_chunks()
    made = {each.name: doubles(pa.chunked_array([signals.field(each.name)])) for each in signals.type}
    completed = table.column("completed_caption")
    concepts: list[list[dict[str, Any]] | None] = table.column("concepts").to_pylist()
    return Sample(
        noise_prob=doubles(table.column("noise_prob")),
        signals={name: values for name, values in made.items() if np.isfinite(values).any()},
        captions=tuple(table.column("caption").to_pylist()),
        completed=tuple(completed.to_pylist()) if len(completed) > completed.null_count else None,
        concepts=tuple(tuple(each["name"] for each in row or ()) for row in concepts),
    )
