"""What a person reads of a benchmark's records: tables of text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from curate.bench.noise import FREQUENCIES, OURS, Cell, Record, frequency_subset, over_seeds, verdicts
from curate.bench.paper.retrieval import AT

_COLUMNS = (
    ("auprc", "AUPRC"),
    ("ece", "ECE"),
    ("precision_clean", "prec."),
    ("recall_clean", "recall"),
    ("noise_share_estimated", "share"),
)


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        title: what stands above it.
        heads: of the columns.
        rows: a text for each column.
        ours: which rows are of our method; they are marked.
        names: how many of the first columns hold names, not figures.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ours: tuple[bool, ...]
    names: int = 1


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
            title = f"against {truth.replace('_', ' ')}, {_exchanged(rate)}"
            tables.append(TextTable(title, ("method", "P@5", "R@10", "mAP"), rows, tuple(k[2] == OURS for k in keys)))
    return tables


_CAPTION_COLUMNS = (
    ("cider_d", "CIDEr-D"),
    ("bleu", "BLEU"),
    ("chrf", "chrF"),
    ("cosine", "cosine"),
    ("recall_at_1", "R@1"),
    ("recall_at_10", "R@10"),
    ("distinct_ratio", "distinct"),
    ("length", "length"),
    ("new_words", "new"),
    ("captions_per_second", "per s"),
)
_LIKENESS = _CAPTION_COLUMNS[:6]
# Of figures that are not shares.
_DECIMALS = {"cider_d": 1, "bleu": 1, "chrf": 1, "length": 1, "captions_per_second": 0}
_WITH_SPREAD = ("cider_d", "cosine", "recall_at_10")
_POLICY_COLUMNS = (
    ("accepted", "wrong ones completed"),
    ("accepted_closer", "of these closer to the truth"),
    ("clean_changed", "right ones changed"),
)


def caption_tables(records: Sequence[Record], ours: str) -> list[TextTable]:
    """What each decoder writes, one table a rate; what the policy believes; what exchanged captions cost.

    Means over the seeds; their spread for CIDEr-D, cosine and R@10 only, so that a table fits a terminal.
    CIDEr-D is x 100; BLEU and chrF are in [0, 100]; R@1, R@10, distinct (captions) and new (words) are shares.

    Args:
        records: of `bench_captions`.
        ours: the decoder whose rows are marked.
    """
    metrics = ("images", *(metric for metric, _ in (*_CAPTION_COLUMNS, *_POLICY_COLUMNS)))
    cells = {metric: over_seeds(records, metric) for metric in metrics}
    rates = list(dict.fromkeys(rate for _, rate, _ in cells["cider_d"]))
    tables = [_decoder_table(cells, rate, ours) for rate in rates]
    if cells["clean_changed"]:
        tables.append(_policy_table(cells))
    noisy = [key for key in cells["cider_d"] if key[1] and (key[0], 0.0, key[2]) in cells["cider_d"]]
    return [*tables, _kept_table(cells, noisy, ours)] if noisy else tables


_Cells: TypeAlias = "dict[str, dict[tuple[str, float, str], Cell]]"


def _decoder_table(cells: _Cells, rate: float, ours: str) -> TextTable:
    keys = [key for key in cells["cider_d"] if key[1] == rate]
    rows = tuple(
        (key[2], *(_figure(metric, cells[metric].get(key)) for metric, _ in _CAPTION_COLUMNS)) for key in keys
    )
    pictures = next(cell.mean for key, cell in cells["images"].items() if key[1] == rate)
    title = f"captions of {pictures:.0f} held-out pictures, {_exchanged(rate)}"
    return TextTable(title, ("decoder", *_names(_CAPTION_COLUMNS)), rows, tuple(key[2] == ours for key in keys))


def _policy_table(cells: _Cells) -> TextTable:
    keys = list(cells["clean_changed"])
    rows = tuple(
        (f"{key[1]:g}", key[2], *(_shown(cells[metric].get(key)) for metric, _ in _POLICY_COLUMNS)) for key in keys
    )
    heads = ("exchanged", "decoder", *_names(_POLICY_COLUMNS))
    return TextTable("what the policy does with doubtful captions", heads, rows, (False,) * len(rows), names=2)


def _kept_table(cells: _Cells, keys: Sequence[tuple[str, float, str]], ours: str) -> TextTable:
    def kept(metric: str, key: tuple[str, float, str]) -> str:
        mean, clean = cells[metric][key].mean, cells[metric][key[0], 0.0, key[2]].mean
        return f"{mean / clean:.2f}" if mean is not None and clean else ""

    shown = [key for key in keys if key[2] in {method for _, _, method in cells["captions_per_second"]}]
    rows = tuple((f"{key[1]:g}", key[2], *(kept(metric, key) for metric, _ in _LIKENESS)) for key in shown)
    heads = ("exchanged", "decoder", *_names(_LIKENESS))
    marked = tuple(key[2] == ours for key in shown)
    return TextTable("share of the clean figures that is kept", heads, rows, marked, names=2)


def downstream_tables(records: Sequence[Record], ours: Collection[str]) -> list[TextTable]:
    """R@k of what each method trains, one table a rate; all rates together; what the methods trained on.

    R@k, R@sum and the change from raw are means over the seeds in percent; intervals are of 95 % over the seeds.

    Args:
        records: of `bench_downstream`.
        ours: the methods whose rows are marked.
    """
    rates = list(dict.fromkeys(record["rate"] for record in records if record.get("metric") == "recall_sum"))
    tables = [_gap_table(records, ours), _annotation_table(records)]
    return [*(_recall_table(records, rate, ours) for rate in rates), *(table for table in tables if table.rows)]


def _recall_table(records: Sequence[Record], rate: float, ours: Collection[str]) -> TextTable:
    columns = [
        (f"{way} R@{at}", over_seeds(records, f"{direction}_recall_at_{at}"))
        for direction, way in (("image_to_text", "i2t"), ("text_to_image", "t2i"))
        for at in AT
    ]
    methods = [method for _, of, method in columns[0][1] if of == rate]
    rows = tuple((name, *(_in_percent(cells["random", rate, name]) for _, cells in columns)) for name in methods)
    heads = ("trained on", *(name for name, _ in columns))
    return TextTable(f"retrieval, {_exchanged(rate)}", heads, rows, tuple(name in ours for name in methods))


def _gap_table(records: Sequence[Record], ours: Collection[str]) -> TextTable:
    figures: dict[tuple[float, str], dict[str, float | None]] = {}
    for record in records:
        if record.get("seed", 0) is None:
            figures.setdefault((record["rate"], record["method"]), {})[record["metric"]] = record["value"]
    rows = tuple(
        (
            f"{rate:g}",
            method,
            _with_interval(found, "recall_sum", 1),
            _with_interval(found, "change_from_raw", 1),
            _with_interval(found, "gap_recovered", 2),
        )
        for (rate, method), found in figures.items()
    )
    heads = ("exchanged", "trained on", "R@sum", "% from raw", "gap recovered")
    title = "all rates: sum of the six R@k, and the share of the gap raw -> oracle that is recovered"
    return TextTable(title, heads, rows, tuple(method in ours for _, method in figures), names=2)


def _annotation_table(records: Sequence[Record]) -> TextTable:
    """What the recipes are given: right captions that are kept, by how often they occur; wrong ones; completions."""
    names = ["once" if most == 1 else f"{least} to {most}" if most else f"{least}+" for least, most in FREQUENCIES]
    columns = [
        *(
            (name, "recall_clean", frequency_subset(*bounds))
            for name, bounds in zip(names, FREQUENCIES, strict=True)
        ),
        ("all", "recall_clean", "all"),
        ("precision", "precision_clean", "all"),
        ("wrong completed", "accepted", "all"),
        ("right changed", "clean_changed", "all"),
    ]  # fmt: skip
    cells = [over_seeds(records, metric, subset) for _, metric, subset in columns]
    rows = tuple((f"{key[1]:g}", *(_shown(cell.get(key), spread=False) for cell in cells)) for key in cells[-1])
    title = "right captions that are kept (noise_prob < .5), by how often they occur; precision; completion"
    return TextTable(title, ("exchanged", *(name for name, _, _ in columns)), rows, (False,) * len(rows))


def _with_interval(figures: dict[str, float | None], metric: str, decimals: int) -> str:
    value, low, high = (figures[f"{metric}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return ""
    ends = "" if low is None or high is None else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{value:.{decimals}f}{ends}"


def _exchanged(rate: float) -> str:
    return f"{rate:g} of the captions exchanged" if rate else "clean"


def _names(columns: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in columns)


def _figure(metric: str, cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return ""
    spread = metric in _WITH_SPREAD
    if metric not in _DECIMALS:
        return _shown(cell, spread)
    decimals = _DECIMALS[metric]
    return f"{cell.mean:.{decimals}f}" + (f" ±{cell.spread:.{decimals}f}" if spread and cell.spread else "")


def _percent(cell: Cell) -> str:
    return (
        "" if cell.mean is None else f"{100 * cell.mean:.1f}" + (f" ±{100 * cell.spread:.1f}" if cell.spread else "")
    )


def _in_percent(cell: Cell) -> str:
    return "" if cell.mean is None else f"{cell.mean:.1f}"


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
    return TextTable(title, ("kind", "rate", *heads), tuple(rows), (False,) * len(rows), names=2)


def _shown(cell: Cell | None, spread: bool = True) -> str:
    if cell is None or cell.mean is None:
        return ""
    mean = f"{cell.mean:.3f}".removeprefix("0")
    return f"{mean} ±{cell.spread:.3f}".replace("±0.", "±.") if spread and cell.spread else mean
