"""Our rows beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.bench.noise import Record
from curate.bench.paper.measure import subsets
from curate.bench.paper.published import Published, published_filters, published_rows
from curate.bench.paper.retrieval import AT
from curate.bench.paper.splits import DatasetName
from curate.bench.tables import TextTable

_OURS = ("zero_shot", "raw", "ours", "oracle")
_RECALLS = tuple(f"{direction}_recall_at_{at}" for direction in ("image_to_text", "text_to_image") for at in AT)
_HEADS = ("method", "i2t 1", "5", "10", "t2i 1", "5", "10", "rSum", "noise")


def paper_tables(dataset: DatasetName, records: Sequence[Record]) -> list[TextTable]:
    """For every rate: retrieval on each part of the test, and how clean the filter leaves the training part.

    Recall at 1, 5 and 10 in percent, images as queries first (i2t), then captions (t2i); means over seeds. `noise`
    says whose draw of mismatches a row was trained under.
    """
    rates = sorted({record["rate"] for record in records if "rate" in record})
    tables = []
    for rate in rates:
        cell = [record for record in records if record.get("rate") == rate]
        tables += [_retrieval(dataset, subset, rate, cell) for subset in subsets(dataset)]
        tables.append(_filtering(dataset, rate, cell))
    return tables


def _retrieval(dataset: DatasetName, subset: str, rate: float, records: Sequence[Record]) -> TextTable:
    published = published_rows(dataset, subset, rate)  # type: ignore[arg-type]
    rows = [_published(row) for row in published]
    here = [record for record in records if record["subset"] == subset]
    own = [method for method in _OURS if any(record["method"] == method for record in here)]
    for method in own:
        values = [_mean(here, method, metric) for metric in _RECALLS]
        rows.append((method, *values, _mean(here, method, "recall_sum", spread=True), "here"))
    test = "" if subset == "all" else f" {subset}"
    title = f"{dataset}{test} at {rate:.0%} noise (here: {records[0]['kind']}, {_seeds(records)})"
    return TextTable(title, _HEADS, tuple(rows), (*(False for _ in published), *(method == "ours" for method in own)))


def _published(row: Published) -> tuple[str, ...]:
    shown = row.recalls or (row.image_r1, None, None, row.text_r1, None, None)
    return (row.method, *("" if value is None else f"{value:.1f}" for value in (*shown, row.total)), row.draw)


def _filtering(dataset: DatasetName, rate: float, records: Sequence[Record]) -> TextTable:
    """Residual noise and recall of clean pairs at noise_prob < .5, in percent."""
    rows = [(row.method, f"{100 * row.residual_noise:.1f}", "", "") for row in published_filters(dataset, rate)]
    train = [record for record in records if record["subset"] == "train"]
    values = [_mean(train, "ours", metric, 100) for metric in ("residual_noise", "recall_clean", "auroc")]
    title = f"{dataset} at {rate:.0%} noise: what is kept of the training part, in percent"
    heads = ("method", "residual noise", "clean recall", "AUROC")
    return TextTable(title, heads, (*rows, ("ours", *values)), (*(False for _ in rows), True))


def _mean(records: Sequence[Record], method: str, metric: str, scale: float = 1.0, spread: bool = False) -> str:
    values = [
        scale * record["value"] for record in records if (record["method"], record["metric"]) == (method, metric)
    ]
    if not values:
        return ""
    return f"{np.mean(values):.1f}" + (f" ±{np.std(values):.1f}" if spread and len(values) > 1 else "")


def _seeds(records: Sequence[Record]) -> str:
    count = len({record["seed"] for record in records})
    return f"{count} seed{'s' if count > 1 else ''}"
