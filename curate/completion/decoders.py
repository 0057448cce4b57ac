"""Where a synthetic caption comes from: one interface for copying, writing and choosing among both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.completion.agreement import Agreement
from curate.completion.bank import CaptionBank, Neighbours, nearest
from curate.completion.consensus import consensus_rows, nearest_rows
from curate.completion.mbr import Pool, minimum_risk
from curate.completion.policy import DecoderName
from curate.errors import InputError
from curate.models.captioner import Captioner, CaptionRows, Concept, Sampling
from curate.noise.features import Features
from curate.noise.model import Folds
from curate.noise.similarity import Floats, unit_rows

Encode: TypeAlias = Callable[[Sequence[str]], Floats]

NEIGHBOURS = 30
UNTRAINED: tuple[DecoderName, ...] = ("consensus", "nearest", "coca")
"""Decoders that need no captioner."""


@dataclass(frozen=True)
class Pictures:
    """n pictures that captions are written for.

    Attributes:
        identity: which picture it is, wherever it stands, uint64 [n].
        fold: of the noise model that never saw the pair, int8 [n].
        features: of the pictures; the captions' part is not read.
        image: image embeddings, float32 [n, dv].
        concepts: retrieved ones, best first.
        pixels: the pictures as the decoder wants them, for decoders that need them, uint8 [n, h, w, 3]; else None.
    """

    identity: NDArray[np.uint64]
    fold: Folds
    features: Features
    image: Floats
    concepts: Sequence[Sequence[Concept]]
    pixels: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Written:
    """A caption for every picture, and its text embedding, unit rows, float32 [n, d]."""

    captions: list[str]
    text: Floats


class Decoder(Protocol):
    """Writes one caption a picture; what it writes does not depend on the pictures beside it."""

    def __call__(self, pictures: Pictures) -> Written:
        """See `Written`."""
        ...


@dataclass(frozen=True)
class Copy:
    """The caption of the nearest trusted picture, or of the neighbour that the others agree with most.

    Attributes:
        bank: trusted pairs.
        consensus: whether the neighbours are asked.
    """

    bank: CaptionBank
    consensus: bool

    def __call__(self, pictures: Pictures) -> Written:
        """See `Decoder`."""
        neighbours = nearest(self.bank, pictures.features.image_unit, NEIGHBOURS)
        rows = consensus_rows(self.bank, neighbours) if self.consensus else nearest_rows(neighbours)
        return Written([self.bank.captions[row] for row in rows], self.bank.text[rows])


@dataclass(frozen=True)
class Write:
    """One caption of a captioner.

    Attributes:
        bank: trusted pairs; the words of the nearest ones' captions are given to the captioner.
        captioner: fitted.
        encode: captions -> embeddings float32 [n, d].
        how: greedy, beam or sample.
        seed: of samples.
    """

    bank: CaptionBank
    captioner: Captioner
    encode: Encode
    how: Literal["greedy", "beam", "sample"]
    seed: int

    def __call__(self, pictures: Pictures) -> Written:
        """See `Decoder`."""
        rows = caption_rows(self.bank, pictures, nearest(self.bank, pictures.features.image_unit, NEIGHBOURS))
        captions = self._write(rows, pictures)
        return Written(captions, embedded(captions, self.encode))

    def _write(self, rows: CaptionRows, pictures: Pictures) -> list[str]:
        if self.how == "beam":
            return self.captioner.beam(rows)
        if self.how == "sample":
            drawn = self.captioner.sample(rows, pictures.identity, Sampling(captions=1), self.seed)
            return [captions[0] for captions in drawn]
        return self.captioner.greedy(rows)


@dataclass(frozen=True)
class PoolOptions:
    """How the default decoder weighs its candidates. One set for all corpora, chosen by measurement.

    Attributes:
        sampling: captions drawn beside the greedy one.
        copies: different captions of neighbours in the pool.
        copy_support: share of the witnesses that are neighbours' captions where no picture is near, in [0, 1].
        word_share: of the likeness of two captions, what is that of their words (CIDEr-D); the rest is the cosine of
            their embeddings, in [0, 1].
        alignment: what one standard deviation of agreement with the picture is worth there, in likeness of captions.
        rarity: what a caption loses there for ln(how often it occurs in the bank).
        reach: with c the cosine of the nearest picture, nearness is exp((c - 1) / reach). Near-duplicates' captions
            are better than any that is written: with nearness the share of the neighbours grows, and so does what a
            caption counts as its own witness; alignment and rarity fall.
        temperature: neighbours count exp(cosine / temperature).
        frequency_power: and count ** -power, count being how often their caption occurs in the bank: what is said of
            a whole collection says little of a picture.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(captions=12))
    copies: int = 11
    copy_support: float = 0.4
    word_share: float = 0.4
    alignment: float = 0.4
    rarity: float = 0.2
    reach: float = 0.4
    temperature: float = 0.04
    frequency_power: float = 0.5

    def nearness(self, neighbours: Neighbours) -> Floats:
        """In [0, 1], float32 [n]."""
        near: Floats = np.exp((neighbours.cosine[:, 0] - 1) / np.float32(self.reach))
        return np.minimum(near, np.float32(1))


@dataclass(frozen=True)
class ChooseAmong:
    """The default: minimum Bayes risk over written captions and those of neighbours.

    Attributes:
        bank, captioner, encode, seed: as for `Write`.
        agreement: of captions with pictures, out of fold.
        options: see `PoolOptions`.
    """

    bank: CaptionBank
    captioner: Captioner
    encode: Encode
    seed: int
    agreement: Agreement
    options: PoolOptions = field(default_factory=PoolOptions)

    def __call__(self, pictures: Pictures) -> Written:
        """See `Decoder`."""
        neighbours = nearest(self.bank, pictures.features.image_unit, NEIGHBOURS)
        rows = caption_rows(self.bank, pictures, neighbours)
        drawn = self.captioner.sample(rows, pictures.identity, self.options.sampling, self.seed)
        written = [[first, *others] for first, others in zip(self.captioner.greedy(rows), drawn, strict=True)]
        nearness = self.options.nearness(neighbours)
        pools = self._pools(pictures, written, neighbours, nearness)
        share = self.options.word_share
        chosen = [minimum_risk(pool, share, near) for pool, near in zip(pools, nearness.tolist(), strict=True)]
        captions = [pool.captions[best] for pool, best in zip(pools, chosen, strict=True)]
        return Written(captions, np.stack([pool.text[best] for pool, best in zip(pools, chosen, strict=True)]))

    def _pools(
        self, pictures: Pictures, written: Sequence[Sequence[str]], neighbours: Neighbours, nearness: Floats
    ) -> list[Pool]:
        copies = self._copies(neighbours)
        support = [self._support(*of_row) for of_row in zip(written, copies, nearness.tolist(), strict=True)]
        candidates = [list(held) for held in support]
        text = self._texts(candidates)
        counts = [len(held) for held in candidates]
        of_row = np.repeat(np.arange(len(pictures)), counts)
        agreement = self.agreement(pictures.fold, pictures.features, of_row, text)
        often = [math.log(self.bank.occurrences(caption)) for held in candidates for caption in held]
        merit = np.float32(self.options.alignment) * agreement
        merit -= np.float32(self.options.rarity) * np.array(often, np.float32)
        merit *= (1 - nearness)[of_row]
        cuts = np.cumsum(counts)[:-1]
        pieces = zip(candidates, support, np.split(text, cuts), np.split(merit, cuts), strict=True)
        return [
            Pool(said, texts, self.bank.ngrams(said), np.array([*held.values()], np.float32), merits)
            for said, held, texts, merits in pieces
        ]

    def _copies(self, neighbours: Neighbours) -> list[dict[str, float]]:
        """Weights of the first few different captions of every picture's neighbours; they sum to 1."""
        options, rows = self.options, neighbours.rows
        weight = np.exp((neighbours.cosine - neighbours.cosine[:, :1]) / np.float32(options.temperature))
        weight *= self.bank.trust[rows] * self.bank.count[rows] ** np.float32(-options.frequency_power)
        copies = []
        for places, weights in zip(rows.tolist(), weight.tolist(), strict=True):
            held: dict[str, float] = {}
            for place, value in zip(places, weights, strict=True):
                caption = self.bank.captions[place]
                if caption in held or len(held) < options.copies:
                    held[caption] = held.get(caption, 0.0) + value
            total = sum(held.values())
            copies.append({caption: value / total for caption, value in held.items()})
        return copies

    def _support(self, written: Sequence[str], copies: Mapping[str, float], nearness: float) -> dict[str, float]:
        share = self.options.copy_support + (1 - self.options.copy_support) * nearness
        support = dict.fromkeys(written, 0.0)
        for caption in written:
            support[caption] += (1 - share) / len(written)
        for caption, weight in copies.items():
            support[caption] = support.get(caption, 0.0) + share * weight
        return support

    def _texts(self, candidates: Sequence[Sequence[str]]) -> Floats:
        """Embeddings of all candidates, one after another; those of the bank's captions are known."""
        different = {caption for held in candidates for caption in held}
        known = {caption: self.bank.text[self.bank.first[caption]] for caption in different & self.bank.first.keys()}
        new = sorted(different - known.keys())
        known |= dict(zip(new, embedded(new, self.encode), strict=True))
        return np.stack([known[caption] for held in candidates for caption in held])


def caption_rows(bank: CaptionBank, pictures: Pictures, neighbours: Neighbours) -> CaptionRows:
    """What a captioner is given of pictures."""
    votes = [neighbours.captions(bank, row) for row in range(len(pictures))]
    return CaptionRows(pictures.image, pictures.concepts, votes)


def embedded(captions: Sequence[str], encode: Encode) -> Floats:
    """Unit embeddings of captions, each encoded once; float32 [n, d]."""
    different = sorted(set(captions))
    place = {caption: number for number, caption in enumerate(different)}
    if not different:
        return np.zeros((0, 0), dtype=np.float32)
    return unit_rows(encode(different).astype(np.float32))[[place[caption] for caption in captions]]


def build_decoder(
    name: DecoderName, bank: CaptionBank, captioner: Captioner | None, agreement: Agreement, encode: Encode, seed: int
) -> Decoder:
    """The decoder of that name.

    Raises:
        InputError: it needs a captioner and there is none, or another one.
    """
    if name in ("nearest", "consensus"):
        return Copy(bank, consensus=name == "consensus")
    if captioner is None:
        raise InputError(f"caption.decoder: {name} needs a captioner, and none was fitted. Fit it, or use consensus.")
    if name == "default":
        return ChooseAmong(bank, captioner, encode, seed, agreement)
    architecture = captioner.network.shape.architecture
    if name in ("gru", "transformer") and name != architecture:
        raise InputError(f"caption.decoder: {name}: the captioner that was fitted is a {architecture}. Fit it again.")
    if name in ("gru", "transformer", "beam", "sample"):
        return Write(bank, captioner, encode, _HOW.get(name, "greedy"), seed)
    raise InputError(f"caption.decoder: {name}: it writes with a checkpoint: make a curate.completion.coca.Coca of it")


_HOW: dict[str, Literal["greedy", "beam", "sample"]] = {"beam": "beam", "sample": "sample"}
