"""Which pairs of a whole corpus occur twice, and which show the same picture or nearly the same.

All that grows with the corpus lies in temporary files; at most ROWS_IN_MEMORY rows are worked on at once. Pairs and
pictures are sorted on disk by hashes of their content, so that equal ones stand side by side. Nearly equal pictures
are found among those that share a cell of one of several random partitions of the space of sketches, and are
clustered as in `grouping.group_by_picture`: no chains.

Pictures are numbered in the order of a seeded hash of their checksums, and everything after that goes by number. So
clusters depend on content alone, not on row order, part size or number of workers.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.errors import CurateError
from curate.noise.grouping import NEAR_IMAGE_COSINE, group_by_picture, hash_strings, near
from curate.noise.similarity import map_rows

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]
Records = NDArray[np.void]

ROWS_IN_MEMORY = 1 << 17
EXACT_SEARCH_PICTURES = 20_000
BOUNDARY_RECALL = 0.99
CELL_ROWS = 512
NEIGHBOURS_PER_CELL = 8
# More cells than pictures, as pictures are not spread evenly: of 1e6, with the features of photos and of drawings, 4
# to 300 on average share the cell of a picture.
_BITS_PER_DOUBLING = 1.2
_BLOCK_ROWS = 128
_BLOCKS_PER_WRITE = 64


@dataclass(frozen=True)
class PictureRows:
    """The usable rows of one part.

    Attributes:
        part: the part's number.
        rows: their offsets in the part, int32 [n].
        row_ids: unique.
        image_sha256: checksums of their pictures' bytes.
        captions: as they came.
        sketch: fingerprints of their pictures (`grouping.Sketch`): unit rows that half precision holds, float16 or
            float32 [n, s].
    """

    part: int
    rows: NDArray[np.int32]
    row_ids: Sequence[str]
    image_sha256: Sequence[str]
    captions: Sequence[str]
    sketch: Floats | Halves


@dataclass(frozen=True)
class MarkedRows:
    """The same rows, marked.

    Attributes:
        part, rows: as in `PictureRows`.
        duplicate_of: row_id of the first pair in input order with the same picture bytes and the same caption; None
            for that first one, and for a pair that occurs once.
        near_duplicate_cluster: 16 hex digits that all pairs share whose pictures are the same or nearly the same: the
            smallest seeded hash of their checksums, which is that of the cluster's leader. None where no other pair
            shares it.
    """

    part: int
    rows: NDArray[np.int32]
    duplicate_of: list[str | None]
    near_duplicate_cluster: list[str | None]


@contextmanager
def mark_duplicates(
    parts: Iterable[PictureRows], seed: int, folder: Path | None = None
) -> Iterator[Iterator[MarkedRows]]:
    """Mark exact duplicates of pairs and near duplicates of pictures over all parts; one `MarkedRows` per part.

    Two pairs are duplicates if checksum and caption are equal (a 128-bit hash of both is). Pictures with equal
    checksum or equal sketch are one picture. A picture is near another if `grouping.near` says so of their sketches;
    in the order of its seeded hash it joins the first leader it is near to, else it leads.

    Up to EXACT_SEARCH_PICTURES different sketches no near picture is missed. Above, pictures are compared that meet
    in a cell: `expected_recall` is at least .99 at cosine .99 and .999 at .995. What keeps the time linear even for
    one picture that was recompressed a million times costs a little more: a cell of more than CELL_ROWS pictures is
    compared in pieces, each with itself and with up to CELL_ROWS pictures before it that had no near one; and a
    picture remembers, per cell, its first NEIGHBOURS_PER_CELL near ones. In families of 100 pictures that lie as far
    apart as "near" reaches, 1.7 % are clustered otherwise than by the exact search; of clipart .1 %.

    Time: O(n log n) for sorting, O(n tables CELL_ROWS s) at worst for comparing; a million pictures of 129 dimensions
    take about a minute on one core, two if all are near one another. Memory: one part and ROWS_IN_MEMORY rows, about
    350 MB; 52 bytes per pair are memory-mapped files, which the kernel drops when it needs the room. Disk: about .8 kB
    per pair (3 kB if all are near one another), removed on leaving the context, by an error too.

    Args:
        parts: in input order; read once. A part without usable rows comes back without rows.
        seed: of the pictures' hashes and of the random planes; other seeds choose other leaders.
        folder: where the temporary files go, a disk; without it the system's temporary folder.

    Yields:
        The parts in the order they came, read back one by one; to be used inside the context.

    Raises:
        CurateError: the temporary files cannot be written.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix="curate-duplicates-", dir=folder)
    except OSError as error:
        raise _unwritable(folder or Path(tempfile.gettempdir()), error) from error
    with temporary as name:
        corpus = _Corpus(Path(name), seed)
        for part in parts:
            corpus.add(part)
        with threadpool_limits(1):
            corpus.mark()
        yield corpus.marked()


def expected_recall(cosine: float, pictures: int) -> float:
    """Probability that two pictures whose sketches have this cosine are compared, in [0, 1].

    Random hyperplanes through the origin part two directions with probability angle / pi each (Charikar, "Similarity
    estimation techniques from rounding algorithms", STOC 2002, section 3). They share a cell if none of `bits` planes
    parts them, and are compared if they share one in any table. Cells of more than 2 CELL_ROWS pictures lower it.

    Args:
        cosine: of the two sketches; those of pictures have at least the cosine of the centred features.
        pictures: number of different sketches in the corpus.
    """
    if pictures <= EXACT_SEARCH_PICTURES:
        return 1.0
    bits, tables = _partitions(pictures)
    return 1 - (1 - _same_cell(cosine, bits)) ** tables


def _partitions(pictures: int) -> tuple[int, int]:
    """Planes per table, and tables so that pictures at the boundary of "near" meet with BOUNDARY_RECALL."""
    bits = math.ceil(_BITS_PER_DOUBLING * math.log2(max(pictures, 2)))
    met = _same_cell(NEAR_IMAGE_COSINE, bits)
    return bits, math.ceil(math.log(1 - BOUNDARY_RECALL) / math.log(1 - met))


def _same_cell(cosine: float, bits: int) -> float:
    return (1 - math.acos(cosine) / math.pi) ** bits


class _Corpus:
    """All rows in input order, spilled to a folder, and what was found about them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._parts: list[tuple[int, int]] = []
        self._rows = 0
        self._pairs, self._images = _Sorter(folder / "pairs"), _Sorter(folder / "images")
        self._pictures = _Pictures(folder)
        self._row_ids = _Strings(folder)

    def add(self, part: PictureRows) -> None:
        """Spill the rows of one part."""
        self._parts.append((part.part, len(part.rows)))
        _append(self._folder / "offsets", part.rows.astype(np.int32))
        if not len(part.rows):
            return
        rows = np.arange(self._rows, self._rows + len(part.rows))
        self._rows += len(rows)
        self._pairs.append(_records({"key": _pair_digests(part), "row": rows}))
        sketch = np.ascontiguousarray(part.sketch, dtype=np.float16)
        sketch_digests = _digests((row.tobytes() for row in sketch), words=1)
        image = np.column_stack([hash_strings(part.image_sha256, self._seed), sketch_digests])
        self._images.append(_records({"key": image, "row": rows, "sketch": sketch}))
        self._row_ids.append(part.row_ids)

    def mark(self) -> None:
        """Find the first pair equal to each, the picture of each, and what leads that picture."""
        self._first = _disk_array(self._folder / "first", self._rows)
        for run in _runs(self._pairs.in_order(), "row", words=2):
            self._first[run.records["row"]] = run.first
        self._picture = _disk_array(self._folder / "picture", self._rows)
        for run in _runs(self._images.in_order(), "row", words=1):
            self._picture[run.records["row"]] = self._pictures.count - 1 + np.cumsum(run.starts)
            self._pictures.append(run.records[run.starts])
        self._pictures.cluster(self._seed)
        self._cluster_pairs = _disk_array(self._folder / "cluster_pairs", self._pictures.count)
        for start in range(0, self._rows, ROWS_IN_MEMORY):
            leaders = self._pictures.leader[self._picture[start : start + ROWS_IN_MEMORY]]
            numbers, counts = np.unique(leaders, return_counts=True)
            self._cluster_pairs[numbers] += counts

    def marked(self) -> Iterator[MarkedRows]:
        """The parts in the order they came."""
        start = 0
        for part, count in self._parts:
            rows = np.arange(start, start + count)
            offsets = _read(self._folder / "offsets", np.dtype(np.int32), start, count)
            yield MarkedRows(part, offsets, self._duplicate_of(rows), self._clusters(rows))
            start += count

    def _duplicate_of(self, rows: Integers) -> list[str | None]:
        found: list[str | None] = [None] * len(rows)
        first = self._first[rows]
        duplicates = np.nonzero(first != rows)[0]
        for place, row_id in zip(duplicates.tolist(), self._row_ids.take(first[duplicates]), strict=True):
            found[place] = row_id
        return found

    def _clusters(self, rows: Integers) -> list[str | None]:
        leaders = self._pictures.leader[self._picture[rows]]
        hashes, shared = self._pictures.hashes[leaders], self._cluster_pairs[leaders] > 1
        return [f"{h:016x}" if s else None for h, s in zip(hashes.tolist(), shared.tolist(), strict=True)]


class _Pictures:
    """The different pictures, numbered in the order of their hashes, and which one leads each.

    Attributes:
        count: number of pictures.
        hashes: seeded hash of each checksum, uint64 [count].
        leader: number of the picture whose cluster each belongs to, int64 [count].
    """

    hashes: Keys
    leader: Integers

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_sketch = _Sorter(folder / "by_sketch")
        self.count, self._width = 0, 0

    def append(self, images: Records) -> None:
        """Pictures that follow in order; key: hashes of checksum and sketch."""
        numbers = np.arange(self.count, self.count + len(images))
        _append(self._folder / "hashes", np.ascontiguousarray(images["key"][:, 0]))
        _append(self._folder / "sketches", np.ascontiguousarray(images["sketch"]))
        self._by_sketch.append(_records({"key": images["key"][:, 1:], "picture": numbers}))
        self.count += len(images)
        self._width = images["sketch"].shape[1]

    def cluster(self, seed: int) -> None:
        """Leader clustering in the order of the numbers, of pictures with different sketches."""
        self.hashes = _disk_array(self._folder / "hashes", self.count, np.uint64)
        self.leader = _disk_array(self._folder / "leader", self.count)
        different = 0
        for run in _runs(self._by_sketch.in_order(), "picture", words=1):
            self.leader[run.records["picture"]] = run.first
            different += int(run.starts.sum())
        if different <= EXACT_SEARCH_PICTURES:
            self._lead_exactly()
        else:
            self._lead_by_cells(*_partitions(different), seed)
        # A picture with the same sketch as an earlier one follows whom that one follows.
        for start in range(0, self.count, ROWS_IN_MEMORY):
            leads = slice(start, start + ROWS_IN_MEMORY)
            self.leader[leads] = self.leader[self.leader[leads]]

    def _different(self) -> Iterator[tuple[Integers, Halves]]:
        """Number and sketch of the first picture with each sketch."""
        for start in range(0, self.count, ROWS_IN_MEMORY):
            numbers = np.arange(start, min(start + ROWS_IN_MEMORY, self.count))
            flat = _read(
                self._folder / "sketches", np.dtype(np.float16), start * self._width, len(numbers) * self._width
            )
            first = self.leader[numbers] == numbers
            yield numbers[first], flat.reshape(len(numbers), self._width)[first]

    def _lead_exactly(self) -> None:
        found = list(self._different())
        if found:
            numbers = np.concatenate([numbers for numbers, _ in found])
            sketch = np.concatenate([sketch for _, sketch in found]).astype(np.float32)
            groups = group_by_picture(sketch, numbers.astype(np.uint64))
            _, leads = np.unique(groups, return_index=True)
            self.leader[numbers] = numbers[leads[groups]]

    def _lead_by_cells(self, bits: int, tables: int, seed: int) -> None:
        shift = np.uint64(64 - self.count.bit_length())
        near_pairs = _Sorter(self._folder / "near_pairs")
        for table in range(tables):
            rng = np.random.default_rng([seed % 2**63, table])
            planes = rng.standard_normal((self._width, bits)).astype(np.float32)
            for pairs in _joined(_near_pairs(self._cells(planes).in_order())):
                # Shifted to the top, as the sorter deals records out by the leading bytes of their keys.
                keys = pairs[:, :1].astype(np.uint64) << shift
                near_pairs.append(_records({"key": keys, "later": pairs[:, 1]}))
        for records in near_pairs.in_order():
            _join_leaders(self.leader, (records["key"][:, 0] >> shift).astype(np.int64), records["later"])

    def _cells(self, planes: Floats) -> _Sorter:
        cells = _Sorter(self._folder / "cells")
        for numbers, sketch in self._different():
            keys = _cell_keys(sketch.astype(np.float32), planes)
            cells.append(_records({"key": keys, "picture": numbers, "sketch": sketch}))
        return cells


def _cell_keys(sketch: Floats, planes: Floats) -> Keys:
    """On which side of each plane, as the leading bits of a key; uint64 [n, 1]."""
    sides = np.packbits(map_rows(lambda rows: rows @ planes, sketch) > 0, axis=1)
    packed = np.zeros((len(sketch), 8), dtype=np.uint8)
    packed[:, : sides.shape[1]] = sides
    return packed.view(">u8").astype(np.uint64)


def _near_pairs(cells: Iterable[Records]) -> Iterator[Integers]:
    """Numbers of near pictures in one cell, first the earlier one; int64 [pairs, 2], from records sorted by cell.

    Of a cell that comes in pieces, pictures without a near one before them are kept beside the next piece.
    """
    kept: Records | None = None
    for block in _blocks(cells):
        cell = block["key"][:, 0]
        before = block[:0] if kept is None else kept[kept["key"][:, 0] == cell[0]]
        candidates = np.concatenate([before, block])
        close = _near_before(candidates, len(before))
        later, earlier = np.nonzero(close)
        yield np.column_stack([candidates["picture"][earlier], block["picture"][later]])
        lone = np.concatenate([np.ones(len(before), dtype=np.bool_), ~close.any(axis=1)])
        kept = candidates[lone & (candidates["key"][:, 0] == cell[-1])][:CELL_ROWS]


def _near_before(candidates: Records, start: int) -> Bools:
    """The first near ones in the same cell before each record from `start` on; bool [n - start, n]."""
    cell, sketch = candidates["key"][:, 0], candidates["sketch"].astype(np.float32)
    close = near(sketch[start:], sketch)
    close &= cell == cell[start:, None]
    close &= np.tri(len(close), len(candidates), start - 1, dtype=np.bool_)
    close &= np.cumsum(close, axis=1, dtype=np.int16) <= NEIGHBOURS_PER_CELL
    return close


def _joined(blocks: Iterator[Integers]) -> Iterator[Integers]:
    while batch := list(islice(blocks, _BLOCKS_PER_WRITE)):
        yield np.concatenate(batch)


def _blocks(cells: Iterable[Records]) -> Iterator[Records]:
    """Whole cells of two pictures or more, several to a block where they are small; large ones in pieces.

    A piece is CELL_ROWS long, counted from the beginning of its cell: where the chunks end makes no difference.
    """
    held: list[Records] = []
    open_cell = None
    for chunk in cells:
        records = np.concatenate([*held, chunk])
        last = np.nonzero(_run_starts(records["key"]))[0][-1]
        stop = last + (len(records) - last) // CELL_ROWS * CELL_ROWS
        yield from _cut(records[:stop], open_cell)
        open_cell = records["key"][stop - 1, 0] if stop else open_cell
        held = [records[stop:]]
    for records in held:
        yield from _cut(records, open_cell)


def _cut(records: Records, open_cell: np.uint64 | None) -> Iterator[Records]:
    """Blocks of sorted records; `open_cell` is the cell that the block before them belongs to."""
    starts = np.nonzero(_run_starts(records["key"]))[0]
    sizes = np.diff(starts, append=len(records))
    compared = (sizes > 1) | (records["key"][starts, 0] == open_cell)
    records = records[np.repeat(compared, sizes)]
    ends = np.cumsum(sizes[compared]).tolist()
    start = 0
    while start < len(records):
        cell, packed = bisect_right(ends, start), bisect_right(ends, start + _BLOCK_ROWS)
        stop = ends[packed - 1] if packed > cell else min(ends[cell], start + CELL_ROWS)
        yield records[start:stop]
        start = stop


def _join_leaders(leader: Integers, earlier: Integers, later: Integers) -> None:
    """Go through near pairs in the order of the earlier picture: if that leads itself, the later one joins it.

    At first every picture leads itself. All pairs of an earlier picture have been seen before it is asked whether it
    does, and the first leader of a later one comes first: leader clustering, in one pass.
    """
    numbers, places = np.unique(np.concatenate([earlier, later]), return_inverse=True)
    names, leads = numbers.tolist(), leader[numbers].tolist()
    pairs = places.reshape(2, -1).tolist()
    for a, b in zip(*pairs, strict=True):
        if leads[a] == names[a] and leads[b] == names[b]:
            leads[b] = names[a]
    leader[numbers] = leads


@dataclass(frozen=True)
class _Run:
    """A chunk of sorted records: which of them start a run of equal keys, and a field of each run's first record."""

    records: Records
    starts: Bools
    first: Integers


def _runs(chunks: Iterable[Records], field: str, words: int) -> Iterator[_Run]:
    """Runs of records whose first `words` words of the key are equal; they may go on from chunk to chunk."""
    key, value = None, np.empty(0, dtype=np.int64)
    for records in chunks:
        keys = records["key"][:, :words]
        starts = _run_starts(keys)
        starts[0] = key is None or bool((keys[0] != key).any())
        values = np.concatenate([value, records[field][starts]])
        first = values[np.cumsum(starts) + len(value) - 1]
        yield _Run(records, starts, first)
        key, value = keys[-1], first[-1:]


def _run_starts(keys: Keys) -> Bools:
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return starts


class _Sorter:
    """Records in a file, read back once in the order of their keys: a stable radix sort by leading bytes.

    At most ROWS_IN_MEMORY records are in memory. Many equal keys do not overflow it: they need no sorting.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, 0
        self._type: np.dtype[Any] = np.dtype(np.void)
        self._only_key: Keys | None = None
        self._same = True

    def append(self, records: Records) -> None:
        """Add records behind those there are."""
        if len(records):
            self._only_key = records["key"][0].copy() if self._only_key is None else self._only_key
            self._same = self._same and bool((records["key"] == self._only_key).all())
            _append(self._path, records)
            self._type = records.dtype
            self._rows += len(records)

    def in_order(self, byte: int = 0) -> Iterator[Records]:
        """All records by key, equal keys in the order they came, in chunks; removes the file."""
        if self._same:
            yield from self._chunks()
        elif self._rows <= ROWS_IN_MEMORY:
            for records in self._chunks():
                yield records[np.lexsort(records["key"].T[::-1])]
        else:
            for child in self._dealt(byte):
                yield from child.in_order(byte + 1)
        self._path.unlink(missing_ok=True)

    def _chunks(self) -> Iterator[Records]:
        for start in range(0, self._rows, ROWS_IN_MEMORY):
            yield _read(self._path, self._type, start, min(ROWS_IN_MEMORY, self._rows - start))

    def _dealt(self, byte: int) -> list[_Sorter]:
        """The records dealt out to one sorter for each value of a byte of the key."""
        word, shift = byte // 8, np.uint64(56 - byte % 8 * 8)
        children: dict[int, _Sorter] = {}
        for chunk in self._chunks():
            digit = (chunk["key"][:, word] >> shift).astype(np.uint8)
            order = np.argsort(digit, kind="stable")
            records, ends = chunk[order], np.cumsum(np.bincount(digit, minlength=256))
            for value in np.unique(digit).tolist():
                if value not in children:
                    children[value] = _Sorter(self._path.with_name(f"{self._path.name}.{value:02x}"))
                children[value].append(records[ends[value - 1] if value else 0 : ends[value]])
        self._path.unlink()
        return [children[value] for value in sorted(children)]


class _Strings:
    """Strings in a file, taken by number."""

    def __init__(self, folder: Path) -> None:
        self._text, self._ends = folder / "text", folder / "ends"
        self._count, self._bytes = 0, 0

    def append(self, values: Sequence[str]) -> None:
        """Add strings behind those there are."""
        encoded = [value.encode("utf-8", "surrogatepass") for value in values]
        ends = self._bytes + np.cumsum([len(text) for text in encoded], dtype=np.int64)
        _append(self._text, np.frombuffer(b"".join(encoded), dtype=np.uint8))
        _append(self._ends, ends)
        self._count += len(values)
        self._bytes = int(ends[-1]) if len(ends) else self._bytes

    def take(self, numbers: Integers) -> list[str]:
        """The strings with these numbers."""
        ends = _disk_array(self._ends, self._count)
        text = _disk_array(self._text, self._bytes, np.uint8)
        stops = ends[numbers].tolist()
        starts = np.where(numbers > 0, ends[numbers - 1], 0).tolist()
        spans = zip(starts, stops, strict=True)
        return [text[start:stop].tobytes().decode("utf-8", "surrogatepass") for start, stop in spans]


def _digests(values: Iterable[bytes], words: int) -> Keys:
    """blake2b of every value; uint64 [n, words]."""
    digests = b"".join(hashlib.blake2b(value, digest_size=8 * words).digest() for value in values)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64).reshape(-1, words)


def _pair_digests(part: PictureRows) -> Keys:
    """128-bit hash of checksum and caption, uint64 [n, 2]."""
    pairs = zip(part.image_sha256, part.captions, strict=True)
    return _digests((f"{image}\0{text}".encode("utf-8", "surrogatepass") for image, text in pairs), words=2)


def _records(columns: dict[str, NDArray[Any]]) -> Records:
    """Columns side by side. "key" holds 64-bit words [n, words], the first the most significant."""
    dtype = np.dtype([(name, column.dtype, column.shape[1:]) for name, column in columns.items()])
    records = np.empty(len(columns["key"]), dtype=dtype)
    for name, column in columns.items():
        records[name] = column
    return records


def _append(path: Path, values: NDArray[Any]) -> None:
    try:
        with path.open("ab") as file:
            values.tofile(file)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> CurateError:
    return CurateError(
        f"{folder}: the temporary files of duplicate marking cannot be written: {error}. They need about 1 kB per "
        "pair; set TMPDIR to a folder on a disk with room."
    )


def _read(path: Path, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
    return np.fromfile(path, dtype=dtype, count=count, offset=start * dtype.itemsize)


def _disk_array(path: Path, length: int, dtype: type[np.generic] = np.int64) -> NDArray[Any]:
    """The values of a file as a memory-mapped array; zeros where there is no file."""
    if not path.exists():
        # Written rather than left sparse: a full disk is then an error here and not a crash of the process later.
        for start in range(0, length, ROWS_IN_MEMORY):
            _append(path, np.zeros(min(ROWS_IN_MEMORY, length - start), dtype=dtype))
    return np.asarray(np.memmap(path, dtype=dtype, mode="r+", shape=(length,))) if length else np.zeros(0, dtype)
