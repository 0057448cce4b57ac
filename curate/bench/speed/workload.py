"""What the throughput rows work on: the same pictures and captions for all, and towers with random weights."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate.corpora.tar_writer import write_tar
from curate.errors import CurateError, InputError
from curate.sources import open_source
from curate.sources.options import SourceOptions
from curate.stages.decode import decode_upright

JPEG_QUALITY = 90
DRAWN_SIDE = 640
DRAWN = 500
"""Different pictures that are drawn at most; then they repeat."""
_READ_ROWS = 64
_MAX_PIXELS = 40_000_000


@dataclass(frozen=True)
class Workload:
    """A corpus on disk and the towers that it is embedded with.

    Attributes:
        shards: glob of the tars.
        images: pairs in all of them.
        part_rows: pairs of one tar.
        image_size: longest side in pixels; 0: as they came.
        model: path of an open_clip config.
        checkpoint: path of its weights.
        device: auto, cpu or cuda.
    """

    shards: str
    images: int
    part_rows: int
    image_size: int
    model: str
    checkpoint: str
    device: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def pairs(self) -> tuple[list[bytes], list[str]]:
        """All images' bytes and captions, in order."""
        rows = list(_read(self.shards))
        return [image for image, _ in rows], [caption for _, caption in rows]


def write_workload(
    inputs: list[str], image_size: int, images: int, part_rows: int, towers: tuple[str, str, str], folder: Path
) -> Workload:
    """Write a corpus of exactly `images` pairs, repeating the inputs as often as needed.

    Args:
        inputs: globs of WebDataset tars; without any, pictures are drawn (coloured noise, coarse to fine).
        image_size: longest side in pixels, saved as JPEG of quality 90; 0 keeps the bytes as they are.
        images, part_rows: pairs in all, and in one tar.
        towers: config, checkpoint and device.
        folder: where it goes; pictures that lie there already are taken.

    Raises:
        InputError: the inputs have no usable pair.
    """
    pairs = _scaled(inputs, image_size)
    first = next(pairs, None)
    if first is None:
        raise InputError(f"--input {' '.join(inputs)}: there is not one picture with a caption")
    held = [first, *itertools.islice(pairs, images - 1)]
    corpus = folder / f"{image_size}-{images}-{part_rows}"
    for shard, start in enumerate(range(0, images, part_rows)):
        write_tar(corpus / f"{shard:05d}.tar", _members(held, range(start, min(start + part_rows, images))))
    return Workload(str(corpus / "*.tar"), images, part_rows, image_size, *towers)


def _members(held: list[tuple[bytes, str]], numbers: range) -> Iterator[tuple[str, bytes]]:
    for number in numbers:
        image, caption = held[number % len(held)]
        yield f"{number:09d}.jpg", image
        yield f"{number:09d}.txt", caption.encode()


def _scaled(inputs: list[str], image_size: int) -> Iterator[tuple[bytes, str]]:
    for image, caption in _read(*inputs) if inputs else _drawn():
        if not image_size:
            yield image, caption
            continue
        try:
            picture = decode_upright(image, _MAX_PIXELS)
        except CurateError:
            continue  # Damaged and huge originals are other benches' matter.
        yield as_jpeg(picture, image_size), caption


def as_jpeg(picture: Image.Image, side: int) -> bytes:
    """The picture as a JPEG whose longest side has `side` pixels."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _read(*globs: str) -> Iterator[tuple[bytes, str]]:
    source = open_source(SourceOptions(format="webdataset", path=globs))
    for shard in source.list_shards():
        for part in source.index(shard).parts:
            for batch in source.read(shard, part, _READ_ROWS):
                usable = zip(batch.column("image"), batch.column("caption").to_pylist(), strict=True)
                yield from ((image.as_py(), caption) for image, caption in usable if image.is_valid and caption)


def _drawn() -> Iterator[tuple[bytes, str]]:
    """Pictures of noise at several scales, which compress about as photographs do, and captions."""
    random = np.random.default_rng(0)
    for number in range(DRAWN):
        picture = Image.new("RGB", (DRAWN_SIDE, DRAWN_SIDE * 3 // 4))
        for cells, share in ((4, 1.0), (16, 0.5), (64, 0.25)):
            noise = random.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8)
            layer = Image.fromarray(noise).resize(picture.size, Image.Resampling.BICUBIC)
            picture = Image.blend(picture, layer, share)
        yield as_jpeg(picture, DRAWN_SIDE), f"a picture of coloured noise, number {number}"


def random_towers(model: str, folder: Path) -> tuple[Path, Path]:
    """An open_clip config and a checkpoint of seeded random weights, float32; taken from the folder if there.

    Args:
        model: name of an open_clip model, or path of a config.

    Returns:
        Config and checkpoint.

    Raises:
        InputError: there is no such model, or it is not of two plain Transformers.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    given = Path(model)
    content = _read_config(given) if given.is_file() else _named(model)
    if not _is_plain_clip(content["model_cfg"]):
        raise InputError(f"--model {model}: give a model of CLIP's own two Transformers, such as ViT-B-32 or ViT-L-14")
    folder.mkdir(parents=True, exist_ok=True)
    config, checkpoint = folder / f"{given.stem}.json", folder / f"{given.stem}.safetensors"
    config.write_text(json.dumps(content), encoding="utf-8")
    if not checkpoint.is_file():
        partial = folder / f".{given.stem}.partial"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = open_clip.CLIP(**json.loads(json.dumps(content["model_cfg"])))
        save_file({name: tensor.contiguous().clone() for name, tensor in made.state_dict().items()}, partial)
        partial.replace(checkpoint)
    return config, checkpoint


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--model {file}: cannot be read: {error}") from None
    if not isinstance(content, dict) or "model_cfg" not in content:
        raise InputError(f"--model {file}: is no open_clip config: it has no model_cfg")
    return content


def _is_plain_clip(model: dict[str, Any]) -> bool:
    """Whether peers can be given the same architecture."""
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    own = {"layers", "width", "patch_size", "image_size"} <= vision.keys() and {
        "layers",
        "width",
        "heads",
    } <= text.keys()
    return own and not model.get("custom_text") and isinstance(vision["layers"], int)


def _named(model: str) -> dict[str, Any]:
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        raise InputError(f"--model {model}: open_clip has no such model, and there is no such file")
    return {"model_cfg": config, "preprocess_cfg": {}}
