"""Finished runs of any size with made-up scores, concepts and captions: annotations without the work."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.manifest import MANIFEST_FILE, manifest_table
from curate.schema import SIGNALS_TYPE, annotation_table
from curate.sources.base import Part
from curate.store import RunStore, part_file

THINGS = [f"{kind}{number}" for number in range(30) for kind in ("dog", "cat", "house", "tree", "car", "boat", "hat")]
FACTS = {"fingerprint": "synthetic", "noise": {"clean_below": 0.3, "noisy_above": 0.7}}


def write_run(store: RunStore, parts: dict[int, Part], seed: int = 0) -> None:
    """Annotations for these parts, a quarter of their pairs mismatched, every hundredth picture broken."""
    store.write_table(MANIFEST_FILE, manifest_table(parts), {})
    for number, part in parts.items():
        store.write_table(part_file("annotations", number), annotations(part, [seed, number]), FACTS)


def parts_of(rows: int, rows_per_part: int) -> dict[int, Part]:
    """Parts of one shard."""
    return {
        number: Part("shard", first, min(rows_per_part, rows - first), 0, 0, "", ())
        for number, first in enumerate(range(0, rows, rows_per_part))
    }


def annotations(part: Part, seed: list[int]) -> pa.Table:
    """Annotations of one part, the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = np.arange(part.first_row, part.first_row + part.rows)
    wrong = rng.random(part.rows) < 0.25
    score = np.where(wrong, rng.normal(-2, 1, part.rows), rng.normal(2, 1, part.rows))
    probability = 1 / (1 + np.exp(2 * score))
    broken = rows % 100 == 99
    things = np.array(THINGS)
    shown = things[np.minimum(rng.geometric(0.03, (part.rows, 4)), len(THINGS)) - 1]
    captions = [f"a {words[0]} beside a {words[1]} number {row}" for row, words in zip(rows, shown, strict=True)]
    noisy = probability > 0.7
    written = [f"a {words[2]} and a {words[3]}" for words in shown]
    completed = np.where(noisy, written, captions)
    label = np.where(noisy, "noisy", np.where(probability < 0.3, "clean", "uncertain"))

    def usable(values, kind):
        return pa.array(values, kind, mask=broken)

    signals = [
        usable(score if name.startswith("crossfit") else rng.normal(size=part.rows), pa.float32())
        if name.startswith("crossfit") or name == "itc_loss"
        else pa.nulls(part.rows, pa.float32())
        for name in SIGNALS_TYPE.names
    ]
    table = pa.table(
        {
            "row_id": [f"{part.shard}:{row}" for row in rows],
            "shard": [part.shard] * part.rows,
            "row": rows,
            "key": [f"{row:09d}" for row in rows],
            "caption": captions,
            "duplicate_key": [False] * part.rows,
            "status": np.where(broken, "corrupt_image", "ok"),
            "error": pa.array(["cannot be decoded"] * part.rows, pa.string(), mask=~broken),
            "noise_prob": usable(probability.astype(np.float32), pa.float32()),
            "noise_rank": usable(probability.astype(np.float32), pa.float32()),
            "label": usable(label, pa.string()),
            "signals": pa.StructArray.from_arrays(signals, fields=list(SIGNALS_TYPE)),
            "concepts": [[{"name": name, "score": 1.0} for name in dict.fromkeys(row)] for row in shown.tolist()],
            "completed_caption": usable(completed, pa.string()),
            "caption_source": usable(np.where(noisy, "synthetic", "original"), pa.string()),
            "synthetic_caption": pa.array(completed, pa.string(), mask=~noisy),
        }
    )
    return annotation_table(table)
