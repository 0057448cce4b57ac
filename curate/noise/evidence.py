"""All signals of pairs of one fold, by models and reference pairs that never saw them, as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.noise import (
    neg_clip_loss,
    negative_impact,
    neighbours,
    osa,
    rank_correlation,
    topology,
)
from curate.noise.agreement import CSLS, SIGNALS, Projected, Surroundings, agreement, project, surroundings
from curate.noise.features import Features
from curate.noise.memorization import itc_loss
from curate.noise.negative_impact import MemoryBank
from curate.noise.nulls import Mismatches
from curate.noise.references import Batch, References, compare
from curate.noise.signals import CROSSFIT, HIGHER_IS_NOISIER, JOINT_ONLY, SignalName
from curate.noise.similarity import CHUNK, Floats, padded, padded_chunks
from curate.noise.views import View

Positions: TypeAlias = NDArray[np.int32]

# Of every kind of view: its plain cosines, and what is made of them.
_PLAIN = SIGNALS.index("similarity")
# Signals that compare with `Published.pairs`.
BY_REFERENCES: tuple[SignalName, ...] = (
    "neg_clip_loss",
    "rank_correlation",
    "topology",
    "negative_impact",
    "osa",
)


@dataclass(frozen=True)
class Columns:
    """Which column of the evidence is what.

    Attributes:
        joint_views: number of views in the towers' own space; they come first.
        crossfit_views: number of cross-fitted views.
        singles: signals of one column each, after the views' columns.
        refined_views: number of views that refinement added; they come last, and count as cross-fitted ones.
    """

    joint_views: int
    crossfit_views: int
    singles: tuple[SignalName, ...]
    refined_views: int = 0

    @property
    def views(self) -> int:
        """Number of views."""
        return self.joint_views + self.crossfit_views + self.refined_views

    @property
    def count(self) -> int:
        """Number of columns."""
        return len(SIGNALS) * self.views + len(self.singles)

    def of(self, signal: SignalName) -> list[int]:
        """Columns that belong to a signal: similarities are the views' plain cosines, csls what is made of them."""
        if signal in self.singles:
            return [len(SIGNALS) * self.views + self.singles.index(signal)]
        plain = signal in (JOINT_ONLY[0], CROSSFIT[0])
        # The adapter's cosine is no `clip_similarity` any more.
        joint = range(1 if plain else self.joint_views)
        views = joint if signal in JOINT_ONLY else range(self.joint_views, self.views)
        kinds = [_PLAIN] if plain else [kind for kind in range(len(SIGNALS)) if kind != _PLAIN]
        return [len(SIGNALS) * view + kind for view in views for kind in kinds]

    def csls(self, signal: SignalName) -> list[int]:
        """The two halves of CSLS in each view of `clip_csls` or `crossfit_csls`."""
        return [column for column in self.of(signal) if column % len(SIGNALS) in CSLS]

    def heart(self, signal: SignalName) -> list[int]:
        """The columns whose mean stands for the signal."""
        return self.csls(signal) if signal in (JOINT_ONLY[1], CROSSFIT[1]) else self.of(signal)


@dataclass(frozen=True)
class ReferenceSet:
    """Reference pairs of one fold, none of its own: rows of the sample with what round and fold make of them.

    Attributes:
        rows: positions in the sample, int32 [m].
        joint: the pairs in the joint space, or in the fold's cross-fitted one.
        agreement: their own similarity by a model that never saw them, float32 [m].
        weight: how clean they are believed to be, in [0, 1], float32 [m].
    """

    rows: Positions
    joint: Projected
    agreement: Floats
    weight: Floats

    def references(self, sample: Features) -> References:
        """With the features of the sample."""
        features = sample.take(self.rows.astype(np.intp))
        batch = _batch(features, self.joint)
        return References(*batch.arrays(), agreement=self.agreement, weight=self.weight)


def _batch(features: Features, joint: Projected) -> Batch:
    """Published signals get the joint space within a modality too; clipart: topology .62 -> .86, LEMoN .89 -> .90."""
    return Batch(joint.image, joint.text, joint.image, joint.text, features.sketch, features.caption)


@dataclass(frozen=True)
class Published:
    """The reference pairs that published signals compare with, and what is fitted to them.

    Attributes:
        pairs: the references, each with how far it is believed.
        memory: NPC's memory bank among them.
        batches: of negCLIPLoss, positions among them, int32 [K, B].
        boundary: of OSA, mean similarity of shuffled pairs, in [-1, 1].
        temperature: of negCLIPLoss.
    """

    pairs: ReferenceSet
    memory: MemoryBank
    batches: Positions
    boundary: float
    temperature: float


class FoldEvidence:
    """Signals of any pairs, given all that a fold compares pairs with.

    Args:
        views: joint ones first; all are compared with the same bank.
        bank: features of held-out pairs of the fold.
        banks: the bank in each view.
        joint_view: which view is the joint space of published methods.
        columns: the layout.
        heads, negatives, negative_features: of `itc_loss`: the space it is in, and the pairs it contrasts with.
        sample: features that the reference sets are rows of.
        neighbour_set: references of `neighbour_disagreement`, None if it is not asked for.
        published: references of the other published signals.
    """

    def __init__(
        self,
        views: Sequence[View],
        bank: Features,
        banks: Sequence[Projected],
        joint_view: int,
        columns: Columns,
        heads: View,
        negatives: Projected,
        negative_features: Features,
        sample: Features,
        neighbour_set: ReferenceSet | None,
        published: Published | None,
    ) -> None:
        self._views, self._bank, self._banks, self._joint_view = views, bank, banks, joint_view
        self._columns, self._heads, self._negatives = columns, heads, negatives
        self._negative_features = negative_features
        self._neighbours = None if neighbour_set is None else neighbour_set.references(sample)
        self._published = published
        self._published_references = None if published is None else published.pairs.references(sample)

    def of_pairs(self, features: Features) -> Floats:
        """Columns of pairs, float32 [n, f], all higher is cleaner; a row's bytes do not depend on the others."""
        return self.with_memory(features)[0]

    def with_memory(self, features: Features) -> tuple[Floats, Positions]:
        """Columns of pairs, and which rows of the sample are their memory entries.

        Returns:
            `of_pairs`; and the entries by image and by caption that `negative_impact` asks, int32 [n, 2], -1 where
            there is none.
        """
        columns = np.empty((len(features), self._columns.count), dtype=np.float32)
        memory = np.empty((len(features), 2), dtype=np.int32)
        for part in padded_chunks(len(features)):
            made, entries = self._of_chunk(features.take(part).map(padded))
            count = part.stop - part.start
            columns[part], memory[part] = made[:count], entries[:count]
        return columns, memory

    def _of_chunk(self, chunk: Features) -> tuple[Floats, Positions]:
        around = surroundings(chunk, self._bank)
        projected = [project(view, chunk) for view in self._views]
        made = [
            agreement(pairs.similarity(), pairs.image @ bank.text.T, pairs.text @ bank.image.T, around)
            for pairs, bank in zip(projected, self._banks, strict=True)
        ]
        singles, memory = self._singles(chunk, projected[self._joint_view])
        return np.column_stack([*made, singles]), memory

    def of_mismatches(self, mismatches: Mismatches) -> Floats:
        """Columns of pairs made of images and captions of the bank, float32 [m, f]."""
        around = surroundings_of_bank(self._bank)
        parts = list(padded_chunks(len(mismatches)))
        made = [self._view_of_mismatches(bank, around, mismatches, parts) for bank in self._banks]
        heads = [self._singles_of_mismatches(mismatches, part) for part in parts]
        singles = np.concatenate(heads) if heads else np.empty((0, len(self._columns.singles)), np.float32)
        return np.column_stack([*made, singles])

    @staticmethod
    def _view_of_mismatches(
        bank: Projected, around: Surroundings, mismatches: Mismatches, parts: Sequence[slice]
    ) -> Floats:
        """The bank's own cosines are made once: every mismatch finds its rows there."""
        to_texts = bank.image @ bank.text.T
        to_images = np.ascontiguousarray(to_texts.T)
        made = np.empty((len(mismatches), len(SIGNALS)), dtype=np.float32)
        for part in parts:
            image, text = mismatches.image[part], mismatches.text[part]
            own = to_texts[image, text]
            made[part] = agreement(own, to_texts[image], to_images[text], around.of_mismatches(image, text))
        return made

    def _singles_of_mismatches(self, mismatches: Mismatches, part: slice) -> Floats:
        image, text = mismatches.image[part], mismatches.text[part]
        by_image, by_text = self._bank.take(image), self._bank.take(text)
        features = Features(
            image=by_image.image,
            image_unit=by_image.image_unit,
            text=by_text.text,
            raw_image=by_image.raw_image,
            caption=by_text.caption,
            sketch=by_image.sketch,
        )
        joint = self._banks[self._joint_view]
        singles, _ = self._singles(
            features.map(padded), Projected(padded(joint.image[image]), padded(joint.text[text]))
        )
        return singles[: len(image)]

    def _singles(self, chunk: Features, joint: Projected) -> tuple[Floats, Positions]:
        """One column for each single signal of one padded chunk, float32 [CHUNK, s]; memory entries, [CHUNK, 2]."""
        found: dict[SignalName, Floats] = {}
        memory: Positions = np.full((CHUNK, 2), -1, dtype=np.int32)
        if "itc_loss" in self._columns.singles:
            pairs = project(self._heads, chunk)
            found["itc_loss"] = itc_loss(pairs, chunk, self._negatives, self._negative_features)
        batch = _batch(chunk, joint)
        if self._neighbours is not None:
            ((_, compared),) = compare(batch, self._neighbours)
            found["neighbour_disagreement"] = neighbours.of_chunk(compared, self._neighbours)
        if self._published is not None and self._published_references is not None:
            by_publication, memory = self._by_publication(batch, self._published, self._published_references)
            found |= by_publication
        columns = np.empty((CHUNK, len(self._columns.singles)), dtype=np.float32)
        for number, name in enumerate(self._columns.singles):
            columns[:, number] = -found[name] if name in HIGHER_IS_NOISIER else found[name]
        return columns, memory

    def _by_publication(
        self, batch: Batch, published: Published, references: References
    ) -> tuple[dict[SignalName, Floats], Positions]:
        memory: Positions = np.full((len(batch), 2), -1, dtype=np.int32)
        wanted = set(self._columns.singles) & set(BY_REFERENCES)
        if not wanted:
            return {}, memory
        ((_, compared),) = compare(batch, references)
        found: dict[SignalName, Floats] = {}
        if "neg_clip_loss" in wanted:
            found["neg_clip_loss"] = neg_clip_loss.of_chunk(compared, published.batches, published.temperature)
        if "rank_correlation" in wanted:
            found["rank_correlation"] = rank_correlation.of_chunk(compared)
        if "topology" in wanted:
            found["topology"] = topology.of_chunk(compared, references)
        if "negative_impact" in wanted:
            impact = negative_impact.of_chunk(compared, references, published.memory)
            found["negative_impact"] = impact.ratio
            entries = np.column_stack([impact.memory_image, impact.memory_text])
            memory = np.where(entries >= 0, published.pairs.rows[entries], np.int32(-1))
        if "osa" in wanted:
            found["osa"] = osa.of_chunk(compared, published.boundary)
        return found, memory


def surroundings_of_bank(bank: Features) -> Surroundings:
    """Where the pairs of a bank stand among each other."""
    return surroundings(bank, bank)
