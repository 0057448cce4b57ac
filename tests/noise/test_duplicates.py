from __future__ import annotations

import resource
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from curate.errors import CurateError
from curate.noise import duplicates
from curate.noise.duplicates import PictureRows, expected_recall, mark_duplicates
from curate.noise.grouping import NEAR_IMAGE_DISTANCE, hash_strings
from tests.noise.synthetic import halved


@dataclass
class Corpus:
    """Pairs in input order."""

    row_ids: list[str]
    images: list[str]
    captions: list[str]
    sketch: np.ndarray

    def __len__(self):
        return len(self.row_ids)

    def take(self, order):
        columns = ([column[i] for i in order] for column in (self.row_ids, self.images, self.captions))
        return Corpus(*columns, self.sketch[order])

    def parts(self, size):
        """Parts of `size` rows, every second row of each part usable."""
        for number, start in enumerate(range(0, len(self), size)):
            rows = range(start, min(start + size, len(self)))
            yield PictureRows(
                number,
                np.arange(len(rows), dtype=np.int32) * 2,
                [self.row_ids[i] for i in rows],
                [self.images[i] for i in rows],
                [self.captions[i] for i in rows],
                self.sketch[rows.start : rows.stop],
            )


def corpus_of(sketch, images=None, captions=None):
    ids = [f"shard-ä:{row}" for row in range(len(sketch))]
    return Corpus(ids, images or [f"sha-{row}" for row in range(len(sketch))], captions or ids, halved(sketch))


def corpus_with_twins(rows=240, width=24, seed=0, jitter=0.05):
    """Threes of near pictures; some pictures, sketches and captions are met again, one picture has two sketches."""
    rng = np.random.default_rng(seed)
    base = np.repeat(rng.standard_normal((rows // 3, width)) / width**0.5, 3, axis=0)
    corpus = corpus_of(base + jitter * rng.standard_normal(base.shape) / width**0.5)
    for row in rng.permutation(rows)[: rows // 4]:
        source = int(rng.integers(rows))
        corpus.images[row], corpus.sketch[row] = corpus.images[source], corpus.sketch[source]
        if rng.random() < 0.6:
            corpus.captions[row] = corpus.captions[source]
        else:
            corpus.images[row] = f"sha-again-{row}" if row % 2 else corpus.images[row]
    corpus.images[5], corpus.images[90] = corpus.images[7], corpus.images[7]
    return corpus.take(rng.permutation(rows))


def marked(corpus, size=50, seed=0, folder=None):
    """(duplicate_of, near_duplicate_cluster) of all rows."""
    first, cluster = [], []
    with mark_duplicates(corpus.parts(size), seed, folder) as found:
        for part in found:
            first += part.duplicate_of
            cluster += part.near_duplicate_cluster
    return first, cluster


def first_pairs(corpus):
    """duplicate_of, by a dictionary of all pairs."""
    seen, found = {}, []
    for row_id, pair in zip(corpus.row_ids, zip(corpus.images, corpus.captions, strict=True), strict=True):
        found.append(seen.get(pair))
        seen.setdefault(pair, row_id)
    return found


def leader_clusters(corpus, seed=0):
    """near_duplicate_cluster, by comparing every picture with every leader."""
    sketches = {}
    for image, sketch in zip(corpus.images, corpus.sketch.tolist(), strict=True):
        digest = int(duplicates._digests([np.array(sketch, dtype=np.float16).tobytes()], 1)[0, 0])
        sketches[image] = min(sketches.get(image, (2**64, None)), (digest, sketch))
    hashes = dict(zip(sketches, hash_strings(sketches, seed).tolist(), strict=True))
    leaders, cluster_of = [], {}
    for image in sorted(sketches, key=hashes.__getitem__):
        sketch = np.array(sketches[image][1])
        near = (hashes[other] for other, led in leaders if ((led - sketch) ** 2).sum() < NEAR_IMAGE_DISTANCE)
        cluster_of[image] = next(near, hashes[image])
        if cluster_of[image] == hashes[image]:
            leaders.append((image, sketch))
    clusters = [f"{cluster_of[image]:016x}" for image in corpus.images]
    return [name if clusters.count(name) > 1 else None for name in clusters]


def circle(rows):
    angles = np.linspace(0, np.pi / 2, rows)
    return angles, corpus_of(np.column_stack([np.cos(angles), np.sin(angles), np.zeros(rows)]))


@pytest.fixture(params=["exact", "cells"])
def search(request, monkeypatch):
    """Both ways to find near pictures."""
    if request.param == "cells":
        monkeypatch.setattr(duplicates, "EXACT_SEARCH_PICTURES", 0)
        monkeypatch.setattr(duplicates, "BOUNDARY_RECALL", 0.999999)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("search")
def test_both_columns_are_those_of_brute_force(seed):
    corpus = corpus_with_twins(seed=seed)
    first, cluster = marked(corpus, seed=seed)
    assert first == first_pairs(corpus)
    assert cluster == leader_clusters(corpus, seed)
    assert sum(name is not None for name in first) > 20
    assert sum(name is None for name in cluster) > 0 or seed
    assert len(set(cluster)) > 50


@pytest.mark.usefixtures("search")
def test_chains_of_near_pictures_are_led_as_by_brute_force():
    angles, corpus = circle(150)
    _, cluster = marked(corpus)
    assert cluster == leader_clusters(corpus)
    assert len(set(cluster)) > 5
    for name in set(cluster) - {None}:
        spread = angles[[other == name for other in cluster]]
        assert spread.max() - spread.min() < 0.6


@pytest.mark.parametrize("size", [1, 7, 240])
@pytest.mark.usefixtures("search")
def test_row_order_and_part_size_change_no_cluster(size):
    corpus = corpus_with_twins()
    _, expected = marked(corpus)
    order = np.random.default_rng(size).permutation(len(corpus))
    shuffled = corpus.take(order)
    first, cluster = marked(shuffled, size)
    assert cluster == [expected[row] for row in order]
    assert first == first_pairs(shuffled)


@pytest.mark.parametrize("memory", [1, 3, 64])
@pytest.mark.parametrize("cell", [4, 512])
@pytest.mark.usefixtures("search")
def test_how_many_rows_fit_in_memory_changes_nothing(memory, cell, monkeypatch):
    corpus = corpus_with_twins()
    corpus.images[100:160] = ["same"] * 60
    corpus.captions[100:130] = ["same"] * 30
    corpus.sketch[100:160] = corpus.sketch[100]
    corpus.sketch[30:80] = halved(corpus.sketch[30] + np.random.default_rng(1).standard_normal((50, 24)) * 0.002)
    monkeypatch.setattr(duplicates, "CELL_ROWS", cell)
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", cell)
    expected = marked(corpus)
    assert expected[0] == first_pairs(corpus)
    monkeypatch.setattr(duplicates, "ROWS_IN_MEMORY", memory)
    assert marked(corpus) == expected


@pytest.fixture
def small_cells(monkeypatch):
    monkeypatch.setattr(duplicates, "EXACT_SEARCH_PICTURES", 0)
    monkeypatch.setattr(duplicates, "CELL_ROWS", 8)
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 4)


@pytest.mark.parametrize("memory", [32, 1 << 17])
@pytest.mark.parametrize("different", [1, 4])
@pytest.mark.usefixtures("small_cells")
def test_a_cell_in_pieces_joins_all_that_one_picture_leads(memory, different, monkeypatch):
    monkeypatch.setattr(duplicates, "ROWS_IN_MEMORY", memory)
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.standard_normal((different, 24)), 8 * 12 + 1, axis=0)
    corpus = corpus_of(pictures + 0.001 * rng.standard_normal(pictures.shape))
    _, cluster = marked(corpus)
    assert cluster == leader_clusters(corpus)
    assert len(set(cluster)) == different


@pytest.mark.usefixtures("small_cells")
def test_twins_are_found_in_a_cell_that_is_full_of_another_picture(monkeypatch):
    monkeypatch.setattr(duplicates, "_partitions", lambda pictures: (1, 1))
    rng = np.random.default_rng(0)
    picture = halved(rng.standard_normal((1, 24)))
    others = np.repeat(halved(picture + 0.25 * halved(rng.standard_normal((6, 24)))), 2, axis=0)
    pictures = np.concatenate([np.repeat(picture, 200, axis=0), others])
    corpus = corpus_of(pictures + 0.0005 * rng.standard_normal(pictures.shape))
    _, cluster = marked(corpus)
    assert cluster == leader_clusters(corpus)
    assert len(set(cluster)) == 7


@pytest.mark.usefixtures("search")
def test_equal_checksums_and_equal_sketches_are_one_picture_and_a_single_pair_has_no_cluster():
    sketch = np.random.default_rng(0).standard_normal((6, 24))
    sketch[3] = sketch[1]
    _, cluster = marked(corpus_of(sketch, images=["a", "b", "c", "d", "a", "e"], captions=list("uvwxyz")), size=4)
    assert cluster[0] == cluster[4] is not None
    assert cluster[1] == cluster[3] is not None
    assert cluster[0] != cluster[1]
    assert cluster[2] is cluster[5] is None


def test_the_cluster_is_named_after_the_smallest_seeded_hash_of_its_checksums():
    sketch = np.ones((40, 24))
    corpus = corpus_of(sketch)
    for seed in (0, 1):
        assert set(marked(corpus, seed=seed)[1]) == {f"{hash_strings(corpus.images, seed).min():016x}"}
    assert marked(corpus, seed=0) != marked(corpus, seed=1)


def test_a_duplicate_has_the_same_picture_and_the_same_caption():
    sketch = np.ones((6, 4))
    images, captions = ["ab", "a", "ab", "ab", "a", "ab"], ["c", "bc", "C", "c", "\udcff", "c"]
    first, _ = marked(corpus_of(sketch, images, captions), size=2)
    assert first == [None, None, None, "shard-ä:0", None, "shard-ä:0"]


def test_parts_come_back_in_order_with_the_rows_they_had():
    corpus = corpus_with_twins()
    nothing = PictureRows(17, np.empty(0, np.int32), [], [], [], np.empty((0, 0), np.float32))
    with mark_duplicates([nothing, *corpus.parts(100), nothing], seed=0) as found:
        parts = list(found)
    assert [part.part for part in parts] == [17, 0, 1, 2, 17]
    assert [part.rows.tolist() for part in parts[1:4]] == [p.rows.tolist() for p in corpus.parts(100)]
    assert parts[1].rows.dtype == np.int32
    assert len(parts[0].rows) == len(parts[0].duplicate_of) == len(parts[0].near_duplicate_cluster) == 0


def test_no_parts_and_no_usable_rows_give_nothing():
    with mark_duplicates([], seed=0) as found:
        assert list(found) == []
    nothing = PictureRows(0, np.empty(0, np.int32), [], [], [], np.empty((0, 0), np.float32))
    with mark_duplicates([nothing], seed=0) as found:
        assert [part.part for part in found] == [0]


def twins(rows, cosine, width=32):
    """Every odd row has that cosine to the even row before it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, rows // 2, width))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b -= (a * b).sum(axis=1, keepdims=True) * a
    b *= np.sqrt(1 - cosine**2) / np.linalg.norm(b, axis=1, keepdims=True)
    return corpus_of(np.stack([a, cosine * a + b], axis=1).reshape(rows, width))


def found_share(corpus):
    cluster = np.array(marked(corpus, size=5000)[1]).reshape(-1, 2)
    return float(np.mean((cluster[:, 0] == cluster[:, 1]) & (cluster[:, 0] != None)))  # noqa: E711


@pytest.mark.parametrize(("cosine", "stated"), [(0.9902, 0.99), (0.995, 0.999)])
def test_near_twins_are_found_at_scale_as_often_as_stated(cosine, stated):
    rows = 30_000
    assert rows > duplicates.EXACT_SEARCH_PICTURES
    expected = expected_recall(cosine, rows)
    assert expected >= stated
    found = found_share(twins(rows, cosine))
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / (rows / 2)) + 1e-4


@pytest.mark.parametrize("pictures", [20_001, 10**5, 10**6, 10**7, 10**9, 10**12])
def test_stated_recall_holds_for_every_size(pictures):
    bits, _ = duplicates._partitions(pictures)
    assert bits <= 64
    assert expected_recall(0.99, pictures) >= 0.99
    assert expected_recall(0.995, pictures) >= 0.999
    assert expected_recall(0.99, 20_000) == 1


def test_one_table_finds_the_stated_share(monkeypatch):
    monkeypatch.setattr(duplicates, "_partitions", lambda pictures: (10, 1))
    rows = 30_000
    expected = expected_recall(0.9902, rows)
    assert 0.5 < expected < 0.7
    assert abs(found_share(twins(rows, 0.9902)) - expected) < 0.05


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("what", "rows"), [("bytes", 100_000), ("sketch", 100_000), ("recompressed", 30_000)])
def test_a_blank_picture_met_again_and_again_is_quick(what, rows):
    jitter = np.random.default_rng(1).standard_normal((rows, 16)) * (0.01 if what == "recompressed" else 0)
    names = ["blank"] * rows if what == "bytes" else None
    corpus = corpus_of(np.random.default_rng(0).standard_normal(16) + jitter, names, names)
    first, cluster = marked(corpus, size=10_000)
    assert len(set(cluster)) == 1
    assert cluster[0] is not None
    assert first == [None] + [corpus.row_ids[0] if what == "bytes" else None] * (rows - 1)


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    rows, width = 100, 1024
    monkeypatch.setattr(duplicates, "EXACT_SEARCH_PICTURES", 0)
    monkeypatch.setattr(duplicates, "BOUNDARY_RECALL", 0.5)
    monkeypatch.setattr(duplicates, "ROWS_IN_MEMORY", rows)

    def parts(count):
        for number in range(count):
            sketch = halved(np.random.default_rng(number).standard_normal((rows, width))).astype(np.float16)
            names = [f"{number}:{row}" for row in range(rows)]
            yield PictureRows(number, np.arange(rows, dtype=np.int32), names, names, names, sketch)

    def peak(count):
        tracemalloc.start()
        with mark_duplicates(parts(count), seed=0) as found:
            assert sum(len(part.rows) for part in found) == rows * count
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    # The lesser of two: now and then Python's table of names happens to grow.
    assert min(peak(24), peak(24)) < 1.5 * peak(4)


class SourceBreaksError(Exception):
    pass


def test_temporary_files_are_gone_afterwards_also_after_an_error(tmp_path):
    corpus = corpus_with_twins()

    def breaking():
        yield from corpus.parts(100)
        assert list(tmp_path.iterdir())
        raise SourceBreaksError

    marked(corpus, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SourceBreaksError), mark_duplicates(breaking(), 0, tmp_path):
        pass
    assert not list(tmp_path.iterdir())

    def consume():
        with mark_duplicates(corpus.parts(100), 0, tmp_path) as found:
            next(found)
            assert list(tmp_path.iterdir())
            raise KeyError("writing failed")

    with pytest.raises(KeyError):
        consume()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CurateError, match=r"absent.*cannot be written"):
        marked(corpus_with_twins(), folder=tmp_path / "absent")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        with pytest.raises(CurateError, match="set TMPDIR"):
            marked(corpus_of(np.random.default_rng(0).standard_normal((6000, 64))), folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
