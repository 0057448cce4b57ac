"""What a person reads of the speed bench's records."""

from __future__ import annotations

from collections.abc import Sequence

from curate.bench.speed.records import Record
from curate.bench.tables import TextTable

_ABOUT = ("row", "bench", "metric", "value", "unit", "low", "high", "repeats", "error")
_HEADS = ("what", "figure", "value", "unit", "lowest to highest", "of")


def speed_tables(records: Sequence[Record]) -> list[TextTable]:
    """One table for each row of the bench: what was measured, the median, and how far the repeats lie apart."""
    measured = [record for record in records if "row" in record]
    tables = []
    for name in dict.fromkeys(record["row"] for record in measured):
        rows = tuple(_texts(record) for record in measured if record["row"] == name)
        tables.append(TextTable(name, _HEADS, rows, tuple(_is_ours(row) for row in rows), names=2))
    return tables


def _texts(record: Record) -> tuple[str, ...]:
    what = ", ".join(_varied(name, value) for name, value in record.items() if name not in _ABOUT)
    if record["value"] is None:
        return what, record["metric"], "", f"not measured: {record.get('error', '')}", "", ""
    spread = f"{_figure(record['low'])} to {_figure(record['high'])}" if "low" in record else ""
    return what, record["metric"], _figure(record["value"]), record["unit"], spread, str(record.get("repeats", ""))


def _varied(name: str, value: object) -> str:
    if name == "method":
        return str(value)
    if name == "image_size":
        return f"{value} px" if value else "sizes as they are"
    return f"{name} {value:,}" if isinstance(value, int | float) else f"{name} {value}"


def _figure(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def _is_ours(texts: Sequence[str]) -> bool:
    return texts[0].startswith(("end_to_end", "ours", "signal"))
