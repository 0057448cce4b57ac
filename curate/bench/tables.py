"""What a person reads of a benchmark's records: tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.bench.noise import FREQUENCIES, OURS, Cell, Record, frequency_subset, over_seeds, verdicts

_COLUMNS = (
    ("auprc", "AUPRC"),
    ("ece", "ECE"),
    ("precision_clean", "prec."),
    ("recall_clean", "recall"),
    ("noise_share_estimated", "share"),
)


@dataclass(frozen=True)
class TextTable:
    """A table as text: what stands above it, its heads, and its rows, of which those of our method are marked."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ours: tuple[bool, ...]


def noise_tables(records: Sequence[Record]) -> list[TextTable]:
    """One table for each kind and rate, one row for each method: means over the seeds, AUROC with its spread.

    `unique` is the AUROC among pairs whose caption occurs once; precision, whose complement is the residual noise,
    and recall are of the pairs with noise_prob < .5; `share` is the estimated share of noise, the true one stands in
    the title.
    """
    metrics = {
        metric: over_seeds(records, metric) for metric, _ in (("auroc", ""), ("noise_share_true", ""), *_COLUMNS)
    }
    unique, said = over_seeds(records, "auroc", "unique_caption"), verdicts(records)
    shown: dict[str, list[tuple[str, ...]]] = {}
    for key in metrics["noise_share_estimated"]:
        kind, rate, method = key
        true = _shown(metrics["noise_share_true"].get(key), spread=False)
        title = f"{f'{kind} {rate:g}' if rate else 'nothing exchanged'} (mismatched: {true or '0'})"
        first = (_shown(metrics["auroc"].get(key)), _shown(unique.get(key), spread=False))
        others = (_shown(metrics[metric].get(key), spread=False) for metric, _ in _COLUMNS)
        shown.setdefault(title, []).append((method, *first, *others, said.get(key, "")))
    heads = ("method", "AUROC", "unique", *(name for _, name in _COLUMNS), "separable")
    return [
        TextTable(title, heads, tuple(rows), tuple(row[0] == OURS for row in rows)) for title, rows in shown.items()
    ]


def concept_tables(records: Sequence[Record]) -> list[TextTable]:
    """One table for each rate and kind of truth, one row for each method: means over the seeds, in percent."""
    metrics = ("precision_at_5", "recall_at_10", "map")
    measured = [record for record in records if record.get("metric") in metrics]
    tables: list[TextTable] = []
    for truth in dict.fromkeys(record["subset"] for record in measured):
        cells = [over_seeds(measured, metric, truth) for metric in metrics]
        for rate in dict.fromkeys(rate for _, rate, _ in cells[0]):
            keys = [key for key in cells[0] if key[1] == rate]
            rows = tuple((key[2], *(_percent(held[key]) for held in cells)) for key in keys)
            title = f"against {truth.replace('_', ' ')}, {f'{rate:g} of the captions exchanged' if rate else 'clean'}"
            tables.append(TextTable(title, ("method", "P@5", "R@10", "mAP"), rows, tuple(k[2] == OURS for k in keys)))
    return tables


def _percent(cell: Cell) -> str:
    return (
        "" if cell.mean is None else f"{100 * cell.mean:.1f}" + (f" ±{100 * cell.spread:.1f}" if cell.spread else "")
    )


def frequency_table(records: Sequence[Record]) -> TextTable:
    """Recall of clean pairs by how often their caption occurs, for our method."""
    heads = ["once" if most == 1 else f"{least} to {most}" if most else f"{least}+" for least, most in FREQUENCIES]
    by_subset = [over_seeds(records, "recall_clean", frequency_subset(*bounds)) for bounds in FREQUENCIES]
    rows = [
        (key[0] if key[1] else "none", f"{key[1]:g}", *(_shown(cells.get(key)) for cells in by_subset))
        for key in by_subset[0]
        if key[2] == OURS
    ]
    title = "recall of clean pairs by caption frequency"
    return TextTable(title, ("kind", "rate", *heads), tuple(rows), (False,) * len(rows))


def _shown(cell: Cell | None, spread: bool = True) -> str:
    if cell is None or cell.mean is None:
        return ""
    mean = f"{cell.mean:.3f}".removeprefix("0")
    return f"{mean} ±{cell.spread:.3f}".replace("±0.", "±.") if spread and cell.spread else mean
