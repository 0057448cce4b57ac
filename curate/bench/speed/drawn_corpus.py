"""A corpus as large as wanted, and towers so small that its size is all that costs."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from curate.bench.speed.workload import random_towers
from curate.corpora.tar_writer import write_tar

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SIDE = 32
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    # The vocabulary is that of open_clip's tokenizer.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def tiny_towers(folder: Path) -> tuple[str, str]:
    """Config and checkpoint of towers that embed thousands of pairs a second on one core."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "tiny.json"
    config.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}), encoding="utf-8")
    written, checkpoint = random_towers(str(config), folder)
    return str(written), str(checkpoint)


def write_drawn_corpus(folder: Path, rows: int, shard_rows: int) -> str:
    """Pictures of one colour with noise in it, every one different, and captions that name the colour.

    Returns:
        The glob of its tars.
    """
    pairs = _drawn_pairs(rows)
    for shard, start in enumerate(range(0, rows, shard_rows)):
        members = [
            (f"{start + number:09d}.{kind}", content)
            for number, pair in enumerate(itertools.islice(pairs, shard_rows))
            for kind, content in zip(("png", "txt"), pair, strict=True)
        ]
        write_tar(folder / f"{shard:06d}.tar", members)
    return str(folder / "*.tar")


def _drawn_pairs(rows: int) -> Iterator[tuple[bytes, bytes]]:
    random, names = np.random.default_rng(0), list(COLOURS)
    for number in range(rows):
        name = names[int(random.integers(len(names)))]
        noise = random.integers(-20, 21, (8, 8, 3))
        pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        yield buffer.getvalue(), f"a {name} thing, number {number}".encode()
