"""A run in which every limit is hit: exactly these pairs are marked, and all others are what they would be anyhow."""

from __future__ import annotations

import tarfile

import pandas as pd
import pytest

from tests.conftest import Pipeline
from tests.corpus import add_member, make_pairs
from tests.decoding.pictures import png, slow_jpeg

SOUND = {f"{number:03d}": pair for number, pair in enumerate(make_pairs(6, seed=5))}
LIMITS = {
    "max_image_pixels": 48 * 48,
    "max_image_bytes": 30_000_000,
    "max_caption_characters": 40,
    "max_decode_seconds": 0.3,
    "max_members": 20,
}
HIT = {
    "000-pixels": (png(48, 49), "a wide thing", "image_too_large"),
    "001-bytes": (bytes(30_000_001), "a heavy thing", "image_too_large"),
    "002-caption": (SOUND["000"][0], "word " * 9, "caption_too_long"),
    "003-time": (slow_jpeg(400), "a slow thing", "decode_timeout"),
}
BEYOND = {"900": SOUND["001"], "901": SOUND["002"]}
COLUMNS = ["caption", "status", "error", "image_embedding", "text_embedding", "width", "height", "image_sha256"]


def write_tar(folder, pairs):
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for key, (image, caption) in pairs.items():
            add_member(tar, f"{key}.png", image)
            add_member(tar, f"{key}.txt", caption.encode())
    return folder


def limited(shards, output, encoder):
    made = Pipeline(shards, output, encoder, stages=["embed"])
    made.raw["input"].update(LIMITS)
    return made


def embedded(pipeline):
    return pd.read_parquet(pipeline.output / "embed").set_index("key")


def same(one, other):
    return all(
        list(a) == list(b) if hasattr(a, "__len__") else a == b or a is b for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_encoder):
    """A run that hits every limit, and one over its sound pairs alone, without limits."""
    folder = tmp_path_factory.mktemp("limits")
    hit = {key: (image, caption) for key, (image, caption, _) in HIT.items()}
    all_limits = limited(
        write_tar(folder / "hit", dict(sorted({**SOUND, **hit}.items())) | BEYOND), folder / "run", tiny_encoder
    )
    free = Pipeline(write_tar(folder / "sound", SOUND), folder / "free", tiny_encoder, stages=["embed"])
    all_limits.run()
    free.run()
    return all_limits, free


def test_exactly_the_pairs_that_hit_a_limit_are_marked(runs):
    hit, free = (embedded(run) for run in runs)
    assert dict(hit.status) == {**dict.fromkeys(SOUND, "ok"), **{key: status for key, (_, _, status) in HIT.items()}}
    assert all(same(hit.loc[key, COLUMNS], free.loc[key, COLUMNS]) for key in SOUND)
    names = ["max_image_pixels", "max_image_bytes", "max_caption_characters", "max_decode_seconds"]
    assert all(f"input.{name}" in hit.error[key] for key, name in zip(HIT, names, strict=True))


def test_a_caption_that_is_too_long_is_kept_whole_but_not_embedded(runs):
    row = embedded(runs[0]).loc["002-caption"]
    assert row.caption == HIT["002-caption"][1]
    assert row.text_embedding is None
    assert list(row.image_embedding) == list(embedded(runs[1]).loc["000"].image_embedding)


def test_what_lies_beyond_the_limit_of_members_is_told_in_shard_errors(runs):
    errors = pd.read_parquet(runs[0].output / "shard_errors.parquet")
    assert len(errors) == 1
    assert "input.max_members = 20" in errors.error[0]
    assert not set(BEYOND) & set(embedded(runs[0]).index)


def test_a_second_run_does_nothing_and_another_limit_reads_again(runs, tmp_path):
    assert not runs[0].run().parts
    copy = runs[0].copied_to(tmp_path)
    copy.raw["input"]["max_caption_characters"] = 45
    copy.run()
    assert embedded(copy).loc["002-caption", "status"] == "ok"


def test_limits_as_they_are_anyhow_change_no_fingerprint(runs, tmp_path):
    copy = runs[1].copied_to(tmp_path)
    copy.raw["input"].update(
        max_image_bytes=256 << 20, max_caption_characters=1_000_000, max_members=3_000_000, max_decode_seconds=60
    )
    assert not copy.run().parts


def test_other_limits_change_the_fingerprint(runs, tmp_path):
    copy = runs[1].copied_to(tmp_path)
    copy.raw["input"]["max_decode_seconds"] = 61
    assert ("embed", 0) in copy.run().parts
