"""The commands. Thin: everything they do is in the library; this is the only module that prints."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    from curate.bench.tables import TextTable
    from curate.export.selection import Selection
    from curate.plan import Plan
    from curate.run import Progress, Runner, StepReport
    from curate.store import RunStore
    from curate.summary import Summary

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Offline curation of noisy web image-text corpora: which captions do not belong to their image?",
)
data_app = typer.Typer(no_args_is_help=True, help="Make corpora to try curate on and to measure it with.")
app.add_typer(data_app, name="data")
bench_app = typer.Typer(no_args_is_help=True, help="Measure curate against known truth, beside published methods.")
app.add_typer(bench_app, name="bench")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

NOT_MEASURED = "not measured yet"

PipelineFile = Annotated[Path, typer.Argument(help="The pipeline, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the pipeline, such as stages.noise.folds=3."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
RunnerName = Annotated[Literal["local", "ray"], typer.Option("--runner", help="Threads here, or a Ray cluster.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Most workers (Ray: model workers) at once.", show_default="all cores"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="A trial on the first N pairs (whole parts); it has a run directory of its own."
    ),
]
FitsFrom = Annotated[
    str | None,
    typer.Option(
        "--fits-from",
        metavar="RUN",
        help="Score with the models that this finished run has fitted; nothing is fitted again.",
    ),
]
TruthFile = Annotated[
    Path | None, typer.Option(help="A _truth/truth.parquet from `curate data corrupt`: how good is noise_prob?")
]
RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]


def main() -> None:
    """Entry point: every error becomes a message and an exit code (0 done, 1 failed, 2 your input)."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    # What a damaged picture means for its row is said in the row's error.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        app()
    except InputError as error:
        _complain(error)
        sys.exit(2)
    except (CurateError, OSError) as error:
        _complain(error)
        sys.exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends with a word and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("\ninterrupted: what is finished is kept; run the same command again to go on")
        raise typer.Exit(130) from None


def _complain(error: Exception) -> None:
    err.print("[bold red]error[/]", end=" ")
    err.print(str(error), markup=False, soft_wrap=True)


@app.command()
def run(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Annotate a corpus. Run it again to go on after an interruption: what is done is not done twice."""
    from curate.config import load_config
    from curate.plan import make_plan, output_url
    from curate.run import execute
    from curate.state import lock_run, remember_config, save_timings
    from curate.store import RunStore
    from curate.summary import summarize

    started = time.monotonic()
    config = load_config(pipeline, overrides or [])
    console = Console(highlight=False, quiet=quiet)
    with _interruptible(), lock_run(RunStore(output_url(config, limit))), _runner(runner, workers) as chosen:
        with console.status("reading the input"):
            plan = make_plan(config, chosen.index, limit, fits_from)
        remember_config(plan.store, config)
        _tell_changes(console, plan)
        with _progress(console) as progress:
            reports = execute(plan, chosen, progress)
            save_timings(RunStore(config.output), reports)
    summary = summarize(plan.store)
    seconds = time.monotonic() - started
    _print_summary(console, summary, plan.store.url, reports, seconds)
    if json_file is not None:
        steps = [asdict(report) for report in reports]
        _write_json(json_file, {"run": plan.store.url, "seconds": seconds, "steps": steps, **summary.to_json()})


@app.command()
def plan(
    pipeline: PipelineFile,
    runner: RunnerName = "local",
    workers: Workers = None,
    limit: Limit = None,
    fits_from: FitsFrom = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
) -> None:
    """Say what a run would do: steps, parts, what is done, how long it may take, whether the cluster can do it."""
    from curate.config import load_config
    from curate.plan import make_plan
    from curate.state import estimate_seconds

    config = load_config(pipeline, overrides or [])
    with _runner(runner, workers) as chosen:
        with out.status("reading the input"):
            made = make_plan(config, chosen.index, limit, fits_from)
        resources = _resources(chosen, made)
    rows = _plan_rows(made, estimate_seconds(made))
    table = Table("step", "parts", "done", "to do", "pairs to do", "estimate", title=f"{made.manifest.rows:,} pairs")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("step", "parts", "done", "to_do", "pairs_to_do", "estimate")))
    out.print(table)
    out.print(f"input    {len(made.manifest.shards)} shards, {len(made.manifest.parts)} parts", markup=False)
    spec = made.spec
    out.print(f"encoder  {spec.model}, {spec.device}, {spec.precision}, batches of {spec.batch_size}", markup=False)
    out.print(f"workers  {resources}\noutput   {made.store.url}", markup=False)
    if any(row["estimate"] == NOT_MEASURED for row in rows):
        out.print(f"estimate a trial measures it: curate run {pipeline} --limit 500", markup=False, soft_wrap=True)
    _tell_changes(out, made)
    if json_file is not None:
        _write_json(json_file, {"run": made.store.url, "pairs": made.manifest.rows, "steps": rows})


@app.command()
def inspect(
    run_directory: RunDirectory,
    key: Annotated[str | None, typer.Option(help="Show the pair with this key (or row_id) in full.")] = None,
    truth: TruthFile = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the most suspicious pairs to show.")] = 10,
    json_file: JsonFile = None,
) -> None:
    """Show what a run found: counts, the most suspicious pairs, or one pair with every signal."""
    from curate.bench.truth import judge
    from curate.store import RunStore
    from curate.summary import find_pairs, summarize

    store = RunStore(run_directory)
    if key is not None:
        pairs = find_pairs(store, key)
        for pair in pairs:
            _print_pair(pair)
        answer: Any = {"pairs": [_printable(pair) for pair in pairs]}
    else:
        summary = summarize(store, top)
        _print_counts(out, summary)
        _print_suspicious(out, summary)
        answer = summary.to_json()
    if truth is not None:
        figures = judge(store, truth).to_json()
        _print_facts("against the truth", figures)
        answer = {**answer, "truth": figures}
    if json_file is not None:
        _write_json(json_file, answer)


@app.command()
def report(
    run_directory: RunDirectory,
    target: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the page goes.", show_default="RUN/report.html")
    ] = None,
    truth: TruthFile = None,
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="Most pairs to show for each reason.")] = 60,
    pipeline: Annotated[
        Path | None, typer.Option(help="The pipeline that made the run, if the run directory was moved here.")
    ] = None,
) -> None:
    """Write one HTML page with plots and pictures: what is wrong, why we think so, and which threshold to take."""
    from curate.config import load_config
    from curate.report.build import make_report
    from curate.store import RunStore

    store = RunStore(run_directory)
    local = store.local_root
    if target is None and local is None:
        raise InputError(f"{run_directory} is not on this machine: say where the page goes with --out FILE")
    with out.status("reading the run and its pictures"):
        page = make_report(store, None if pipeline is None else load_config(pipeline), truth, pairs)
    file = target or Path(str(local)) / "report.html"
    _write_file("--out", file, page)
    out.print(f"{file}  {len(page.encode()) / 1e6:.1f} MB, opens in any browser, needs nothing else", markup=False)


@app.command()
def export(
    run_directory: RunDirectory,
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is empty or not there yet.")],
    kind: Annotated[Literal["webdataset", "parquet", "csv"], typer.Option("--format")] = "webdataset",
    where: Annotated[
        str | None, typer.Option(help="Which pairs: noise_prob < 0.5 and label != 'noisy'", show_default="all")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,..", help="Which annotations.", show_default="all")
    ] = None,
    caption: Annotated[
        Literal["original", "completed"], typer.Option(help="Which caption trainers get.")
    ] = "original",
    shard_pairs: Annotated[int, typer.Option(min=1, max=10_000, help="Most pairs in one file.")] = 10_000,
    pipeline: Annotated[
        Path | None,
        typer.Option(help="webdataset: the pipeline that made the run, if the run directory was moved here."),
    ] = None,
) -> None:
    """Write chosen pairs as WebDataset shards (with their pictures) for trainers, or their annotations as tables."""
    from curate.export.selection import Selection
    from curate.export.table import export_table
    from curate.store import RunStore

    store = RunStore(run_directory)
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    selection = Selection(where, names, caption)
    _make_empty_folder(target)
    with _interruptible(), out.status("exporting"):
        if kind == "webdataset":
            written = _export_webdataset(store, target, selection, shard_pairs, pipeline)
        else:
            written = export_table(store, target, selection, kind, shard_pairs)
    out.print(f"{sum(written.values()):,} pairs in {len(written)} files in {target}", markup=False)


def _export_webdataset(
    store: RunStore, target: Path, selection: Selection, shard_pairs: int, pipeline: Path | None
) -> dict[str, int]:
    from curate.config import load_config
    from curate.export.webdataset import export_webdataset
    from curate.plan import source_options
    from curate.sources import open_source
    from curate.state import remembered_config

    config = remembered_config(store) if pipeline is None else load_config(pipeline)
    if config is None:
        raise InputError(f"{store.url}: does not say where its input is; name the pipeline file with --pipeline")
    return export_webdataset(store, open_source(source_options(config)), target, selection, shard_pairs)


def _make_empty_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made or read: {error}") from None
    if taken:
        raise InputError(f"--out {folder}: is not empty; name a new folder, so that no old file is mixed in")


@app.command()
def doctor(
    store: Annotated[str | None, typer.Option(help="Also try to write to this run directory or URL.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Look at the installation and say what is missing and how to get it."""
    from curate.doctor import examine

    with out.status("looking"):
        findings = examine(store)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(marks[finding.state], finding.name, escape(finding.found))
    out.print(table)
    for finding in findings:
        if finding.remedy:
            out.print(f"\n{marks[finding.state]} {finding.name}: {escape(finding.remedy)}")
    if json_file is not None:
        _write_json(json_file, [finding.to_json() for finding in findings])
    if any(finding.state == "problem" for finding in findings):
        raise CurateError("the installation has problems; see above")


@data_app.command()
def clipart(
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the shards go.")],
    image_size: Annotated[
        int, typer.Option(min=0, help="Longest side in pixels; 0 keeps the original files byte for byte.")
    ] = 256,
    debs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the Debian packages from here instead of apt-get.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build a real, naturally noisy corpus of about 8,800 drawings and photos from Debian's packages."""
    from curate.corpora.clipart import fetch_clipart

    with _interruptible(), _data_progress(quiet) as progress:
        report = fetch_clipart(target, image_size=image_size, debs=debs, progress=progress)
    if not quiet:
        origins = ", ".join(f"{count:,} from {package}" for package, count in report.pairs_by_package.items())
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in report.left_out.items())
        out.print(f"{report.pairs:,} pairs in {report.shards} shards in {target}: {origins}", markup=False)
        out.print(f"left out: {left_out or 'nothing'}", markup=False)


@data_app.command()
def corrupt(
    source: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="WebDataset tars.")],
    target: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the shards and _truth go.")],
    kind: Annotated[
        Literal["random", "category", "nearest", "partial"],
        typer.Option(help="Who swaps captions with whom; partial: one word of the caption."),
    ] = "random",
    rate: Annotated[float, typer.Option(help="Share of pairs to mismatch, between 0 and 1.")] = 0.4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    category_field: Annotated[str, typer.Option(help="kind category: field of the JSON member.")] = "category",
    quiet: Quiet = False,
) -> None:
    """Swap captions, or words of them, among pairs and write down the truth, to measure with `inspect --truth`."""
    from curate.corpora.corrupt import corrupt as corrupt_corpus
    from curate.models.encoder import caption_embedder

    embed = caption_embedder() if kind == "nearest" else None
    with _interruptible(), _data_progress(quiet) as progress:
        report = corrupt_corpus(
            source,
            target,
            kind=kind,
            rate=rate,
            seed=seed,
            category_field=category_field,
            embed_captions=embed,
            progress=progress,
        )
    if not quiet:
        done = " (was there already)" if report.already_done else ""
        out.print(
            f"{report.mismatched:,} of {report.usable:,} usable pairs mismatched: {report.reached_rate:.1%}, "
            f"{report.asked_rate:.1%} asked for{done}",
            markup=False,
        )
        out.print(f"shards   {target}/*.tar\ntruth    {report.truth}", markup=False, soft_wrap=True)


@bench_app.command("noise")
def bench_noise_command(
    inputs: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="Pairs whose captions are right.")],
    kinds: Annotated[
        str, typer.Option("--kind", metavar="K,..", help="random, category, nearest, partial.")
    ] = "random",
    rates: Annotated[str, typer.Option("--rate", metavar="R,..", help="Shares of pairs to mismatch.")] = "0.4",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of every condition.")] = 3,
    methods: Annotated[str, typer.Option("--method", metavar="M,..", help="ours, all, or names.")] = "ours",
    category_field: Annotated[
        str, typer.Option(help="kind category: field of the JSON member, or column of the table.")
    ] = "category",
    pipeline: Annotated[
        Path | None, typer.Option(help="Take encoder and noise options from here; default: offline towers.")
    ] = None,
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="Run directory for the embeddings, made once.")
    ] = Path("runs/bench-noise"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw AUROC by rate (png, svg, pdf).")] = None,
    quiet: Quiet = False,
) -> None:
    """Exchange captions, find the exchanged ones, and compare with the truth: ours and published methods."""
    from curate.bench.noise import bench_noise, caption_encoder, conditions, environment, load_corpus, rivals_of
    from curate.bench.plots import check_plot, noise_plot
    from curate.bench.setup import bench_config, parse_kinds, parse_rates
    from curate.bench.tables import frequency_table, noise_tables
    from curate.plan import make_plan
    from curate.state import lock_run
    from curate.store import RunStore

    if plot is not None:
        check_plot(plot)
    kind_names = parse_kinds(kinds)
    cells = conditions(kind_names, parse_rates(rates), seeds)
    wanted = [name.strip() for name in methods.split(",")]
    keep = [category_field] if "category" in kind_names else []
    config, embed_only = bench_config(pipeline, inputs, work, keep, overrides or [])
    console = Console(highlight=False, quiet=quiet)
    with _interruptible(), lock_run(RunStore(embed_only.output)), _runner(runner, workers) as chosen:
        plan = make_plan(embed_only, chosen.index)
        rivals_of(wanted, plan.spec.joint_space)
        with _progress(console) as progress:
            corpus = load_corpus(plan, chosen, progress, Path(inputs[0]).parent.name or inputs[0])
        records = [environment(corpus, plan.spec.model)]
        with console.status("measuring") as status:
            for record in bench_noise(corpus, config, cells, wanted, caption_encoder(plan), status.update):
                records.append(record)
                if json_file is not None and record["metric"] == "seconds":
                    _write_json(json_file, records)
    for table in (*noise_tables(records), frequency_table(records)):
        console.print(_rich_table(table))
    if json_file is not None:
        _write_json(json_file, records)
    if plot is not None:
        noise_plot(records, plot)


@bench_app.command("concepts")
def bench_concepts_command(
    inputs: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="Pairs whose captions are right.")],
    rates: Annotated[str, typer.Option("--rate", metavar="R,..", help="Shares of captions to exchange.")] = "0,0.4",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of every condition.")] = 3,
    methods: Annotated[
        str, typer.Option("--method", metavar="M,..", help="ours, nlip, neighbours, tagger, popularity, or all.")
    ] = "all",
    keywords_field: Annotated[
        str, typer.Option(help="Field of the JSON member, or column, with human keywords, where there are any.")
    ] = "keywords",
    pipeline: Annotated[
        Path | None, typer.Option(help="Take encoder, noise and concept options from here; default: offline towers.")
    ] = None,
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="Run directory for the embeddings, made once.")
    ] = Path("runs/bench-concepts"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Find what held-out pictures show, with each scorer, and compare with their captions and keywords."""
    from importlib.metadata import version

    from curate.bench.concepts import bench_concepts, check_methods, concept_environment
    from curate.bench.noise import conditions, environment, load_corpus
    from curate.bench.setup import bench_config, concept_bench, parse_rates
    from curate.bench.tables import concept_tables
    from curate.plan import make_plan
    from curate.state import lock_run
    from curate.store import RunStore

    wanted = check_methods([name.strip() for name in methods.split(",")])
    cells = conditions(["random"], parse_rates(rates), seeds)
    config, embed_only = bench_config(pipeline, inputs, work, [keywords_field], overrides or [])
    console = Console(highlight=False, quiet=quiet)
    with _interruptible(), lock_run(RunStore(embed_only.output)), _runner(runner, workers) as chosen:
        plan = make_plan(embed_only, chosen.index)
        bench = concept_bench(config, plan)
        with _progress(console) as progress:
            corpus = load_corpus(plan, chosen, progress, Path(inputs[0]).parent.name or inputs[0])
        records = [concept_environment(environment(corpus, plan.spec.model), version("hanta"))]
        with console.status("measuring") as status:
            for record in bench_concepts(corpus, bench, cells, wanted, status.update):
                records.append(record)
                if json_file is not None and record["metric"] == "fit_seconds":
                    _write_json(json_file, records)
    for table in concept_tables(records):
        console.print(_rich_table(table))
    if json_file is not None:
        _write_json(json_file, records)


def _rich_table(text: TextTable) -> Table:
    table = Table(*text.heads, title=escape(text.title))
    for row, ours in zip(text.rows, text.ours, strict=True):
        table.add_row(*map(escape, row), style="bold" if ours else None)
    return table


@contextmanager
def _runner(name: str, workers: int | None) -> Iterator[Runner]:
    from curate.run import LocalRunner, RayRunner

    if name == "local":
        yield LocalRunner(workers)
        return
    ray_runner = RayRunner(workers)
    try:
        yield ray_runner
    finally:
        ray_runner.close()


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    from curate.terminal import TerminalProgress

    with TerminalProgress(console) as progress:
        yield progress


@contextmanager
def _data_progress(quiet: bool) -> Iterator[Any]:
    from curate.terminal import CallbackProgress

    with CallbackProgress(Console(highlight=False, quiet=quiet)) as progress:
        yield progress


def _tell_changes(console: Console, plan: Plan) -> None:
    for verb, names in (
        ("new", plan.change.added),
        ("changed", plan.change.changed),
        ("gone", plan.change.vanished),
    ):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            console.print(f"input    {verb} since the last run: {shown}", markup=False)


def _resources(runner: Runner, plan: Plan) -> str:
    from curate.run import LocalRunner, RayRunner

    if isinstance(runner, RayRunner):
        workers, each = runner.model_workers(plan.spec.device, len(plan.manifest.parts))
        return f"Ray: {workers} model workers with {each}, the other CPUs decode"
    assert isinstance(runner, LocalRunner)
    return f"local: {runner.workers} threads"


def _plan_rows(plan: Plan, estimates: dict[str, float]) -> list[dict[str, Any]]:
    from curate.plan import FitStep, RowStep

    rows: list[dict[str, Any]] = []
    for step in plan.steps:
        seconds = estimates.get(f"{step.name} fit" if isinstance(step, FitStep) else step.name)
        if isinstance(step, RowStep):
            tasks = plan.tasks(step)
            pairs = sum(task.part.rows for task in tasks)
            counts = (step.name, len(step.fingerprints), len(step.done), len(tasks), pairs)
        elif isinstance(step, FitStep):
            counts = (f"{step.name} fit", 1, int(step.done), int(not step.done), 0)
        else:
            pairs = 0 if step.done else plan.manifest.rows
            counts = (step.name, 1, int(step.done), int(not step.done), pairs)
        estimate = "nothing to do" if not counts[3] else NOT_MEASURED if seconds is None else _duration(seconds)
        names = ("step", "parts", "done", "to_do", "pairs_to_do")
        rows.append({**dict(zip(names, counts, strict=True)), "estimate": estimate, "seconds": seconds})
    return rows


def _print_summary(console: Console, summary: Summary, url: str, reports: list[StepReport], seconds: float) -> None:
    worked = [report for report in reports if report.rows]
    if worked:
        slowest = max(worked, key=lambda report: report.seconds)
        parts = ", ".join(f"{report.name} {_duration(report.seconds)}" for report in worked)
        console.print(f"\ndone in {_duration(seconds)} ({parts}; slowest: {slowest.name})", markup=False)
    else:
        console.print("\nnothing to do: every file is there already", markup=False)
    _print_counts(console, summary)
    _print_suspicious(console, summary)
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


def _print_counts(console: Console, summary: Summary) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("pairs", f"{summary.pairs:,}", "")
    for label, count in summary.labels.items():
        table.add_row(f"  {label}", f"{count:,}", _share(count, summary.pairs))
    for status, count in summary.statuses.items():
        if status != "ok":
            table.add_row(f"  not usable: {status}", f"{count:,}", _share(count, summary.pairs))
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


def _print_suspicious(console: Console, summary: Summary) -> None:
    if not summary.most_suspicious:
        return
    table = Table("noise_prob", "key", "caption", title="most suspicious", title_justify="left", box=None)
    for pair in summary.most_suspicious:
        table.add_row(f"{pair.noise_prob:.3f}", escape(pair.key), escape(_one_line(pair.caption)))
    console.print()
    console.print(table)


def _print_pair(pair: dict[str, Any]) -> None:
    signals = pair.pop("signals") or {}
    if pair.get("concepts"):
        pair["concepts"] = ", ".join(f"{concept['name']} {concept['score']:.1f}" for concept in pair["concepts"])
    _print_facts(pair["row_id"], {**_printable(pair), **{f"signals.{name}": value for name, value in signals.items()}})


def _print_facts(title: str, facts: dict[str, Any]) -> None:
    table = Table(title=escape(title), title_justify="left", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, "-" if value is None else escape(_one_line(str(_rounded(value)), 500)))
    out.print(table)


def _rounded(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def _printable(pair: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in pair.items()}


def _one_line(text: str, most: int = 100) -> str:
    """Captions come from strangers: no control character of theirs reaches the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _share(count: int, total: int) -> str:
    """Never "100.0%" of less than all, nor "0.0%" of something."""
    if 0 < count < total and not 0.0005 <= count / total < 0.9995:
        return "<0.1%" if count < total / 2 else ">99.9%"
    return f"{count / total:.1%}" if total else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _write_json(file: Path, value: Any) -> None:
    _write_file("--json", file, json.dumps(value, indent=1) + "\n")


def _write_file(option: str, file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written: {error}") from None


if __name__ == "__main__":
    main()
