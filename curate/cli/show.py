"""What a run found, for the terminal: counts, suspicious pairs, one pair in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.cli.shared import duration, one_line, out, percentage

if TYPE_CHECKING:
    from curate.run import StepReport
    from curate.summary import Summary


def print_summary(console: Console, summary: Summary, url: str, reports: list[StepReport], seconds: float) -> None:
    worked = [report for report in reports if report.rows]
    if worked:
        slowest = max(worked, key=lambda report: report.seconds)
        parts = ", ".join(f"{report.name} {duration(report.seconds)}" for report in worked)
        console.print(f"\ndone in {duration(seconds)} ({parts}; slowest: {slowest.name})", markup=False)
    else:
        console.print("\nnothing to do: every file is there already", markup=False)
    print_counts(console, summary)
    print_suspicious(console, summary)
    console.print(f"\nannotations  {url}/annotations  (Parquet, one row per pair)", markup=False, soft_wrap=True)
    console.print(
        f"next         curate report {url}      (a page to look at, with pictures)", markup=False, soft_wrap=True
    )
    console.print(f"             curate inspect {url} --key KEY", markup=False, soft_wrap=True)
    console.print(
        f"             python -c \"import pandas as pd; print(pd.read_parquet('{url}/annotations'))\"",
        markup=False,
        soft_wrap=True,
    )


def print_counts(console: Console, summary: Summary) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("pairs", f"{summary.pairs:,}", "")
    for label, count in summary.labels.items():
        table.add_row(f"  {label}", f"{count:,}", percentage(count, summary.pairs))
    for status, count in summary.statuses.items():
        if status != "ok":
            table.add_row(f"  not usable: {status}", f"{count:,}", percentage(count, summary.pairs))
    if summary.shard_errors:
        table.add_row("damage in shards", f"{summary.shard_errors:,}", "see shard_errors.parquet")
    console.print()
    console.print(table)
    noise = summary.noise
    if noise:
        share = noise.get("noise_share")
        estimate = f", estimated share of noise {share:.1%}" if isinstance(share, float) else ""
        console.print(
            f"separable: {noise.get('separable', 'unknown')} ({noise.get('method', '')}{estimate})", markup=False
        )


def print_suspicious(console: Console, summary: Summary) -> None:
    if not summary.most_suspicious:
        return
    table = Table("noise_prob", "key", "caption", title="most suspicious", title_justify="left", box=None)
    for pair in summary.most_suspicious:
        table.add_row(f"{pair.noise_prob:.3f}", escape(pair.key), escape(one_line(pair.caption)))
    console.print()
    console.print(table)


def print_pair(pair: dict[str, Any]) -> None:
    signals = pair.pop("signals") or {}
    if pair.get("concepts"):
        pair["concepts"] = ", ".join(f"{concept['name']} {concept['score']:.1f}" for concept in pair["concepts"])
    print_facts(pair["row_id"], {**printable(pair), **{f"signals.{name}": value for name, value in signals.items()}})


def print_facts(title: str, facts: dict[str, Any]) -> None:
    table = Table(title=escape(title), title_justify="left", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, "-" if value is None else escape(one_line(str(_rounded(value)), 500)))
    out.print(table)


def _rounded(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def printable(pair: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in pair.items()}
