"""The sample that fits work on: drawn by a seeded hash of what each pair is, its picture and its caption."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import embedding_matrix, field_values
from curate.concepts.fit import ConceptSample
from curate.errors import CurateError
from curate.noise.fit import MOST_COPIES, NoiseSample
from curate.noise.model import copy_numbers, identities
from curate.schema import Status
from curate.store import RunStore, StepColumns

log = logging.getLogger(__name__)

_IDENTITY = ["row_id", "image_sha256", "caption", "status"]
_EMBEDDINGS = ["image_embedding", "text_embedding"]
_SAMPLED = [*_IDENTITY, *_EMBEDDINGS]

Hashes = npt.NDArray[np.uint64]


def draw_sample(
    store: RunStore,
    parts: Iterable[int],
    most_rows: int,
    seed: int,
    joint_space: bool,
    by: str | None = None,
    embed: str = "embed",
) -> NoiseSample:
    """At most `most_rows` usable pairs of a run: those with the smallest hashes of picture and caption.

    Row order, part size and number of workers change nothing, and a pair that occurs a million times takes up no more
    room than one that occurs eight times: of its copies those with the smallest row_ids are taken. Memory: the sample,
    and one part beside it.

    Args:
        store: the run directory; its embed step is complete.
        parts: numbers of the parts.
        most_rows: bound of the sample.
        seed: of the hash.
        joint_space: whether the towers were trained together.
        by: the kept field whose values are strata.
        embed: the complete step whose embeddings count; the embed step itself holds all else.

    Raises:
        CurateError: not one pair is usable.
    """
    columns = _IDENTITY if by is None else [*_IDENTITY, "fields"]
    table = _draw(store, list(parts), most_rows, seed, [("embed", columns), (embed, _EMBEDDINGS)])
    return NoiseSample(
        image_sha256=table.column("image_sha256").to_pylist(),
        captions=table.column("caption").to_pylist(),
        image=embedding_matrix(table.column("image_embedding")),
        text=embedding_matrix(table.column("text_embedding")),
        joint_space=joint_space,
        strata=None if by is None else field_values(table.column("fields"), by),
        row_ids=table.column("row_id").to_pylist(),
    )


def draw_concept_sample(
    store: RunStore, parts: Iterable[int], most_rows: int, seed: int, joint_space: bool, believed: str | None
) -> ConceptSample:
    """The same pairs as `draw_sample` with the same bound and seed, with what the noise step says of each.

    Args:
        store, parts, most_rows, seed, joint_space: as for `draw_sample`.
        believed: the complete step whose noise_prob counts, noise or refine; None: there is none.

    Raises:
        CurateError: not one pair is usable.
    """
    beside = [] if believed is None else [(believed, ["noise_prob"])]
    table = _draw(store, list(parts), most_rows, seed, [("embed", _SAMPLED), *beside])
    return ConceptSample(
        image_sha256=table.column("image_sha256").to_pylist(),
        captions=table.column("caption").to_pylist(),
        image=embedding_matrix(table.column("image_embedding")),
        text=embedding_matrix(table.column("text_embedding")),
        joint_space=joint_space,
        noise_prob=table.column("noise_prob").to_numpy().astype(np.float32) if believed else None,
    )


def draw_caption_sample(store: RunStore, parts: Iterable[int], most_rows: int, seed: int, believed: str) -> pa.Table:
    """The same pairs as `draw_sample` with the same bound and seed, with noise_prob, fold and concepts of each.

    Columns: those of the embed step, `noise_prob`, `fold`, `concepts`; only pairs that have a noise_prob, which is
    that of the step `believed`, noise or refine.

    Raises:
        CurateError: not one pair is usable.
    """
    beside = [("noise", ["fold"]), (believed, ["noise_prob"]), ("concepts", ["concepts"])]
    table = _draw(store, list(parts), most_rows, seed, [("embed", _SAMPLED), *beside])
    return table.filter(table.column("noise_prob").is_valid())


def _draw(
    store: RunStore,
    parts: list[int],
    most_rows: int,
    seed: int,
    columns: Sequence[StepColumns],
) -> pa.Table:
    """Columns of the embed step, and of steps behind it, of the sample's pairs."""
    log.info("drawing pairs from %d parts", len(parts))
    chosen = _choose(store, parts, most_rows, seed)
    tables = []
    for number in parts:
        table = _usable(store, number, columns)
        tables.append(table.filter(pc.is_in(table.column("row_id"), chosen)))
    table = pa.concat_tables(tables)
    if table.num_rows == 0:
        raise CurateError(f"{store.url}: not one pair is usable; the column `status` of embed/ says why")
    return table


def _choose(store: RunStore, parts: list[int], most_rows: int, seed: int) -> pa.Array:
    """The row_ids of the sample: the smallest hashes, at most MOST_COPIES of each, equal ones by their row_id."""
    hashes: Hashes = np.empty(0, np.uint64)
    ids: npt.NDArray[np.str_] = np.empty(0, np.str_)
    for number in parts:
        table = _usable(store, number, [("embed", _IDENTITY)])
        hashes = np.concatenate([hashes, _hashes(table, seed)])
        ids = np.concatenate([ids, np.array(table.column("row_id").to_pylist(), np.str_)])
        order = np.lexsort((ids, hashes))
        kept = order[copy_numbers(hashes[order]) < MOST_COPIES][:most_rows]
        hashes, ids = hashes[kept], ids[kept]
    return pa.array(ids, pa.string())


def _hashes(table: pa.Table, seed: int) -> Hashes:
    return identities(table.column("image_sha256").to_pylist(), table.column("caption").to_pylist(), seed)


def _usable(store: RunStore, number: int, columns: Sequence[StepColumns]) -> pa.Table:
    table = store.read_columns(number, columns)
    return table.filter(pc.equal(table.column("status"), Status.OK.value))
