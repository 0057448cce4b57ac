"""A small corpus with a meaning: drawn shapes and captions that say what they show."""

import io
import json
import random
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 60),
    "blue": (40, 60, 220),
    "yellow": (240, 220, 40),
    "black": (10, 10, 10),
    "purple": (140, 40, 160),
}
SHAPES = ("circle", "square", "triangle", "cross")


def draw(colour: str, shape: str, rng: random.Random) -> bytes:
    """PNG bytes of one shape somewhere on a light ground."""
    ground = rng.randrange(200, 256)
    image = Image.new("RGB", (48, 48), (ground, ground, rng.randrange(200, 256)))
    pen = ImageDraw.Draw(image)
    x, y, size = rng.randrange(2, 14), rng.randrange(2, 14), rng.randrange(18, 32)
    box = (x, y, x + size, y + size)
    fill = COLOURS[colour]
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=fill)
    else:
        pen.line(box, fill=fill, width=6)
        pen.line((x + size, y, x, y + size), fill=fill, width=6)
    return png(image)


def png(image: Image.Image) -> bytes:
    """The image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_pairs(count: int, seed: int = 0) -> list[tuple[bytes, str]]:
    """Images with captions that fit them."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        words = rng.choice(["a {} {}", "one {} {} on a light ground", "the {} {}", "drawing of a {} {}"])
        pairs.append((draw(colour, shape, rng), words.format(colour, shape)))
    return pairs


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """One plain member with no time or owner."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A tar with these members in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add_member(tar, name, data)
    return path


def write_corpus(folder: Path, count: int = 160, shard_size: int = 40, seed: int = 0) -> Path:
    """img2dataset-layout shards of drawn shapes; returns the folder."""
    pairs = make_pairs(count, seed)
    for shard, first in enumerate(range(0, count, shard_size)):
        members = []
        for number, (image, caption) in enumerate(pairs[first : first + shard_size], first):
            key = f"{number:09d}"
            members += [
                (f"{key}.png", image),
                (f"{key}.txt", caption.encode()),
                (f"{key}.json", json.dumps({"key": key, "caption": caption}).encode()),
            ]
        write_shard(folder / f"{shard:05d}.tar", members)
    return folder
