"""`curate bench`: measure against known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curate.cli.shared import (
    JsonFile,
    Overrides,
    Quiet,
    RunnerName,
    Workers,
    interruptible,
    open_runner,
    rich_table,
    show_progress,
    write_json,
)


def noise(
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
    with interruptible(), lock_run(RunStore(embed_only.output)), open_runner(runner, workers) as chosen:
        plan = make_plan(embed_only, chosen.index)
        rivals_of(wanted, plan.spec.joint_space)
        with show_progress(console) as heard:
            corpus = load_corpus(plan, chosen, heard, Path(inputs[0]).parent.name or inputs[0])
        records = [environment(corpus, plan.spec.model)]
        with console.status("measuring") as status:
            for record in bench_noise(corpus, config, cells, wanted, caption_encoder(plan), status.update):
                records.append(record)
                if json_file is not None and record["metric"] == "seconds":
                    write_json(json_file, records)
    for table in (*noise_tables(records), frequency_table(records)):
        console.print(rich_table(table))
    if json_file is not None:
        write_json(json_file, records)
    if plot is not None:
        noise_plot(records, plot)


def concepts(
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
    with interruptible(), lock_run(RunStore(embed_only.output)), open_runner(runner, workers) as chosen:
        plan = make_plan(embed_only, chosen.index)
        bench = concept_bench(config, plan)
        with show_progress(console) as heard:
            corpus = load_corpus(plan, chosen, heard, Path(inputs[0]).parent.name or inputs[0])
        records = [concept_environment(environment(corpus, plan.spec.model), version("hanta"))]
        with console.status("measuring") as status:
            for record in bench_concepts(corpus, bench, cells, wanted, status.update):
                records.append(record)
                if json_file is not None and record["metric"] == "fit_seconds":
                    write_json(json_file, records)
    for table in concept_tables(records):
        console.print(rich_table(table))
    if json_file is not None:
        write_json(json_file, records)
