"""What is run under disturbance: a small corpus of drawn pairs with some damage, tiny towers, and pipelines."""

from __future__ import annotations

import io
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from PIL import Image, ImageDraw

from curate.bench.chaos.towers import MODEL_FILE, WEIGHTS_FILE
from curate.corpora.tar_writer import write_tar

SHARDS = 4
SHARD_PAIRS = 40
PART_ROWS = 25
DISTURBED_SHARD = "00001.tar"
"""The shard that vanishes, changes or is cut off."""
CUT_BYTES = 4_000
"""How much of its end a cut shard loses: some pairs, and not a part of its own."""
WEB_SHARDS = 3
"""How many shards' pairs are on the web server: enough for a noise fit, which needs 100 pairs."""

Variant: TypeAlias = Literal["as_written", "changed", "cut", "downloaded", "short"]
"""What a run ends on: the corpus, the corpus with a changed or a cut shard, pictures from the web, or the corpus with
fewer steps, for runs on Ray, which starts processes anew for every step."""

_Members: TypeAlias = "list[tuple[str, bytes]]"

_COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
_SHAPES = ("circle", "square", "triangle", "cross")
_PHRASES = ("a {} {}", "one {} {} on a light ground", "the {} {}", "drawing of a {} {}")
_PICTURE_SIZE = 48


@dataclass(frozen=True)
class Setting:
    """Where the inputs of all trials lie. Nobody changes them: a trial that changes its input has a copy.

    Attributes:
        folder: of the bench.
    """

    folder: Path

    @property
    def corpus(self) -> Path:
        """Folder of the shards."""
        return self.folder / "corpus"

    @property
    def web(self) -> Path:
        """Folder that the web server serves, and the table of its addresses."""
        return self.folder / "web"

    def changed_shard(self, variant: Variant) -> Path:
        """What `DISTURBED_SHARD` is replaced by."""
        return self.folder / f"{variant}.tar"

    def copy_corpus(self, target: Path, variant: Variant) -> None:
        """A corpus of one's own, of this variant."""
        shutil.copytree(self.corpus, target)
        if variant in ("changed", "cut"):
            shutil.copy2(self.changed_shard(variant), target / DISTURBED_SHARD)

    def write_pipeline(self, file: Path, corpus: str, output: str, variant: Variant) -> None:
        """A pipeline over a folder or bucket of shards, or over pictures of the web.

        It has every step but where it is to be short.
        """
        file.write_text(yaml.safe_dump(self._pipeline(corpus, output, variant)), encoding="utf-8")

    def _pipeline(self, corpus: str, output: str, variant: Variant) -> dict[str, Any]:
        source: dict[str, Any] = {"path": f"{corpus}/*.tar", "part_rows": PART_ROWS}
        if variant == "downloaded":
            source |= {
                "format": "urls",
                "path": str(self.web / "pairs.jsonl"),
                # The server is on loopback, which nothing is fetched from otherwise.
                "download": {"allow_private": True, "retries": 0, "threads": 4},
            }
        # The towers know nothing: nothing would be learned from trusted pairs alone.
        last_stages: list[dict[str, Any]] = [
            {"concepts": {"min_documents": 2, "trusted_below": 1.0}},
            {"caption": {"when": "noise_rank > 0.3", "decoder": "consensus", "trusted_below": 1.0}},
        ]
        return {
            "input": source,
            "output": output,
            "encoder": {
                "model": str(self.folder / MODEL_FILE),
                "pretrained": str(self.folder / WEIGHTS_FILE),
                "precision": "fp32",
                "device": "cpu",
                "batch_size": 32,
            },
            "stages": [
                "embed",
                {"noise": {"folds": 2, "rounds": 1, "itc_epochs": 1}},
                *(last_stages if variant != "short" else ()),
            ],
        }


def make_setting(folder: Path, port: int) -> Setting:
    """Write corpus and web pages; the towers are written by `curate.bench.chaos.towers`.

    Args:
        folder: of the bench.
        port: of the web server, which stands in the addresses.

    Raises:
        OSError: the folder cannot be written.
    """
    setting = Setting(folder)
    shards = [_members(_pairs(shard)) for shard in range(SHARDS)]
    for number, members in enumerate(shards):
        write_tar(setting.corpus / f"{number:05d}.tar", _damaged(members) if number == 0 else members)
    _cut(setting.corpus / f"{SHARDS - 1:05d}.tar", setting.corpus / f"{SHARDS - 1:05d}.tar")
    write_tar(setting.changed_shard("changed"), _members([*_pairs(1)[:5], *_pairs(SHARDS)[5:]]))
    _cut(setting.corpus / DISTURBED_SHARD, setting.changed_shard("cut"))
    _write_web(setting.web, port)
    return setting


def _pairs(shard: int) -> list[tuple[str, bytes, str]]:
    """Key, picture and caption of a shard's pairs."""
    rng = random.Random(shard)
    pairs = []
    for row in range(SHARD_PAIRS):
        colour, shape = rng.choice(list(_COLOURS)), rng.choice(_SHAPES)
        caption = rng.choice(_PHRASES).format(colour, shape)
        pairs.append((f"{shard * SHARD_PAIRS + row:09d}", _drawn(colour, shape, rng), caption))
    return pairs


def _drawn(colour: str, shape: str, rng: random.Random) -> bytes:
    """PNG of one shape somewhere on a light ground."""
    ground = rng.randrange(200, 256)
    image = Image.new("RGB", (_PICTURE_SIZE, _PICTURE_SIZE), (ground, ground, rng.randrange(200, 256)))
    pen, fill = ImageDraw.Draw(image), _COLOURS[colour]
    x, y, size = rng.randrange(2, 14), rng.randrange(2, 14), rng.randrange(18, 32)
    box = (x, y, x + size, y + size)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=fill)
    else:
        pen.line(box, fill=fill, width=6)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _members(pairs: list[tuple[str, bytes, str]]) -> _Members:
    return [
        member
        for key, picture, caption in pairs
        for member in ((f"{key}.png", picture), (f"{key}.txt", caption.encode()))
    ]


def _damaged(members: _Members) -> _Members:
    """A broken picture, an empty caption, one that is not UTF-8, no picture, and a key that comes twice."""
    broken = dict(members)
    keys = list(dict.fromkeys(name.partition(".")[0] for name in broken))
    broken[f"{keys[3]}.png"] = broken[f"{keys[3]}.png"][:60]
    broken[f"{keys[7]}.txt"] = b""
    broken[f"{keys[11]}.txt"] = b"caf\xe9"
    del broken[f"{keys[15]}.png"]
    return [*broken.items(), (f"{keys[20]}.png", broken[f"{keys[21]}.png"]), (f"{keys[20]}.txt", b"a key twice")]


def _cut(shard: Path, target: Path) -> None:
    """A shard that ends in the middle of a picture."""
    target.write_bytes(shard.read_bytes().rstrip(b"\0")[:-CUT_BYTES])


def _write_web(folder: Path, port: int) -> None:
    folder.mkdir(exist_ok=True)
    lines = []
    for shard in range(WEB_SHARDS):
        for key, picture, caption in _pairs(shard):
            (folder / f"{key}.png").write_bytes(picture)
            lines.append(json.dumps({"url": f"http://127.0.0.1:{port}/{key}.png", "caption": caption, "key": key}))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
