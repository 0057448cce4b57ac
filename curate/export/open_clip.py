"""What to type to train with open_clip on exported shards."""

from __future__ import annotations

import shlex
from pathlib import Path

from curate.export.webdataset import ExportedShards

DEFAULT_WORKERS = 4
"""open_clip's own: it refuses fewer shards than workers, unless it draws shards by weight."""


def training_options(folder: Path, shards: ExportedShards) -> list[str]:
    """Options of `python -m open_clip_train.main` that say where the data are and how they are drawn, for a shell.

    Args:
        folder: where the shards are.
        shards: what was written there, at least one pair.

    Returns:
        One option with its value each. `--json-text-key` and `--json-text-key-probs`, there with both captions, are
        known to open_clip after 3.3.0: captions are put in a random order by the probabilities, which hold for all
        pairs alike, and the first that is not empty is taken.
    """
    places = "::".join(str(folder / group.pattern) for group in shards.groups)
    options = [f"--train-data {shlex.quote(places)}"]
    if len(shards.sizes) < DEFAULT_WORKERS and shards.groups[0].weight is None:
        options.append(f"--workers {len(shards.sizes)}")
    weights = [group.weight for group in shards.groups if group.weight is not None]
    if weights:
        factors = "::".join(f"{weight:.4g}" for weight in weights)
        options.append(f"--dataset-resampled --train-data-upsampling-factors {shlex.quote(factors)}")
    if shards.p_completed is not None:
        chance = f"{shards.p_completed:.3f} {1 - shards.p_completed:.3f}"
        options.append(f"--json-text-key 'completed_caption;caption' --json-text-key-probs {chance}")
    return options
