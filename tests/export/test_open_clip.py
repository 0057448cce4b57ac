"""What to type for open_clip says where the shards are, how they are drawn, and which captions they have."""

import shlex
from pathlib import Path

import pytest

from curate.export.open_clip import DEFAULT_WORKERS, training_options
from curate.export.webdataset import ExportedShards, ShardGroup


def group(prefix, shards, weight=None):
    sizes = {f"{prefix}{number:05d}.tar": 10 for number in range(shards)}
    pattern = f"{prefix}{{00000..{shards - 1:05d}}}.tar" if shards > 1 else f"{prefix}00000.tar"
    return ShardGroup(pattern, sizes, weight)


def options(shards, folder="kept"):
    words = shlex.split(" ".join(training_options(Path(folder), shards)))
    names = [place for place, word in enumerate(words) if word.startswith("--")]
    return {words[a]: words[a + 1 : b] for a, b in zip(names, [*names[1:], len(words)], strict=True)}


def test_all_shards_are_named_by_one_pattern():
    assert options(ExportedShards((group("", 12),))) == {"--train-data": ["kept/{00000..00011}.tar"]}
    assert options(ExportedShards((group("", 12),)), "my data")["--train-data"] == ["my data/{00000..00011}.tar"]


def test_there_are_no_more_workers_than_shards():
    assert options(ExportedShards((group("", 1),)))["--workers"] == ["1"]
    assert "--workers" not in options(ExportedShards((group("", DEFAULT_WORKERS),)))


def test_each_group_has_its_weight():
    found = options(ExportedShards((group("g0-", 2, 0.98765), group("g7-", 1, 0.00003))))
    assert found == {
        "--train-data": ["kept/g0-{00000..00001}.tar::kept/g7-00000.tar"],
        "--dataset-resampled": [],
        "--train-data-upsampling-factors": ["0.9877::3e-05"],
    }


def test_both_captions_are_mixed_as_often_as_the_run_says():
    found = options(ExportedShards((group("", 12),), p_completed=0.9306))
    assert found["--json-text-key"] == ["completed_caption;caption"]
    assert [float(chance) for chance in found["--json-text-key-probs"]] == pytest.approx([0.931, 0.069])
