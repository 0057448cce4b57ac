"""A corpus as large as wanted, and towers so small that its size is all that costs."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from curate.corpora.tar_writer import write_tar

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SIDE = 32
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    # The vocabulary is that of open_clip's tokenizer.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
}


def tiny_towers(folder: Path) -> tuple[str, str]:
    """Config and checkpoint of towers that embed thousands of pairs a second on one core."""
    folder.mkdir(parents=True, exist_ok=True)
    config, checkpoint = folder / "tiny.json", folder / "tiny.safetensors"
    config.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}), encoding="utf-8")
    if not checkpoint.is_file():
        _write_weights(checkpoint)
    return str(config), str(checkpoint)


def _write_weights(checkpoint: Path) -> None:
    """Larger ones than training begins with: those would give all pictures and all captions nearly one embedding."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    partial = checkpoint.with_suffix(".partial")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(TINY)))
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=1.0 if "embedding" in name else 2 * weight.shape[-1] ** -0.5)
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, partial)
    partial.replace(checkpoint)


def write_drawn_corpus(folder: Path, rows: int, shard_rows: int) -> str:
    """Pictures of blocks that tend to one colour, every one different, and captions that name the colour.

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
        pattern = random.integers(0, 256, (4, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
        pixels = ((pattern + np.array(COLOURS[name])) // 2).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        yield buffer.getvalue(), f"a {name} thing, number {number}".encode()
