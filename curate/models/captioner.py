"""A captioner: writes what a picture shows, given its image features, retrieved concepts and neighbours' captions.

NLIP (Huang et al., AAAI 2023, arXiv 2212.07086) completes wrong captions with a concept-conditioned decoder that is
trained on the noisy corpus itself. Here its words are the corpus's own words, so that no broken one can come out.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from curate.errors import InputError, NothingToLearnError
from curate.models.captioner_networks import Architecture, Ensemble, Given, Network, Shape
from curate.models.endings import Endings, fit_endings
from curate.models.threads import one_torch_thread
from curate.models.words import END, PAD, SPECIAL, START, UNKNOWN, Words, fit_words
from curate.noise.similarity import Floats

log = logging.getLogger(__name__)

Hashes: TypeAlias = NDArray[np.uint64]
Concept: TypeAlias = tuple[str, float]
Told: TypeAlias = Callable[[str], None]

BATCH = 64
"""Rows of a forward pass while writing, always; the last one is filled up."""
NETWORK_FILE = "captioner.safetensors"
META_FILE = "captioner.json"
_SORTED_TOGETHER = 16
_NEVER = -1e9
_DROPOUT: dict[Architecture, float] = {"gru": 0.4, "transformer": 0.1}
_LEARNING_RATE: dict[Architecture, float] = {"gru": 2e-3, "transformer": 4e-4}
LONGEST_NEIGHBOUR = 64
"""Words of a neighbour's caption that are looked at."""


@dataclass(frozen=True)
class CaptionerOptions:
    """How a captioner is built and trained. One set of defaults for all corpora, chosen by measurement.

    Attributes:
        architecture: gru, transformer, or auto: a GRU below `transformer_pairs` trusted pairs.
        transformer_pairs: from so many trusted pairs on a Transformer is worth its steps (a GRU trains in a CPU minute
            where a Transformer does not).
        width: hidden width; None: 256 for a GRU, 512 for a Transformer.
        layers, heads: of the Transformer.
        members: networks that are trained and write together; None: 2 for a GRU, 1 for a Transformer.
        concepts: how many of a row's best concepts are looked at.
        longest: words of a caption, at most; longer ones are cut for training.
        least_count: captions that a word must occur in.
        most_words: size of the vocabulary, at most.
        epochs: passes over the effective rows, see `sampling_weights`; None: 14 for a GRU, 8 for a Transformer.
        least_steps: more passes are made where epochs would mean fewer steps.
        batch: rows of a training step.
        learning_rate: highest of a one-cycle schedule; None: 2e-3 for a GRU, 4e-4 for a Transformer.
        dropout: None: .4 for a GRU, .1 for a Transformer.
        label_smoothing: share of the target that is spread over all words.
        frequency_power: rows are drawn with count ** -power, count being how often their caption occurs.
    """

    architecture: Architecture | None = None
    transformer_pairs: int = 300_000
    width: int | None = None
    layers: int = 6
    heads: int = 8
    members: int | None = None
    concepts: int = 6
    longest: int = 24
    least_count: int = 2
    most_words: int = 20_000
    epochs: int | None = None
    least_steps: int = 400
    batch: int = 64
    learning_rate: float | None = None
    dropout: float | None = None
    label_smoothing: float = 0.05
    frequency_power: float = 0.7


@dataclass(frozen=True)
class CaptionRows:
    """What captions are written from, for n pictures.

    Attributes:
        image: features, float32 [n, d].
        concepts: of every picture, best first, any number of (name, score); only how scores above 0 compare with the
            best one matters.
        votes: of every picture, neighbours' captions with the weight of each, which need not sum to 1.
    """

    image: Floats
    concepts: Sequence[Sequence[Concept]]
    votes: Sequence[Sequence[tuple[str, float]]]

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> CaptionRows:
        """Some of the pictures."""
        return CaptionRows(self.image[rows], [self.concepts[row] for row in rows], [self.votes[row] for row in rows])


@dataclass(frozen=True)
class Sampling:
    """Top-k sampling (Fan et al., ACL 2018).

    Attributes:
        captions: drawn for each picture.
        top_k: likeliest words that a word is drawn from.
        temperature: above 0; smaller is less daring.
    """

    captions: int = 8
    top_k: int = 15
    temperature: float = 0.7


@dataclass(frozen=True)
class Captioner:
    """A fitted decoder. Its bytes depend on rows, options and seed alone.

    Attributes:
        words: what it can read and write.
        concepts: names it knows; name i has id i + 1.
        mean, scale: image features are centred and scaled by these, float32 [d], [1].
        network: weights on the CPU.
        endings: where captions may end.
        options: how it was made.
        diagnostics: JSON-able figures of the fit.
    """

    words: Words
    concepts: tuple[str, ...]
    mean: Floats
    scale: Floats
    network: Ensemble = field(compare=False)
    endings: Endings = field(compare=False)
    options: CaptionerOptions
    diagnostics: dict[str, Any]

    def greedy(self, rows: CaptionRows) -> list[str]:
        """The likeliest word at every place."""
        written = [self._write(given, lambda scores, _: scores.argmax(dim=1), 1) for given in self._batches(rows)]
        return self._captions(written, len(rows))

    def sample(self, rows: CaptionRows, identity: Hashes, how: Sampling, seed: int) -> list[list[str]]:
        """`how.captions` captions a picture, equal ones kept.

        Args:
            rows: the pictures.
            identity: of each picture, uint64 [n]: what it draws depends on it and the seed, not on the rows beside it.
            how: see `Sampling`.
            seed: of all draws.
        """
        written = []
        for number, given in enumerate(self._batches(rows)):
            keys = identity[number * BATCH : (number + 1) * BATCH]
            draws = _uniform_draws(keys, how.captions, self.options.longest, seed)
            written.append(self._write(given.repeated(how.captions), _drawing(draws, how), how.captions))
        captions = self._captions(written, len(rows) * how.captions)
        return [captions[start : start + how.captions] for start in range(0, len(captions), how.captions)]

    def beam(self, rows: CaptionRows, width: int = 4) -> list[str]:
        """Beam search; captions compared by mean log probability of their words and END."""
        torch.set_num_threads(1)
        with torch.inference_mode():
            written = [self._beams(given, width) for given in self._batches(rows)]
        return self._captions(written, len(rows))

    def _captions(self, written: Sequence[torch.Tensor], count: int) -> list[str]:
        ids = [row for block in written for row in block.tolist()]
        return [self.words.decode(self._whole(row)) for row in ids[:count]]

    def _whole(self, ids: list[int]) -> list[int]:
        """A caption that reached the longest length goes back to its last possible end."""
        return ids if END in ids else self.endings.cut([number for number in ids if number != PAD])

    def _batches(self, rows: CaptionRows) -> Iterator[Given]:
        """Whole batches of BATCH pictures, the last one filled up with nothing."""
        for start in range(0, len(rows), BATCH):
            part = rows.take(range(start, min(start + BATCH, len(rows))))
            yield self.given(part, BATCH)

    def given(self, rows: CaptionRows, filled_to: int) -> Given:
        """Rows as tensors, followed by empty ones."""
        conditions = _Conditions(rows, self.words, self.concepts, self.mean, self.scale, self.options.concepts)
        return conditions.given(range(len(rows)), filled_to)

    def _write(self, given: Given, choose: Callable[[torch.Tensor, int], torch.Tensor], times: int) -> torch.Tensor:
        """Ids int64 [n, longest + 1] that end in END, then PAD."""
        # Not put back: other threads may be writing at the same time.
        torch.set_num_threads(1)
        with torch.inference_mode():
            network = self.network.eval()
            state, count = network.start(given), len(given.image)
            words = torch.full((count,), START)
            ended = torch.zeros(count, dtype=torch.bool)
            written = torch.full((count, self.options.longest + 1), PAD)
            for place in range(self.options.longest):
                scores, state = network.step(words, state, place)
                words = choose(self._allowed(scores, written[:, :place]), place)
                written[:, place] = torch.where(ended, PAD, words)
                ended |= words == END
                if bool(ended.all()):
                    break
            return written

    def _allowed(self, scores: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Scores [n, words] of what may follow `written`, int64 [n, place]; the others' are _NEVER.

        No special ids but END, no word twice in a row, no pair of words twice in a caption, and no end where training
        captions do not end.
        """
        scores = scores.clone()
        scores[:, [PAD, START, UNKNOWN]] = _NEVER
        if not written.shape[1]:
            scores[:, END] = _NEVER
            return scores
        before, word = functional.pad(written, (1, 0), value=START)[:, -2:].T
        self.endings.forbid(scores, before, word, _NEVER)
        said_after = torch.where(written[:, :-1] == word.unsqueeze(1), written[:, 1:], PAD)
        return scores.scatter(1, torch.cat([said_after, word.unsqueeze(1)], dim=1), _NEVER)

    def _beams(self, given: Given, width: int) -> torch.Tensor:
        network, count, longest = self.network.eval(), len(given.image), self.options.longest
        state = network.start(given.repeated(width))
        words = torch.full((count * width,), START)
        total = torch.full((count, width), _NEVER)
        total[:, 0] = 0
        length = torch.ones(count, width)
        ended = torch.zeros(count, width, dtype=torch.bool)
        written = torch.full((count, width, longest + 1), PAD)
        first_of_row = torch.arange(count).unsqueeze(1) * width
        for place in range(longest):
            scores, state = network.step(words, state, place)
            allowed = self._allowed(scores, written[:, :, :place].flatten(0, 1))
            likely = functional.log_softmax(allowed, dim=1).view(count, width, -1)
            likely = torch.where(ended.unsqueeze(2), torch.full_like(likely, _NEVER), likely)
            likely[:, :, PAD] = torch.where(ended, torch.zeros_like(total), torch.full_like(total, _NEVER))
            grown = total.unsqueeze(2) + likely
            ranked = grown / (length + (~ended).float()).unsqueeze(2)
            best = ranked.view(count, -1).topk(width, dim=1).indices
            parent, chosen = best // likely.shape[2], best % likely.shape[2]
            total = grown.view(count, -1).gather(1, best)
            was_ended = ended.gather(1, parent)
            length = length.gather(1, parent) + (~was_ended).float()
            written = written.gather(1, parent.unsqueeze(2).expand(-1, -1, longest + 1)).clone()
            written[:, :, place] = chosen
            ended = was_ended | (chosen == END)
            words = chosen.flatten()
            state = tuple(held[(first_of_row + parent).flatten()] for held in state)
            if bool(ended.all()):
                break
        best_beam = (total / length).argmax(dim=1)
        return written[torch.arange(count), best_beam]

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors for weights, JSON for the rest. Equal captioners give equal bytes."""
        from safetensors.torch import save

        tensors = {f"network.{name}": tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        tensors |= {"mean": torch.from_numpy(self.mean), "scale": torch.from_numpy(self.scale)}
        tensors |= self.endings.to_tensors()
        meta = {
            "words": self.words.to_json(),
            "concepts": self.concepts,
            "shape": asdict(self.network.shape),
            "options": asdict(self.options),
            "diagnostics": self.diagnostics,
        }
        text = json.dumps(meta, sort_keys=True, allow_nan=False, ensure_ascii=False)
        return {NETWORK_FILE: save(tensors), META_FILE: text.encode()}

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> Captioner:
        """The captioner that `to_bytes` wrote, exactly.

        Raises:
            InputError: weights and description do not fit each other.
        """
        from safetensors.torch import load

        meta, tensors = json.loads(files[META_FILE]), load(files[NETWORK_FILE])
        network = Ensemble(Shape(**meta["shape"]))
        held = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        try:
            network.load_state_dict(held)
        except RuntimeError as error:
            raise InputError(f"{NETWORK_FILE} does not fit {META_FILE}: {error}. Fit the captioner again.") from None
        return cls(
            words=Words.from_json(meta["words"]),
            concepts=tuple(meta["concepts"]),
            mean=tensors["mean"].numpy(),
            scale=tensors["scale"].numpy(),
            network=network.eval().requires_grad_(False),
            endings=Endings.from_tensors(tensors),
            options=CaptionerOptions(**meta["options"]),
            diagnostics=meta["diagnostics"],
        )


class _Conditions:
    """Rows made ready to be given to a network: names and captions are looked up once."""

    def __init__(
        self, rows: CaptionRows, words: Words, concepts: Sequence[str], mean: Floats, scale: Floats, best: int
    ) -> None:
        self.image = (rows.image - mean) / scale
        self.ids = np.zeros((len(rows), best), dtype=np.int64)
        self.scores = np.zeros((len(rows), best), dtype=np.float32)
        self.words = len(words)
        known = {name: number + 1 for number, name in enumerate(concepts)}
        for row, named in enumerate(rows.concepts):
            held = [(known[name], score) for name, score in named if name in known and score > 0][:best]
            for place, (number, score) in enumerate(held):
                self.ids[row, place], self.scores[row, place] = number, score / held[0][1]
        captions = {caption for neighbours in rows.votes for caption, _ in neighbours}
        tokens = {caption: _known_words(words, caption) for caption in captions}
        self.votes = [_votes(neighbours, tokens) for neighbours in rows.votes]

    def given(self, rows: Sequence[int] | NDArray[np.intp], filled_to: int) -> Given:
        """Some of the rows as tensors, followed by empty ones."""
        missing = filled_to - len(rows)
        votes = np.zeros((filled_to, self.words), dtype=np.float32)
        for place, row in enumerate(rows):
            tokens, weights = self.votes[row]
            np.add.at(votes[place], tokens, weights)
        dense = (self.image[rows], self.ids[rows], self.scores[rows])
        image, ids, scores = (torch.from_numpy(np.pad(held, ((0, missing), (0, 0)))) for held in dense)
        return Given(image, ids, scores, torch.from_numpy(votes))


def _known_words(words: Words, caption: str) -> NDArray[np.intp]:
    ids = sorted({number for number in words.encode(caption, LONGEST_NEIGHBOUR) if number >= SPECIAL})
    return np.array(ids, dtype=np.intp)


def _votes(
    neighbours: Sequence[tuple[str, float]], tokens: Mapping[str, NDArray[np.intp]]
) -> tuple[NDArray[np.intp], Floats]:
    """Words of the neighbours' captions and the share of weight of each, one after another."""
    total = sum(weight for _, weight in neighbours) or 1.0
    if not neighbours:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.float32)
    ids = [tokens[caption] for caption, _ in neighbours]
    shares = [
        np.full(len(held), weight / total, np.float32) for held, (_, weight) in zip(ids, neighbours, strict=True)
    ]
    return np.concatenate(ids), np.concatenate(shares)


def _drawing(draws: torch.Tensor, how: Sampling) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Draws words by inverting the cumulative distribution at uniform numbers [n, longest]."""

    def choose(scores: torch.Tensor, place: int) -> torch.Tensor:
        best = scores.topk(min(how.top_k, scores.shape[1]), dim=1)
        cumulative = functional.softmax(best.values / how.temperature, dim=1).cumsum(dim=1)
        chosen = (cumulative < draws[:, place : place + 1]).sum(dim=1).clamp_max(best.values.shape[1] - 1)
        return best.indices.gather(1, chosen.unsqueeze(1)).squeeze(1)

    return choose


def _uniform_draws(identity: Hashes, captions: int, longest: int, seed: int) -> torch.Tensor:
    """Float32 [BATCH * captions, longest] in [0, 1): each picture's own stream of random numbers."""
    draws = np.zeros((BATCH, captions, longest), dtype=np.float32)
    for row, key in enumerate(identity.tolist()):
        draws[row] = np.random.Generator(np.random.Philox(key=[seed % 2**64, key])).random((captions, longest))
    return torch.from_numpy(draws.reshape(BATCH * captions, longest))


def sampling_weights(captions: Sequence[str], power: float) -> Floats:
    """How often each row is drawn: count ** -power, count being how often its caption occurs; float32 [n].

    Without it captions that name a whole collection make up most of what is learned.
    """
    count = Counter(captions)
    return np.array([count[caption] ** -power for caption in captions], dtype=np.float32)


@dataclass(frozen=True)
class _Scaling:
    mean: Floats
    scale: Floats
    options: CaptionerOptions


def fit_captioner(
    rows: CaptionRows, captions: Sequence[str], weights: Floats, options: CaptionerOptions, seed: int
) -> Captioner:
    """Train on trusted pairs. Deterministic for one order of the rows: give them in a seeded order of their identity.

    AdamW, one-cycle schedule, cross entropy with label smoothing, length-sorted batches, one thread, CPU.
    O(epochs rows words width) for a GRU.

    Args:
        rows: pictures; concepts and votes must come from models that never saw the row itself.
        captions: theirs.
        weights: 1 - noise_prob, float32 [n].
        options: see `CaptionerOptions`.
        seed: of weights, order and dropout.

    Raises:
        NothingToLearnError: no caption has a word that the vocabulary keeps.
    """
    words = fit_words(captions, options.least_count, options.most_words)
    encoded = [words.encode(caption, None) for caption in captions]
    usable = [row for row, ids in enumerate(encoded) if any(number != UNKNOWN for number in ids)]
    if not usable:
        raise NothingToLearnError(
            f"no word occurs in {options.least_count} of the {len(captions):,} trusted captions, so there is "
            "nothing to write with. Add inputs, or choose `decoder: consensus`, which only copies."
        )
    rows = rows.take(usable)
    names = tuple(sorted({name for held in rows.concepts for name, _ in held[: options.concepts]}))
    scaling = _Scaling(
        rows.image.mean(axis=0), np.maximum(rows.image.std(keepdims=True)[0], np.float32(1e-6)), options
    )
    shape = _shape(options, rows.image.shape[1], len(words), len(names), len(usable))
    chance = sampling_weights([captions[row] for row in usable], options.frequency_power)
    kept_weights = weights[usable].astype(np.float32)
    whole = [encoded[row] for row in usable]
    with one_torch_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        network = Ensemble(shape)
        training = _Training(shape, rows, whole, kept_weights, chance, words, names, scaling, seed)
        losses = [training.run(member) for member in network.members]
    figures = {
        "architecture": shape.architecture, "pairs": len(usable), "words": len(words) - SPECIAL,
        "epochs": training.epochs, "steps": training.epochs * training.steps_per_epoch, "losses": losses,
    }  # fmt: skip
    network.eval().requires_grad_(False)
    endings = fit_endings(whole, chance * kept_weights, words)
    return Captioner(words, names, scaling.mean, scaling.scale, network, endings, options, figures)


def _shape(options: CaptionerOptions, image: int, words: int, concepts: int, pairs: int) -> Shape:
    large = pairs >= options.transformer_pairs
    architecture: Architecture = options.architecture or ("transformer" if large else "gru")
    return Shape(
        architecture=architecture,
        image=image,
        words=words,
        concepts=concepts,
        width=options.width or (256 if architecture == "gru" else 512),
        layers=options.layers,
        heads=options.heads,
        longest=options.longest,
        dropout=_DROPOUT[architecture] if options.dropout is None else options.dropout,
        members=options.members or (2 if architecture == "gru" else 1),
    )


class _Training:
    """Rows and order of batches of one fit."""

    def __init__(
        self,
        shape: Shape,
        rows: CaptionRows,
        encoded: Sequence[Sequence[int]],
        weights: Floats,
        chance: Floats,
        words: Words,
        names: Sequence[str],
        scaling: _Scaling,
        seed: int,
    ) -> None:
        self.weights = torch.from_numpy(weights)
        self.options = scaling.options
        self.conditions = _Conditions(rows, words, names, scaling.mean, scaling.scale, scaling.options.concepts)
        self.chance = chance.astype(np.float64) / float(chance.sum(dtype=np.float64))
        self.drawn = max(1, round(float(chance.sum(dtype=np.float64))))
        longest = scaling.options.longest + 2
        self.texts = [torch.tensor([START, *ids, END][:longest]) for ids in encoded]
        self.lengths = np.array([len(text) for text in self.texts])
        self.rng = np.random.default_rng([seed % 2**63, len(encoded)])
        epochs = self.options.epochs or (14 if shape.architecture == "gru" else 8)
        self.steps_per_epoch = -(-self.drawn // self.options.batch)
        self.epochs = max(epochs, -(-self.options.least_steps // self.steps_per_epoch))

    def run(self, network: Network) -> float:
        """Train; the mean loss of the last epoch."""
        highest = self.options.learning_rate or _LEARNING_RATE[network.shape.architecture]
        optimiser = torch.optim.AdamW(network.parameters(), lr=highest, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, highest, total_steps=self.epochs * self.steps_per_epoch
        )
        network.train()
        loss = 0.0
        for epoch in range(self.epochs):
            log.info("%s, epoch %d of %d", self.options.architecture, epoch + 1, self.epochs)
            loss = 0.0
            for batch in self._order():
                optimiser.zero_grad()
                value = self._loss(network, batch)
                value.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                loss += float(value.detach()) / self.steps_per_epoch
        return round(loss, 4)

    def _order(self) -> list[NDArray[np.intp]]:
        """Batches of one epoch: rows of like length together, batches in random order."""
        drawn = self.rng.choice(len(self.texts), self.drawn, p=self.chance)
        window = self.options.batch * _SORTED_TOGETHER
        batches: list[NDArray[np.intp]] = []
        for start in range(0, len(drawn), window):
            block = drawn[start : start + window]
            block = block[np.argsort(self.lengths[block], kind="stable")]
            batches += [block[at : at + self.options.batch] for at in range(0, len(block), self.options.batch)]
        return [batches[number] for number in self.rng.permutation(len(batches))]

    def _loss(self, network: Network, batch: NDArray[np.intp]) -> torch.Tensor:
        given = self.conditions.given(batch, len(batch))
        texts = [self.texts[row] for row in batch.tolist()]
        inputs = pad_sequence([text[:-1] for text in texts], batch_first=True, padding_value=PAD)
        targets = pad_sequence([text[1:] for text in texts], batch_first=True, padding_value=PAD)
        targets[targets == UNKNOWN] = PAD
        scores = network(inputs, given)
        losses = functional.cross_entropy(
            scores.flatten(0, 1),
            targets.flatten(),
            ignore_index=PAD,
            reduction="none",
            label_smoothing=self.options.label_smoothing,
        ).view_as(targets)
        weights = self.weights[batch].unsqueeze(1) * (targets != PAD)
        total: torch.Tensor = (losses * weights).sum() / weights.sum().clamp_min(1e-6)
        return total
