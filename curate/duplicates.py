"""The step that marks duplicates over all parts of a run: what it reads of each, and the column files it leaves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import embedding_matrix
from curate.noise.duplicates import MarkedRows, PictureRows, mark_duplicates
from curate.noise.features import sketches
from curate.noise.grouping import Sketch
from curate.noise.model import NoiseModel
from curate.plan import DuplicatesStep, Plan
from curate.schema import DUPLICATES_SCHEMA, Status
from curate.steps import read_artifact
from curate.store import RunStore, part_file

_READ = ["row_id", "image_sha256", "caption", "status", "image_embedding"]


def mark_corpus(plan: Plan, step: DuplicatesStep) -> int:
    """Compare all pairs of the run and write `duplicates/part-*.parquet`; returns the number of pairs compared.

    Memory does not grow with the corpus, see `curate.noise.duplicates.mark_duplicates`.
    """
    sketch = NoiseModel.from_bytes(read_artifact(plan.store, step.fit)).fitted.reducer.sketch
    compared = 0
    parts = (_pictures(plan.store, number, sketch) for number in plan.manifest.parts)
    with mark_duplicates(parts, step.seed) as marked:
        for rows in marked:
            size = plan.manifest.parts[rows.part].rows
            facts = {**step.facts, "fingerprint": step.fingerprint}
            digest = plan.store.write_table(part_file(step.name, rows.part), _columns(rows, size), facts)
            plan.index.record(step.name, rows.part, step.fingerprint, digest)
            compared += len(rows.rows)
    plan.index.save()
    return compared


def _pictures(store: RunStore, number: int, sketch: Sketch) -> PictureRows:
    table = store.read_table(part_file("embed", number), _READ)
    usable = pc.and_(pc.equal(table.column("status"), Status.OK.value), table.column("image_embedding").is_valid())
    rows = np.nonzero(pc.fill_null(usable, False).to_numpy())[0]
    kept = table.take(pa.array(rows))
    image = embedding_matrix(kept.column("image_embedding")).reshape(len(rows), len(sketch.mean))
    finite = np.isfinite(image).all(axis=1)
    kept = kept.filter(pa.array(finite))
    return PictureRows(
        part=number,
        rows=rows[finite].astype(np.int32),
        row_ids=kept.column("row_id").to_pylist(),
        image_sha256=kept.column("image_sha256").to_pylist(),
        captions=kept.column("caption").to_pylist(),
        sketch=sketches(sketch, image[finite]),
    )


def _columns(marked: MarkedRows, size: int) -> pa.Table:
    """The marks at their rows of a part of `size` rows, null elsewhere."""
    columns = {}
    for name in DUPLICATES_SCHEMA.names:
        values: list[str | None] = [None] * size
        for row, value in zip(marked.rows.tolist(), getattr(marked, name), strict=True):
            values[row] = value
        columns[name] = pa.array(values, pa.string())
    return pa.table(columns, schema=DUPLICATES_SCHEMA)
