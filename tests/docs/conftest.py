"""Folders as a reader has them: after the first steps, and after a run with completed captions."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.corpus import write_corpus
from tests.docs.snippets import ROOT, run, run_page
from tests.tiny import MODEL_CONFIG


@dataclass(frozen=True)
class FirstSteps:
    """A folder in which docs/first-steps.md was followed, and all that was printed."""

    folder: Path
    printed: str


@pytest.fixture(scope="session")
def first_steps(tmp_path_factory):
    """The page's commands over a small corpus in which .3 of the captions are exchanged. Read only."""
    folder = tmp_path_factory.mktemp("first-steps")
    write_corpus(folder / "drawn", count=200, shard_size=100)
    exchange = ["curate", "data", "corrupt", "--input", "drawn/*.tar", "--out", "data/clipart", "--kind", "random"]
    run([*exchange, "--rate", "0.3"], folder)
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    return FirstSteps(folder, run_page("docs/first-steps.md", folder))


@pytest.fixture(scope="session")
def web_run(first_steps, tmp_path_factory):
    """The run of the first steps, with completed captions. Read only."""
    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(first_steps.folder / "runs" / "clipart", folder / "run")
    pipeline = yaml.safe_load((ROOT / "pipelines" / "quickstart.yaml").read_text())
    pipeline["input"]["path"] = str(first_steps.folder / pipeline["input"]["path"])
    pipeline["output"] = "run"
    pipeline["stages"].append({"caption": {"when": "noise_prob > 0.1", "margin": 0, "accept_quantile": 0}})
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    run(["curate", "run", "pipeline.yaml", "--quiet"], folder)
    return folder / "run"


@pytest.fixture
def reader(web_run, tmp_path):
    """A folder with the finished run `runs/web`, and `tiny`, a model that trains in seconds."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "web").symlink_to(web_run)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL_CONFIG}))
    return tmp_path
