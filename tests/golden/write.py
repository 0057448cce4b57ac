"""Writes a small complete run: `python -m tests.golden.write FOLDER`, with the code whose format is to be kept.

The runs in this folder are never written again: what an earlier version left stays readable. A new format gets a new
folder. `_state` is left out, as it is of the machine that ran.
"""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curate.execution import LocalRunner, execute
from curate.monitor import Monitor
from curate.plan import make_plan
from tests.conftest import Pipeline
from tests.corpus import write_corpus
from tests.tiny import tiny_model

STAGES: list[Any] = [
    "embed",
    {"noise": {"signals": ["clip_similarity"], "folds": 2, "rounds": 1, "itc_epochs": 1}},
    {"refine": {"rounds": 1, "epochs": 1, "trusted_below": 0.9997}},
    {"concepts": {"min_documents": 2, "trusted_below": 0.9997}},
    {
        "caption": {
            "decoder": "nearest",
            "when": "noise_rank > 0.3",
            "trusted_below": 0.9997,
            "margin": 0,
            "accept_quantile": 0,
        }
    },
]


def golden_pipeline(inputs: Path, run: Path) -> Pipeline:
    """The pipeline of the complete run over its corpus and towers, which are made in the folder `inputs`."""
    shards = write_corpus(inputs / "shards", count=120, shard_size=60)
    made = Pipeline(shards, run, asdict(tiny_model(inputs / "tiny")), stages=STAGES)
    made.raw["input"]["part_rows"] = 40
    return made


def write(folder: Path) -> None:
    """Leave the run, without its `_state`, in a folder that is not there yet."""
    with TemporaryDirectory() as inputs:
        made = golden_pipeline(Path(inputs), folder)
        runner = LocalRunner(2)
        execute(make_plan(made.config(), runner.index), runner, Monitor())
    shutil.rmtree(folder / "_state")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
