"""The two networks that write captions, behind one interface: a GRU for little data, a Transformer for much."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from curate.models.words import PAD

Architecture: TypeAlias = Literal["gru", "transformer"]
State: TypeAlias = tuple[torch.Tensor, ...]

_VOTE_SCALE = 50.0


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        architecture: gru or transformer.
        image: width of the image features.
        words: ids of the word vocabulary.
        concepts: known concept names.
        width: of the hidden state.
        layers, heads: of the Transformer.
        longest: words of a caption, at most.
        dropout: while training.
        members: networks that write together, see `Ensemble`.
    """

    architecture: Architecture
    image: int
    words: int
    concepts: int
    width: int
    layers: int
    heads: int
    longest: int
    dropout: float
    members: int


@dataclass(frozen=True)
class Given:
    """What captions of n images are conditioned on.

    Attributes:
        image: features, float32 [n, shape.image].
        concepts: ids from 1, 0 where there are fewer than k, int64 [n, k].
        scores: of the concepts, 0 where there is none, float32 [n, k].
        votes: share of the neighbours' captions that hold each word, in [0, 1], float32 [n, shape.words].
    """

    image: torch.Tensor
    concepts: torch.Tensor
    scores: torch.Tensor
    votes: torch.Tensor

    def repeated(self, times: int) -> Given:
        """Every row `times` times in a row."""
        return Given(
            self.image.repeat_interleave(times, 0),
            self.concepts.repeat_interleave(times, 0),
            self.scores.repeat_interleave(times, 0),
            self.votes.repeat_interleave(times, 0),
        )


class Network(nn.Module, ABC):
    """What both networks share: words, concepts, and a gated bias towards the words of neighbours' captions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.words, shape.width, padding_idx=PAD)
        self.concepts = nn.Embedding(shape.concepts + 1, shape.width, padding_idx=0)
        self.see = nn.Linear(shape.image, shape.width)
        self.bias = nn.Parameter(torch.zeros(shape.words))
        self.gate = nn.Linear(shape.width, 1)
        self.drop = nn.Dropout(shape.dropout)
        nn.init.normal_(self.words.weight, std=shape.width**-0.5)
        nn.init.normal_(self.concepts.weight, std=shape.width**-0.5)

    def logits(self, hidden: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        """Hidden states [..., width] and votes [..., words] -> scores of the next word [..., words]."""
        trust = functional.softplus(self.gate(hidden))
        return functional.linear(self.drop(hidden), self.words.weight, self.bias) + trust * torch.log1p(
            _VOTE_SCALE * votes
        )

    @abstractmethod
    def forward(self, words: torch.Tensor, given: Given) -> torch.Tensor:
        """Scores of the next word after each of words int64 [n, t]: [n, t, words]."""

    @abstractmethod
    def start(self, given: Given) -> State:
        """State before the first word; all tensors have n rows."""

    @abstractmethod
    def step(self, words: torch.Tensor, state: State, place: int) -> tuple[torch.Tensor, State]:
        """Scores of the word after `words` int64 [n], which stand at `place`, and the state then."""


class GruNetwork(Network):
    """Show-and-tell (Vinyals et al., CVPR 2015) with a GRU: image and the score-weighted mean of the concepts'
    embeddings set the first state and stand beside every word.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.first = nn.Linear(shape.width, shape.width)
        self.cell = nn.GRU(2 * shape.width, shape.width, batch_first=True)

    def _context(self, given: Given) -> torch.Tensor:
        named = (self.concepts(given.concepts) * given.scores.unsqueeze(-1)).sum(dim=1)
        total = given.scores.sum(dim=1, keepdim=True).clamp_min(1e-6)
        seen = self.see(self.drop(given.image)) + named / total * self.shape.width**0.5
        context: torch.Tensor = self.drop(torch.tanh(seen))
        return context

    def _run(
        self, words: torch.Tensor, hidden: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = self.drop(self.words(words)) * self.shape.width**0.5
        beside = context.unsqueeze(1).expand(-1, words.shape[1], -1)
        outputs, last = self.cell(torch.cat([embedded, beside], dim=2), hidden.unsqueeze(0))
        return outputs, last[0]

    def forward(self, words: torch.Tensor, given: Given) -> torch.Tensor:
        """See `Network`."""
        context = self._context(given)
        outputs, _ = self._run(words, torch.tanh(self.first(context)), context)
        return self.logits(outputs, given.votes.unsqueeze(1))

    def start(self, given: Given) -> State:
        """See `Network`."""
        context = self._context(given)
        return torch.tanh(self.first(context)), context, given.votes

    def step(self, words: torch.Tensor, state: State, place: int) -> tuple[torch.Tensor, State]:
        """See `Network`."""
        hidden, context, votes = state
        outputs, hidden = self._run(words.unsqueeze(1), hidden, context)
        return self.logits(outputs[:, 0], votes), (hidden, context, votes)


class TransformerNetwork(Network):
    """Decoder over one image token, one token a concept and the words (NLIP's concept-conditioned decoder, Huang et
    al., AAAI 2023, section 3.3, with image and concepts as a prefix instead of cross-attention).

    The prefix is seen by all, a word sees the prefix and the words before it. Pre-norm blocks.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.places = nn.Parameter(torch.randn(shape.longest + 1, shape.width) * 0.02)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)

    def _prefix(self, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and concept tokens [n, 1 + k, width], and which of them are there, bool [n, 1 + k]."""
        image = self.see(self.drop(given.image)).unsqueeze(1)
        named = self.concepts(given.concepts) * given.scores.unsqueeze(-1) * self.shape.width**0.5
        there = torch.cat([torch.ones_like(given.concepts[:, :1], dtype=torch.bool), given.concepts > 0], dim=1)
        return torch.cat([image, named], dim=1), there

    def _embedded(self, words: torch.Tensor, first: int) -> torch.Tensor:
        embedded: torch.Tensor = self.words(words) * self.shape.width**0.5
        dropped: torch.Tensor = self.drop(embedded + self.places[first : first + words.shape[1]])
        return dropped

    def forward(self, words: torch.Tensor, given: Given) -> torch.Tensor:
        """See `Network`."""
        prefix, there = self._prefix(given)
        length, held = words.shape[1], prefix.shape[1]
        rows = torch.cat([prefix, self._embedded(words, 0)], dim=1)
        seen = torch.ones(held + length, held + length, dtype=torch.bool, device=words.device).tril()
        seen[:, :held] = True
        mask = seen & torch.cat([there, torch.ones_like(words, dtype=torch.bool)], dim=1).unsqueeze(1)
        for block in self.blocks:
            rows, _ = block(rows, None, mask.unsqueeze(1))
        return self.logits(self.norm(rows[:, held:]), given.votes.unsqueeze(1))

    def start(self, given: Given) -> State:
        """See `Network`. The cache: keys and values of every layer, [n, layers, 2, heads, tokens, width / heads]."""
        prefix, there = self._prefix(given)
        caches, rows = [], prefix
        for block in self.blocks:
            rows, cache = block(rows, None, there[:, None, None, :])
            caches.append(cache)
        return torch.stack(caches, dim=1), there, given.votes

    def step(self, words: torch.Tensor, state: State, place: int) -> tuple[torch.Tensor, State]:
        """See `Network`."""
        cache, there, votes = state
        there = torch.cat([there, torch.ones_like(there[:, :1])], dim=1)
        rows = self._embedded(words.unsqueeze(1), place)
        caches = []
        for number, block in enumerate(self.blocks):
            rows, grown = block(rows, cache[:, number], there[:, None, None, :])
            caches.append(grown)
        return self.logits(self.norm(rows[:, 0]), votes), (torch.stack(caches, dim=1), there, votes)


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.before, self.between = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attend = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.think = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
        )
        self.drop = nn.Dropout(shape.dropout)

    def forward(
        self, rows: torch.Tensor, cache: torch.Tensor | None, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [n, t, width] after attending to the cache and each other, and the cache grown by them."""
        n, t, width = rows.shape
        query, key, value = self.attend(self.before(rows)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = torch.cat([cache[:, 0], key], dim=2), torch.cat([cache[:, 1], value], dim=2)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        rows = rows + self.drop(self.out(seen.transpose(1, 2).reshape(n, t, width)))
        rows = rows + self.drop(self.think(self.between(rows)))
        return rows, torch.stack([key, value], dim=1)


class Ensemble(nn.Module):
    """Networks that were trained alike from other random weights, and write one caption together: the score of a word
    is its mean log probability. With few pairs each of them errs in its own way.

    A new one has weights from torch's generator.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kind = GruNetwork if shape.architecture == "gru" else TransformerNetwork
        self.members: tuple[Network, ...] = tuple(kind(shape) for _ in range(shape.members))
        for number, member in enumerate(self.members):
            self.add_module(str(number), member)

    def forward(self, words: torch.Tensor, given: Given) -> torch.Tensor:
        """See `Network`."""
        return _mean_log_probability([member(words, given) for member in self.members])

    def start(self, given: Given) -> State:
        """See `Network`: the members' states, one after another."""
        return tuple(held for member in self.members for held in member.start(given))

    def step(self, words: torch.Tensor, state: State, place: int) -> tuple[torch.Tensor, State]:
        """See `Network`."""
        size = len(state) // len(self.members)
        parts = [state[start : start + size] for start in range(0, len(state), size)]
        steps = [member.step(words, part, place) for member, part in zip(self.members, parts, strict=True)]
        return _mean_log_probability([scores for scores, _ in steps]), tuple(
            held for _, after in steps for held in after
        )


def _mean_log_probability(scores: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([functional.log_softmax(score, dim=-1) for score in scores]).mean(dim=0)
