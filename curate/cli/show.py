"""What a run found, for the terminal: counts, histogram, pairs worth a look, completions, one pair in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from curate.cli.shared import duration, harmless, one_line, out, percentage
from curate.completion.merge import BELIEVED_SOURCES, Piece
from curate.retries import retries_text

if TYPE_CHECKING:
    from curate.completion.examples import CompletionExample, CompletionExamples
    from curate.next_steps import NextStep
    from curate.progress import StepReport
    from curate.retries import RetryCounts
    from curate.summary import Summary

ORDER_TITLES = {"noisy": "most suspicious", "clean": "least suspicious", "boundary": "on the boundary"}
BARS = {"clean": ("░", "green"), "uncertain": ("▒", "yellow"), "noisy": ("█", "red")}
LONGEST_BAR = 60
LONGEST_CAPTION = 400
SHOWN_CONCEPTS = 6
WIDE = 120


def print_summary(
    console: Console,
    summary: Summary,
    url: str,
    reports: Sequence[StepReport],
    seconds: float,
    following: Sequence[NextStep],
    retries: RetryCounts,
) -> None:
    worked = [report for report in reports if report.rows]
    if worked:
        slowest = max(worked, key=lambda report: report.seconds)
        longest = f"{slowest.name}, {duration(slowest.seconds)}"
        console.print(f"\ndone in {duration(seconds)}; slowest step: {longest}", markup=False)
    else:
        console.print("\nnothing to do: every file is there already", markup=False)
    for line in retries_text(retries):
        console.print(line, markup=False, soft_wrap=True)
    print_counts(console, summary)
    print_rounds(console, summary)
    print_shown(console, summary, {})
    console.print(f"\nannotations  {url}/annotations  (Parquet, one row per pair)", markup=False, soft_wrap=True)
    print_next(console, following)


def print_next(console: Console, following: Sequence[NextStep]) -> None:
    """Commands to type next, each with what it is good for: beside it where there is room, else above."""
    console.print("\nnext")
    longest = max(len(step.command) for step in following)
    fits = 2 + longest + 3 + max(len(step.why) for step in following) <= console.width
    for step in following:
        lines = [f"  {step.command:<{longest}}   {step.why}"] if fits else [f"  # {step.why}", f"  {step.command}"]
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)


def print_counts(console: Console, summary: Summary) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    of_all = "" if summary.pairs == summary.run_pairs else f"of {summary.run_pairs:,}"
    table.add_row("pairs", f"{summary.pairs:,}", of_all)
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
    for verdict in summary.verdicts:
        console.print(verdict, markup=False)


def print_rounds(console: Console, summary: Summary) -> None:
    """What each round of refinement changed and the mixture it led to, where there were any; 0 is the noise stage."""
    if not summary.refine:
        return
    rounds = summary.refine["rounds"]
    learned = any("epoch_losses" in each for each in rounds)
    heads = ("round", "trusted", "entered", "left", "noise (95 %)", "means", "d'", "separable")
    table = Table(title="refinement", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for head in (*heads, *(["loss"] if learned else [])):
        table.add_column(head, no_wrap=True)
    table.add_row("0", "", "", "", *_mixture_cells(summary.noise))
    for each in rounds:
        counts = (f"{each[name]:,}" for name in ("trusted", "entered", "left"))
        losses = each.get("epoch_losses", ())
        loss = [f"{losses[0]:.2f}, {losses[-1]:.2f}"] if losses else []
        table.add_row(str(each["round"]), *counts, *_mixture_cells(each["mixture"]), *loss)
    console.print()
    console.print(table)
    console.print(f"ended: {summary.refine['ended']}", markup=False)


def _mixture_cells(mixture: Mapping[str, Any]) -> tuple[str, ...]:
    """Share of noise and its interval, the components' means, d', and whether they are apart."""
    if not mixture:
        return ("",) * 4
    low, high = mixture["noise_share_interval"]
    means = mixture["means"]
    apart = mixture["null_separation"] or mixture["separation"]
    return (
        f"{mixture['noise_share']:.0%} ({low:.0%}-{high:.0%})",
        "" if means is None else f"{means['noise']:.1f}, {means['clean']:.1f}",
        "" if apart is None else f"{apart:.2f}",
        mixture["separable"],
    )


def print_histogram(console: Console, histogram: Mapping[str, Sequence[int]]) -> None:
    """Pairs by noise_prob, a bar for each bin, its parts by label; what is there is at least one character long."""
    if not histogram:
        return
    by_bin = list(zip(*histogram.values(), strict=True))
    most = max(1, *(sum(counts) for counts in by_bin))
    full = min(LONGEST_BAR, max(10, console.width - 24))
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for place, counts in enumerate(by_bin):
        bar = Text()
        for label, count in zip(histogram, counts, strict=True):
            sign, style = BARS[label]
            bar.append(sign * (max(1, round(count * full / most)) if count else 0), style)
        table.add_row(f"{place / len(by_bin):.1f}-{(place + 1) / len(by_bin):.1f}", bar, f"{sum(counts):,}")
    legend = Text("noise_prob")
    for label in histogram:
        legend.append("  ").append(BARS[label][0], BARS[label][1]).append(f" {label}")
    console.print()
    console.print(legend)
    console.print(table)


def print_shown(console: Console, summary: Summary, files: Mapping[str, Path]) -> None:
    """The pairs worth a look; `files`: row_id -> where its picture was written."""
    if not summary.shown:
        return
    unusable = any(pair.status != "ok" for pair in summary.shown)
    heads = ["noise_prob", "key", *(["status"] if unusable else []), "caption", *(["picture"] if files else [])]
    table = Table(*heads, title=ORDER_TITLES[summary.order], title_justify="left", box=None)
    for pair in summary.shown:
        caption = "" if pair.caption is None else one_line(pair.caption)
        error = "" if pair.error is None else f"({one_line(pair.error)})"
        cells = ["-" if pair.noise_prob is None else f"{pair.noise_prob:.3f}", one_line(pair.key)]
        cells += [pair.status] if unusable else []
        cells.append(" ".join(filter(None, (caption, error))))
        cells += [str(files.get(pair.row_id, "no picture"))] if files else []
        table.add_row(*map(Text, cells))
    console.print()
    console.print(table)


def print_completion_counts(console: Console, examples: CompletionExamples) -> None:
    if not examples.sources:
        console.print("none of these pictures got a synthetic caption")
        return
    believed = {name: count for name, count in examples.sources.items() if name in BELIEVED_SOURCES}
    written = sum(examples.sources.values())
    ways = ", ".join(f"{count:,} {name}" for name, count in believed.items()) or "none"
    console.print(
        f"{written:,} pictures got a synthetic caption; believed: {ways}; "
        f"not believed, all stays as it was: {written - sum(believed.values()):,}",
        markup=False,
    )
    console.print("What the original does not say is", _marked(console, (Piece("marked", True),)), end=".\n\n")


def print_completion_heads(console: Console) -> None:
    middle = ["original", "concepts"] if _is_wide(console) else ["original, concepts"]
    heads = ["picture", *middle, "completed"]
    console.print(_completion_row(console, *(Text(head, "bold") for head in heads)))
    console.rule(style="dim")


def print_completion(console: Console, example: CompletionExample, file: Path | None) -> None:
    """One pair: its picture, original, concepts and completed caption side by side."""
    doubt = "no noise_prob" if example.noise_prob is None else f"noise_prob {example.noise_prob:.3f} {example.label}"
    place = one_line(place_of(example.shard, example.key, example.row_id), LONGEST_CAPTION)
    facts = [place, *([] if file is None else [str(file)]), doubt]
    facts.append(f"{example.caption_source or 'no caption'}, score {example.synthetic_score:.2f}")
    original = Text("(none)", "dim") if example.caption is None else Text(one_line(example.caption, LONGEST_CAPTION))
    names = one_line(", ".join(example.concepts[:SHOWN_CONCEPTS]))
    completed = _marked(console, example.pieces)
    if not example.believed:
        completed = Text.assemble(("not believed: ", "dim"), completed)
    if _is_wide(console):
        middle = [original, Text(names, "dim")]
    else:
        middle = [Text("\n").join([original, Text(f"concepts: {names}", "dim")])]
    console.print(_completion_row(console, Text("\n".join(facts)), *middle, completed))
    console.rule(style="dim")


def _is_wide(console: Console) -> bool:
    return console.width >= WIDE


def _completion_row(console: Console, *cells: Text) -> Table:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(width=max(24, console.width // 5), overflow="fold")
    for _ in cells[1:]:
        row.add_column(ratio=1, overflow="fold")
    row.add_row(*cells)
    return row


def _marked(console: Console, pieces: Iterable[Piece]) -> Text:
    """Added pieces in bold and underlined; between plus signs where there are no styles."""
    styled = console.is_terminal and not console.is_dumb_terminal
    text = Text()
    for piece in pieces:
        shown = harmless(piece.text)
        text.append(shown if styled or not piece.added else f"+{shown}+", "bold underline" if piece.added else "")
    text.truncate(LONGEST_CAPTION, overflow="ellipsis")
    return text


def place_of(shard: str, key: str, row_id: str) -> str:
    """Where a pair's picture is: path inside its tar without the ending, or the row of a table."""
    return f"{shard}/{key}" if ".tar" in PurePath(shard).suffixes else row_id


def print_pair(pair: dict[str, Any], file: Path | None) -> None:
    """One pair in full, with every signal."""
    facts = {name: value for name, value in printable(pair).items() if name != "signals"}
    if pair.get("concepts"):
        facts["concepts"] = ", ".join(f"{concept['name']} {concept['score']:.1f}" for concept in pair["concepts"])
    facts |= {f"signals.{name}": value for name, value in (pair["signals"] or {}).items()}
    print_facts(pair["row_id"], {**facts, **({} if file is None else {"picture": str(file)})})


def print_facts(title: str, facts: dict[str, Any]) -> None:
    table = Table(title=escape(one_line(title)), title_justify="left", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, "-" if value is None else escape(one_line(str(_rounded(value)), 500)))
    out.print(table)


def _rounded(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def printable(pair: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in pair.items()}
