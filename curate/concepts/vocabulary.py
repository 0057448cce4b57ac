"""The concepts an image can show: mined from trusted captions, or read from a file; and which of them a text names."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from curate.concepts.words import Token, Tokenizer, singulars, split_words
from curate.errors import InputError

log = logging.getLogger(__name__)

MOST_NAMES = 1_000_000
# How much more often than by chance the words of a phrase stand together: normalised pointwise mutual information
# (Bouma 2009), 1 where they never stand apart.
PHRASE_NPMI = 0.5
ADJECTIVE_NPMI = 0.6
_PHRASE_SURROUNDINGS = 2
_LONGEST_NAME = 200
_LONGEST_PHRASE = 5
_PROMPT_SEPARATOR = "|"
_NAME_COLUMNS = ("name", "concept", "label")
# Words for the picture rather than for what it shows, and for parts and amounts of anything.
_STOP_CONCEPTS = """
    image photo photograph picture pic snapshot shot close-up closeup view clipart clip-art art artwork illustration
    drawing graphic vector thumbnail jpg jpeg png svg gif file stock version copy example sample collection untitled
    top bottom side front back middle edge end part piece bit lot bunch couple pair number kind type sort variety
    other another one thing something anything everything someone area place way time day today
    january february march april june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday
    aug jan feb apr jun jul sep oct nov dec mon tue thu fri sat
    it us me you he she we they who http https www com org net
    de la le el los las un une una der die das und von et des du en il con per
"""
STOP_CONCEPTS = frozenset(_STOP_CONCEPTS.split())


@dataclass(frozen=True)
class Vocabulary:
    """Names of concepts, each once.

    Attributes:
        names: as they are shown.
        documents: in how many different trusted captions each occurs; 0 where it was not counted.
        prompts: texts whose embeddings stand for the name, () where the templates are to be used.
    """

    names: tuple[str, ...]
    documents: tuple[int, ...]
    prompts: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def counted(self, documents: Sequence[int]) -> Vocabulary:
        """The same with other document frequencies."""
        return replace(self, documents=tuple(documents))

    def to_csv(self) -> bytes:
        """A table to read and edit: name, documents, prompts (separated by |)."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("name", "documents", "prompts"))
        rows = zip(self.names, self.documents, self.prompts, strict=True)
        table.writerows((name, count, _PROMPT_SEPARATOR.join(prompts)) for name, count, prompts in rows)
        return text.getvalue().encode()

    @classmethod
    def from_csv(cls, data: bytes) -> Vocabulary:
        """The vocabulary that `to_csv` wrote."""
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return cls(
            names=tuple(row["name"] for row in rows),
            documents=tuple(int(row["documents"]) for row in rows),
            prompts=tuple(_prompts(row["prompts"]) for row in rows),
        )


def _prompts(cell: str | None) -> tuple[str, ...]:
    return tuple(prompt for part in (cell or "").split(_PROMPT_SEPARATOR) if (prompt := part.strip()))


def read_vocabulary(path: Path) -> Vocabulary:
    """A text file with one name per line, or a table (.csv, .parquet) with a column `name` and maybe `prompts`.

    Empty lines and repeated names (case and white space aside) count once. `prompts` of a Parquet table may be a
    list; in CSV they are separated by |. A mined vocabulary is such a table.

    Raises:
        InputError: the file cannot be read, has no names, or more than a million.
    """
    try:
        rows = list(_read_rows(path))
        vocabulary = _each_once(rows)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such vocabulary file. Give `corpus`, a text file with one name per line, or a table."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a vocabulary (UTF-8 text, CSV or Parquet): {error}") from None
    if not vocabulary.names:
        raise InputError(f"{path}: there is not one name in it. One name per line, or a table with a column `name`.")
    if len(vocabulary) > MOST_NAMES:
        raise InputError(
            f"{path}: {len(vocabulary):,} names; {MOST_NAMES:,} are the most. Leave out those that few captions have."
        )
    log.info("%s: %d names; %d empty lines and repeats left out", path, len(vocabulary), len(rows) - len(vocabulary))
    return vocabulary


def _read_rows(path: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    text = path.read_text(encoding="utf-8-sig")
    if suffix == ".csv":
        return list(_csv_rows(path, text))
    return ((line, ()) for line in text.splitlines())


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    table = csv.DictReader(io.StringIO(text))
    column = _name_column(path, table.fieldnames or ())
    for row in table:
        yield row[column] or "", _prompts(row.get("prompts"))


def _parquet_rows(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from None
    column = _name_column(path, table.column_names)
    cells = table.column("prompts").to_pylist() if "prompts" in table.column_names else [None] * table.num_rows
    prompts = [tuple(map(str, cell)) if isinstance(cell, list) else _prompts(cell) for cell in cells]
    return [(str(name or ""), given) for name, given in zip(table.column(column).to_pylist(), prompts, strict=True)]


def _name_column(path: Path, columns: Sequence[str]) -> str:
    found = [name for name in _NAME_COLUMNS if name in columns]
    if not found:
        raise InputError(f"{path}: a vocabulary table needs a column `name`; it has: {', '.join(columns) or 'none'}")
    return found[0]


def _each_once(rows: Iterable[tuple[str, tuple[str, ...]]]) -> Vocabulary:
    kept: dict[str, tuple[str, tuple[str, ...]]] = {}
    for raw, prompts in rows:
        name = " ".join(raw.split())[:_LONGEST_NAME]
        if name:
            kept.setdefault(name.casefold(), (name, prompts))
    names = tuple(name for name, _ in kept.values())
    return Vocabulary(names, (0,) * len(names), tuple(prompts for _, prompts in kept.values()))


def mine_vocabulary(captions: Iterable[Sequence[Token]], min_documents: int) -> Vocabulary:
    """Nouns and noun phrases of captions that are all different; the most frequent first, then by the alphabet.

    A phrase is two nouns, or an adjective and a noun, that stand together much more often than by chance ("fire
    hydrant", "teddy bear"), and not always among the same words. Where a phrase stands, its words do not count for
    themselves: what occurs in no other way ("hydrant") is no concept beside it.

    Args:
        captions: tagged, each once.
        min_documents: a name is kept if at least so many captions have it.
    """
    tagged = list(captions)
    phrases = _phrases(tagged, min_documents)
    counts: Counter[str] = Counter()
    for tokens in tagged:
        counts.update({" ".join(found) for found in _concepts(tokens, phrases)})
    kept = sorted((name for name, count in counts.items() if count >= min_documents), key=lambda n: (-counts[n], n))
    return Vocabulary(tuple(kept), tuple(counts[name] for name in kept), ((),) * len(kept))


def _is_concept(token: Token) -> bool:
    return token.kind in ("noun", "name", "other_script") and len(token.key) > 1 and token.key not in STOP_CONCEPTS


def _in_a_longer_name(tokens: Sequence[Token], place: int) -> bool:
    """Whether a name stands beside another, as those of people do: nothing one can see."""
    beside = (*tokens[max(place - 1, 0) : place], *tokens[place + 1 : place + 2])
    return tokens[place].kind == "name" and any(token.kind == "name" for token in beside)


def _is_phrase(first: Token, second: Token) -> bool:
    """Whether two words may be one concept, by what they are."""
    return (
        second.kind == "noun"
        and first.kind in ("noun", "name", "adjective")
        and first.key not in STOP_CONCEPTS
        and second.key not in STOP_CONCEPTS
    )


def _phrases(tagged: Sequence[Sequence[Token]], min_documents: int) -> frozenset[tuple[str, str]]:
    """Captions made from one template are many, but what stands around the phrase is always the same."""
    around: dict[tuple[Token, Token], set[tuple[str, str]]] = defaultdict(set)
    pairs: Counter[tuple[Token, Token]] = Counter()
    words: Counter[str] = Counter()
    for tokens in tagged:
        here = {pair: place for place, pair in enumerate(pairwise(tokens)) if _is_phrase(*pair)}
        pairs.update(here.keys())
        words.update({token.key for token in tokens})
        for pair, place in here.items():
            around[pair].add(_neighbours(tokens, place))
    found = set()
    for (first, second), count in pairs.items():
        bound = ADJECTIVE_NPMI if first.kind == "adjective" else PHRASE_NPMI
        cohesion = _npmi(count, words[first.key], words[second.key], len(tagged))
        if count >= min_documents and len(around[first, second]) >= _PHRASE_SURROUNDINGS and cohesion >= bound:
            found.add((first.key, second.key))
    return frozenset(found)


def _neighbours(tokens: Sequence[Token], place: int) -> tuple[str, str]:
    """The words before and after the two at a place, "" where the caption begins or ends."""
    before = tokens[place - 1].key if place else ""
    return before, tokens[place + 2].key if place + 2 < len(tokens) else ""


def _npmi(both: int, first: int, second: int, total: int) -> float:
    """log(p(xy) / p(x)p(y)) / -log p(xy), in [-1, 1]."""
    return math.log(both * total / (first * second)) / -math.log(both / total) if both < total else 1.0


def _concepts(tokens: Sequence[Token], phrases: frozenset[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    place = 0
    while place < len(tokens):
        pair = tuple(token.key for token in tokens[place : place + 2])
        if pair in phrases:
            yield pair
            place += 2
            continue
        if _is_concept(tokens[place]) and not _in_a_longer_name(tokens, place):
            yield pair[:1]
        place += 1


class Mentions:
    """Which names of a vocabulary a text has: the longest ones, by lemmas, none inside another.

    Args:
        vocabulary: the names.
        tokenizer: of names and texts alike.
        said: all words and keys of the texts, in lower case; None: any. A name with another word, other than a regular
            plural of one of these, is not tagged: for a million names that would take minutes.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer, said: Set[str] | None = None) -> None:
        self._place: dict[tuple[str, ...], int] = {}
        for number, name in enumerate(vocabulary.names):
            if said is None or not any(said.isdisjoint(singulars(word)) for word in split_words(name)):
                self._place.setdefault(tuple(token.key for token in tokenizer(name)), number)
            # A lemma that is tagged otherwise without its caption ("painting" alone is a verb) is still its own name.
            self._place.setdefault(tuple(name.casefold().split()), number)
        self._longest = min(_LONGEST_PHRASE, max((len(key) for key in self._place), default=0))

    def __call__(self, tokens: Sequence[Token]) -> list[int]:
        """Numbers of the names, ascending, each once."""
        keys = [token.key for token in tokens]
        found, place = set(), 0
        while place < len(keys):
            length = next((n for n in range(self._longest, 0, -1) if tuple(keys[place : place + n]) in self._place), 0)
            if length:
                found.add(self._place[tuple(keys[place : place + length])])
            place += max(length, 1)
        return sorted(found)
