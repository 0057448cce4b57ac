"""Peers: other projects' tools on the same images, each in its own environment, driven by its own interpreter."""

from __future__ import annotations

import json
from pathlib import Path

from curate.bench.speed.child import ChildCommand, driver_child
from curate.bench.speed.workload import Workload, write_workload

PEERS = {"clip_retrieval": "drive_clip_retrieval.py", "data_juicer": "drive_data_juicer.py"}
"""Driver script of each."""


def peer_child(name: str, python: Path, work: Workload, images: int, folder: Path) -> ChildCommand:
    """The first `images` pairs of the workload per measurement, by the same architecture with random weights."""
    share = _first(work, images, folder)
    given = {
        "shards": share.shards,
        "images": images,
        "model": Path(work.model).stem,
        "model_config": json.loads(Path(work.model).read_text(encoding="utf-8"))["model_cfg"],
        "checkpoint": work.checkpoint,
        "folder": str(folder / f"peer-{name}"),
    }
    return driver_child(name, python, PEERS[name], given)


def _first(work: Workload, images: int, folder: Path) -> Workload:
    towers = (work.model, work.checkpoint, work.device)
    return write_workload([work.shards], 0, images, images, towers, folder / "peers")
