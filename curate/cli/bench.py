"""`curate bench`: measure against known truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from curate.cli.shared import (
    JsonFile,
    Overrides,
    Quiet,
    RunnerName,
    TerminalConsole,
    Workers,
    err,
    interruptible,
    open_runner,
    print_table,
    show_progress,
    write_json,
)

if TYPE_CHECKING:
    from curate.bench.noise import Corpus, Record, Told
    from curate.bench.tables import TextTable
    from curate.config import PipelineConfig
    from curate.plan import Plan

Inputs = Annotated[list[str], typer.Option("--input", metavar="GLOB", help="Pairs whose captions are right.")]
Rates = Annotated[str, typer.Option("--rate", metavar="R,..", help="Shares of captions to exchange.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Draws of every condition.")]
OptionsFrom = Annotated[
    Path | None,
    typer.Option("--pipeline", metavar="FILE", help="Take encoder and stages from here; default: offline towers."),
]
Work = Annotated[Path, typer.Option("--work", metavar="DIR", help="Run directory for the embeddings, made once.")]


def noise(
    inputs: Inputs,
    kinds: Annotated[
        str, typer.Option("--kind", metavar="K,..", help="random, category, nearest, partial.")
    ] = "random",
    rates: Rates = "0.4",
    seeds: Seeds = 3,
    methods: Annotated[str, typer.Option("--method", metavar="M,..", help="ours, refined, all, or names.")] = "ours",
    category_field: Annotated[
        str, typer.Option(help="kind category: field of the JSON member, or column of the table.")
    ] = "category",
    pipeline: OptionsFrom = None,
    work: Work = Path("runs/bench-noise"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw AUROC by rate (png, svg, pdf).")] = None,
    quiet: Quiet = False,
) -> None:
    """Exchange captions, find the exchanged ones, and compare with the truth: ours and published methods."""
    from curate.bench.noise import bench_noise, caption_encoder, conditions, environment, rivals_of
    from curate.bench.plots import check_plot, noise_plot
    from curate.bench.setup import bench_config, parse_kinds, parse_names, parse_rates
    from curate.bench.tables import frequency_table, noise_tables

    if plot is not None:
        check_plot(plot)
    kind_names = parse_kinds(kinds)
    cells = conditions(kind_names, parse_rates(rates), seeds)
    wanted = parse_names(methods)
    keep = [category_field] if "category" in kind_names else []
    config, embed_only = bench_config(pipeline, inputs, work, keep, overrides or [])
    console = TerminalConsole(highlight=False, quiet=quiet)
    with _planned(embed_only, runner, workers, console) as (plan, embedded):
        rivals_of(wanted, plan.spec.joint_space)
        corpus = embedded()
        records = _measured(
            environment(corpus, plan.spec.model),
            lambda told: bench_noise(corpus, config, cells, wanted, caption_encoder(plan), told),
            lambda known: [*noise_tables(known), frequency_table(known)],
            console,
            json_file,
        )
    if plot is not None:
        noise_plot(records, plot)


def concepts(
    inputs: Inputs,
    rates: Rates = "0,0.4",
    seeds: Seeds = 3,
    methods: Annotated[
        str, typer.Option("--method", metavar="M,..", help="ours, nlip, neighbours, tagger, popularity, or all.")
    ] = "all",
    keywords_field: Annotated[
        str, typer.Option(help="Field of the JSON member, or column, with human keywords, where there are any.")
    ] = "keywords",
    pipeline: OptionsFrom = None,
    work: Work = Path("runs/bench-concepts"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Find what held-out pictures show, with each scorer, and compare with their captions and keywords."""
    from curate.bench.concepts import bench_concepts, check_methods, concept_environment
    from curate.bench.noise import conditions, environment
    from curate.bench.setup import bench_config, concept_bench, parse_names, parse_rates
    from curate.bench.tables import concept_tables

    wanted = check_methods(parse_names(methods))
    cells = conditions(["random"], parse_rates(rates), seeds)
    config, embed_only = bench_config(pipeline, inputs, work, [keywords_field], overrides or [])
    console = TerminalConsole(highlight=False, quiet=quiet)
    with _planned(embed_only, runner, workers, console) as (plan, embedded):
        bench = concept_bench(config, plan)
        corpus = embedded()
        _measured(
            concept_environment(environment(corpus, plan.spec.model)),
            lambda told: bench_concepts(corpus, bench, cells, wanted, told),
            concept_tables,
            console,
            json_file,
        )


def captions(
    inputs: Inputs,
    rates: Rates = "0,0.4",
    seeds: Seeds = 3,
    decoders: Annotated[
        str,
        typer.Option(
            "--decoder",
            metavar="D,..",
            help="default, gru, transformer, beam, sample, consensus, nearest; all: every one but transformer.",
        ),
    ] = "default,consensus,nearest",
    pipeline: OptionsFrom = None,
    work: Work = Path("runs/bench-captions"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Take the captions from held-out pictures, write them anew with each decoder, and compare with the true ones."""
    from curate.bench.captions import bench_captions, caption_environment, check_decoders
    from curate.bench.noise import conditions, environment
    from curate.bench.setup import bench_config, caption_bench, parse_names, parse_rates
    from curate.bench.tables import caption_tables

    wanted = check_decoders(parse_names(decoders))
    cells = conditions(["random"], parse_rates(rates), seeds)
    config, embed_only = bench_config(pipeline, inputs, work, [], overrides or [])
    console = TerminalConsole(highlight=False, quiet=quiet)
    with _planned(embed_only, runner, workers, console) as (plan, embedded):
        bench = caption_bench(config, plan)
        corpus = embedded()
        _measured(
            caption_environment(environment(corpus, plan.spec.model)),
            lambda told: bench_captions(corpus, bench, cells, wanted, told),
            lambda known: caption_tables(known, bench.completion.decoder),
            console,
            json_file,
        )


def downstream(
    inputs: Inputs,
    rates: Rates = "0,0.2,0.4,0.6",
    seeds: Seeds = 5,
    methods: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="M,..",
            help="all, or names: kept, weighted, completed; ablations: the truth in place of one part at a time.",
        ),
    ] = "all",
    model: Annotated[
        Literal["heads", "towers"],
        typer.Option(
            help="What is trained: heads on frozen towers, or whole towers: those of --pipeline from their weights, "
            "or a small model from scratch."
        ),
    ] = "heads",
    pipeline: OptionsFrom = None,
    work: Work = Path("runs/bench-downstream"),
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Train a small model on the noisy corpus, on what curate makes of it, and on the truth; test on clean pairs."""
    from curate.bench.downstream import DownstreamBench, bench_downstream, downstream_environment
    from curate.bench.noise import conditions, environment
    from curate.bench.recipes import RECIPES, check_methods
    from curate.bench.setup import bench_config, downstream_curation, downstream_model, parse_names, parse_rates
    from curate.bench.tables import downstream_tables

    wanted = check_methods(parse_names(methods))
    cells = conditions(["random"], parse_rates(rates), seeds)
    config, embed_only = bench_config(pipeline, inputs, work, [], overrides or [])
    console = TerminalConsole(highlight=False, quiet=quiet)
    with _planned(embed_only, runner, workers, console) as (plan, embedded):
        curation = downstream_curation(config, plan)
        corpus = embedded()
        with console.status("getting ready to train"):
            bench = DownstreamBench(curation, downstream_model(model, config, plan))
        _measured(
            downstream_environment(environment(corpus, plan.spec.model), bench),
            lambda told: bench_downstream(corpus, bench, cells, wanted, told),
            lambda known: downstream_tables(known, RECIPES),
            console,
            json_file,
        )


def paper(
    dataset: Annotated[Literal["flickr30k", "coco", "cc152k"], typer.Option(help="Which published data set.")],
    folder: Annotated[Path, typer.Option("--path", metavar="DIR", help="Its lists and images, see docs/paper.md.")],
    rates: Annotated[
        str | None,
        typer.Option("--rate", metavar="R,..", help="Shares of mismatches.", show_default="0.2,0.4,0.6; cc152k: 0"),
    ] = None,
    protocol: Annotated[
        Literal["decl", "ncr"], typer.Option(help="What is shuffled: images with all captions, or single captions.")
    ] = "decl",
    noise_index: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A published index (.npy) instead of a draw; name its --rate.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws, fits and trainings of every rate.")] = 3,
    pipeline: Annotated[
        Path | None, typer.Option(help="Take encoder and noise options from here; default: offline towers.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Run directory for the embeddings, made once.",
            show_default="runs/bench-paper-DATASET",
        ),
    ] = None,
    runner: RunnerName = "local",
    workers: Workers = None,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Follow the papers: their splits, noise and metrics, and our row beside the published ones."""
    from curate.bench.paper.embeddings import embed_dataset, image_pipeline
    from curate.bench.paper.measure import bench_paper, paper_environment
    from curate.bench.paper.setup import chosen_noising, paper_bench
    from curate.bench.paper.splits import read_dataset
    from curate.bench.paper.tables import paper_tables
    from curate.bench.setup import bench_config
    from curate.lock import lock_run
    from curate.plan import make_plan
    from curate.store import RunStore

    noising, wanted = chosen_noising(dataset, rates, protocol, noise_index)
    run_directory = work or Path(f"runs/bench-paper-{dataset}")
    config, embed_only = bench_config(pipeline, [str(folder)], run_directory, [], overrides or [])
    console = TerminalConsole(highlight=False, quiet=quiet)
    lists = read_dataset(dataset, folder)
    with interruptible(), lock_run(RunStore(embed_only.output)), open_runner(runner, workers) as chosen:
        plan = make_plan(image_pipeline(lists, embed_only), chosen.index)
        with show_progress(console) as heard:
            embedded = embed_dataset(lists, plan, chosen, heard)
        bench = paper_bench(config, plan.spec.joint_space)
        _measured(
            paper_environment(lists, embedded, plan.spec.model),
            lambda _: bench_paper(lists, embedded, bench, noising, wanted, seeds),
            lambda known: paper_tables(dataset, known),
            console,
            json_file,
        )
    if embedded.left_out:
        console.print(f"{embedded.left_out:,} images cannot be used and are left out", markup=False)


@contextmanager
def _planned(
    config: PipelineConfig, runner: str, workers: int | None, console: Console
) -> Iterator[tuple[Plan, Callable[[], Corpus]]]:
    """The plan that embeds the inputs, and what carries it out; Ctrl-C ends what is done with them."""
    from curate.bench.noise import load_corpus
    from curate.lock import lock_run
    from curate.plan import make_plan
    from curate.store import RunStore

    kept = f"the embeddings are kept in {config.output}; what was not measured is measured anew the next time"
    with interruptible(kept), lock_run(RunStore(config.output)), open_runner(runner, workers) as chosen:
        plan = make_plan(config, chosen.index)

        def embedded() -> Corpus:
            first = config.input.paths[0]
            with show_progress(console) as heard:
                return load_corpus(plan, chosen, heard, Path(first).parent.name or first)

        yield plan, embedded


def _measured(
    environment: Record,
    measure: Callable[[Told], Iterator[Record]],
    tables: Callable[[Sequence[Record]], Sequence[TextTable]],
    console: Console,
    json_file: Path | None,
) -> list[Record]:
    """All records. Whatever ends it, those that are known are written and shown; the file after each method too."""
    records = [environment]
    try:
        with _told(console) as told:
            for record in measure(told):
                if json_file is not None and any(record[key] != records[-1].get(key) for key in _MEASURED_AT_ONCE):
                    write_json(json_file, records)
                records.append(record)
    finally:
        if json_file is not None:
            write_json(json_file, records)
        for table in tables(records) if len(records) > 1 else ():
            print_table(console, table)
    return records


_MEASURED_AT_ONCE = ("kind", "rate", "seed", "method")


@contextmanager
def _told(console: Console) -> Iterator[Told]:
    """Says what is being measured: in one line that changes, or in many where nobody watches."""
    with console.status("measuring") as status:

        def tell(what: str) -> None:
            status.update(what)
            if not console.is_terminal and not console.quiet:
                err.print(what, markup=False)

        yield tell
