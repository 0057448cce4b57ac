"""Shared by all tests: a tiny encoder, a small corpus, and pipelines over them."""

import shutil
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import yaml

from curate.cli import main
from curate.cli.shared import SIGNALS
from curate.config import parse_config
from curate.execution import LocalRunner, execute
from curate.plan import make_plan
from curate.store import RunStore
from curate.verify import verify_run
from tests.corpus import write_corpus
from tests.tiny import tiny_coca, tiny_model


class SilentProgress:
    """Remembers what it hears."""

    def __init__(self):
        self.started = []
        self.parts = []
        self.reports = []
        self.steps = []
        self.statuses = Counter()

    def step_started(self, start):
        self.started.append(start)

    def part_done(self, name, report):
        self.parts.append((name, report.number))
        self.reports.append(report)
        self.statuses.update(report.statuses)

    def step_done(self, report):
        self.steps.append(report)


def worked_on(heard: SilentProgress) -> set[str]:
    """Names of the steps that did something."""
    return {name for name, _ in heard.parts} | {report.name for report in heard.steps if "fit" in report.name}


class Pipeline:
    """A pipeline over a folder of shards with its run directory, driven through the library."""

    def __init__(self, shards: Path, output: Path, encoder: dict, **more):
        self.output = output
        self.raw = {
            "input": {"path": str(shards / "*.tar"), "part_rows": 25},
            "output": str(output),
            "encoder": encoder,
            "stages": ["embed", {"noise": {"folds": 3, "rounds": 1, "itc_epochs": 1}}],
            **more,
        }

    def config(self, *overrides):
        return parse_config(yaml.safe_dump(self.raw), "test.yaml", overrides)

    def file(self) -> Path:
        """The pipeline as a YAML file beside its run directory."""
        path = self.output.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(self.raw))
        return path

    def run(self, *overrides, runner=None, limit=None):
        """Run it; returns what the progress heard."""
        runner = runner or LocalRunner(2)
        progress = SilentProgress()
        execute(make_plan(self.config(*overrides), runner.index, limit), runner, progress)
        return progress

    def copied_to(self, folder: Path) -> "Pipeline":
        """The same pipeline over a copy of its run directory."""
        shutil.copytree(self.output, folder / "copy")
        copy = Pipeline(folder, folder / "copy", {})
        copy.raw = {**copy.raw, **self.raw, "output": str(folder / "copy")}
        return copy

    def wrong(self) -> dict[str, str]:
        """What `curate verify` finds wrong, by file."""
        return {each.file: each.problem for each in verify_run(RunStore(str(self.output))).findings}

    def contents(self) -> dict[str, bytes]:
        """Every file of the run that has to be the same bytes wherever it is made."""
        files = {str(p.relative_to(self.output)): p for p in sorted(self.output.rglob("*")) if p.is_file()}
        return {name: path.read_bytes() for name, path in files.items() if not name.startswith("_state")}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """The `encoder:` section for a tiny model with random weights."""
    return asdict(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """160 pairs in 4 shards. Read only: copy it to change it."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def pipeline(shards, tiny_encoder, tmp_path):
    return Pipeline(shards, tmp_path / "run", tiny_encoder)


@pytest.fixture(scope="session")
def finished(shards, tiny_encoder, tmp_path_factory):
    """A finished run. Read only: copy it to change it."""
    made = Pipeline(shards, tmp_path_factory.mktemp("finished") / "run", tiny_encoder)
    made.run()
    return made


# The tiny towers know nothing: two components as published are taken even where they mean nothing.
DECIDED_NOISE = {"noise": {"signals": ["clip_similarity"], "folds": 3, "rounds": 1, "itc_epochs": 1}}


@pytest.fixture(scope="session")
def with_noise(shards, tiny_encoder, tmp_path_factory):
    """A finished run whose noise model tells pairs apart. Read only: copy it to change it."""
    made = Pipeline(shards, tmp_path_factory.mktemp("noise") / "run", tiny_encoder, stages=["embed", DECIDED_NOISE])
    made.run()
    return made


@pytest.fixture(scope="session")
def trusted_below(with_noise):
    """A noise_prob that .6 of its pairs stay below."""
    return float(pd.read_parquet(with_noise.output / "annotations").noise_prob.quantile(0.6))


@pytest.fixture(scope="session")
def completed(with_noise, trusted_below, tmp_path_factory):
    """A finished run with concepts and captions that a captioner wrote. Read only: copy it to change it."""
    made = with_noise.copied_to(tmp_path_factory.mktemp("completed"))
    caption = {"when": "noise_rank > 0.3", "decoder": "gru", "margin": 0, "accept_quantile": 0}
    made.raw["stages"] = ["embed", DECIDED_NOISE, "concepts", {"caption": {**caption, "trusted_below": trusted_below}}]
    made.run()
    assert pd.read_parquet(made.output / "annotations").synthetic_caption.notna().any()
    return made


@pytest.fixture(scope="session")
def with_coca(with_noise, trusted_below, tmp_path_factory):
    """A finished run whose doubtful captions a tiny CoCa wrote. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("coca")
    options = tiny_coca(folder / "model")
    caption = {
        "when": "noise_rank > 0.3",
        "decoder": "coca",
        "coca": {"model": options.model, "pretrained": options.pretrained, "longest": options.longest},
        # A part of the corpus is trusted; what random weights write can be accepted.
        "trusted_below": trusted_below,
        "margin": 0,
        "accept_quantile": 0,
    }
    made = with_noise.copied_to(folder)
    made.raw["stages"] = ["embed", DECIDED_NOISE, {"concepts": {"min_documents": 2}}, {"caption": caption}]
    made.run()
    return made


@pytest.fixture
def curate(monkeypatch, capsys):
    """Run one command in this process; returns (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
        heard = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            # A command that was interrupted hears nothing any more: its process would end.
            for number, handler in heard.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return code, captured.out, captured.err

    return call
