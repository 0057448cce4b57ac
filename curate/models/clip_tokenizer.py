"""CLIP's tokenizer with open_clip's token ids for every text, in time that grows with its length.

open_clip's own takes the square of a word's length, tokenizes what it then cuts off, and remembers every word it ever
saw. Web captions have words of a million letters.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from open_clip.tokenizer import SimpleTokenizer

if TYPE_CHECKING:
    import torch

LONGEST_USUAL_WORD = 64
"""Bytes of a word up to which open_clip's own merging is used: it is fast there, and such words come again."""
MOST_REMEMBERED = 200_000
_END_OF_WORD = "</w>"


class ClipTokenizer(SimpleTokenizer):  # type: ignore[misc]  # open_clip has no types
    """Texts -> int64 [n, context], as open_clip's SimpleTokenizer gives them."""

    def bpe(self, token: str) -> str:
        """The pieces of a word, with spaces between them."""
        if len(token) > LONGEST_USUAL_WORD:
            return " ".join(merged(token, self.bpe_ranks))
        if len(self.cache) > MOST_REMEMBERED:  # type: ignore[has-type]
            self.cache = {special: special for special in ("<start_of_text>", "<end_of_text>")}
        pieces: str = super().bpe(token)
        return pieces

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> torch.Tensor:
        """See SimpleTokenizer."""
        import torch

        if self.reduction_fn is not None:
            reduced: torch.Tensor = super().__call__(texts, context_length)
            return reduced
        length = context_length or self.context_length
        rows = [texts] if isinstance(texts, str) else texts
        result = torch.zeros(len(rows), length, dtype=torch.long)
        for row, text in enumerate(rows):
            ids = [self.sot_token_id, *self._first(text, length - 1), self.eot_token_id][:length]
            ids[-1] = self.eot_token_id
            result[row, : len(ids)] = torch.tensor(ids)
        return result

    def _first(self, text: str, most: int) -> list[int]:
        """Ids of the first `most` tokens of a text, or a few more."""
        ids: list[int] = []
        for found in self.pat.finditer(self.clean_fn(text)):
            if len(ids) >= most:
                break
            word = "".join(self.byte_encoder[byte] for byte in found[0].encode())
            ids.extend(self.encoder[piece] for piece in self.bpe(word).split(" "))
        return ids


def merged(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Pieces of a word after byte-pair merging, the last marked as the end of the word.

    Merging always the pair of the lowest rank, leftmost first, is what merging all pairs of that rank at once gives,
    because a pair with a merged piece in it has a higher rank than the merge that made the piece.

    Args:
        word: at least one character.
        ranks: of the pairs that are merged.
    """
    pieces: list[str | None] = [*word[:-1], word[-1] + _END_OF_WORD]
    after = list(range(1, len(pieces) + 1))
    before = list(range(-1, len(pieces) - 1))
    waiting = list(_ranked(pieces, ranks))
    heapq.heapify(waiting)
    while waiting:
        _, left, first, second = heapq.heappop(waiting)
        right = after[left]
        if pieces[left] != first or right >= len(pieces) or pieces[right] != second:
            continue
        pieces[left], pieces[right] = first + second, None
        after[left] = after[right]
        if after[right] < len(pieces):
            before[after[right]] = left
        for start in (before[left], left):
            _add_pair(waiting, pieces, after, start, ranks)
    return [piece for piece in pieces if piece is not None]


def _ranked(pieces: list[Any], ranks: Mapping[tuple[str, str], int]) -> Iterator[tuple[int, int, str, str]]:
    for left, pair in enumerate(zip(pieces, pieces[1:])):  # noqa: B905, RUF007 - of unequal length by intent
        if pair in ranks:
            yield ranks[pair], left, *pair


def _add_pair(
    waiting: list[tuple[int, int, str, str]],
    pieces: list[str | None],
    after: list[int],
    left: int,
    ranks: Mapping[tuple[str, str], int],
) -> None:
    if left < 0 or after[left] >= len(pieces):
        return
    first, second = pieces[left], pieces[after[left]]
    assert first is not None, "a piece in the chain is whole"
    assert second is not None, "a piece in the chain is whole"
    rank = ranks.get((first, second))
    if rank is not None:
        heapq.heappush(waiting, (rank, left, first, second))
