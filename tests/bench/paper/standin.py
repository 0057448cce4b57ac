"""A few dozen drawn pictures in the papers' own file formats."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.corpus import COLOURS, SHAPES, draw

TRAIN, RESTVAL, DEV, TEST = 40, 6, 10, 20


def five_captions(colour, shape, number):
    return [
        f"A {colour} {shape}.",
        f"One {colour} {shape} on a light ground",
        f"the  {shape} is\n {colour} ",
        f"drawing of a {colour} {shape}",
        f"picture {number}: a {shape}, {colour}",
    ]


def write_karpathy(folder: Path, name="flickr30k", restval=RESTVAL) -> Path:
    """`dataset_NAME.json` and images; for COCO with its folders, its ids and a sixth caption here and there."""
    coco = name == "coco"
    rng = random.Random(4)
    parts = ["train"] * TRAIN + ["restval"] * (restval if coco else 0) + ["val"] * DEV + ["test"] * TEST
    rng.shuffle(parts)
    images = []
    for number, part in enumerate(parts):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        below = ("train2014" if part == "train" else "val2014") if coco else ""
        entry = {
            "split": part,
            "filename": f"{1000 + number}.png",
            "imgid": number,
            "sentids": [5 * number + k for k in range(5)],
            "sentences": [{"raw": caption, "imgid": number} for caption in five_captions(colour, shape, number)],
        }
        if coco:
            entry |= {"filepath": below, "cocoid": 7000 + number}
            entry["sentences"] += [{"raw": "a sixth caption", "imgid": number}] * (number % 2)
        images.append(entry)
        file = folder / "images" / below / entry["filename"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(draw(colour, shape, rng))
    (folder / f"dataset_{name}.json").write_text(json.dumps({"images": images, "dataset": name}))
    return folder


def write_scan(folder: Path, name="flickr30k", repeated=False) -> Path:
    """SCAN's lists beside Karpathy's JSON, in an order of their own; `repeated`: an id for every caption."""
    content = json.loads((folder / f"dataset_{name}.json").read_text())
    key = "cocoid" if name == "coco" else "imgid"
    parts = {"train": ("train", "restval"), "dev": ("val",), "testall" if name == "coco" else "test": ("test",)}
    below = folder / ("coco_precomp" if name == "coco" else "f30k_precomp")
    below.mkdir()
    for stem, splits in parts.items():
        chosen = [image for image in reversed(content["images"]) if image["split"] in splits]
        captions = [f"{' '.join(s['raw'].split())} ." for image in chosen for s in image["sentences"][:5]]
        ids = [str(image[key]) for image in chosen for _ in range(5 if repeated else 1)]
        (below / f"{stem}_caps.txt").write_text("\n".join(captions) + "\n")
        (below / f"{stem}_ids.txt").write_text("\n".join(ids) + "\n")
    return below


def write_cc152k(folder: Path, train=120) -> Path:
    """`*_caps.tsv` and images named by id; the first image of the training part was never fetched."""
    rng = random.Random(5)
    (folder / "images").mkdir(parents=True)
    for part, count in (("train", train), ("dev", DEV), ("test", TEST)):
        lines = []
        for number in range(count):
            colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
            name = f"{number}_{part}"
            lines.append(f"{name}\ta {colour} {shape} , number {number}\n")
            if (part, number) != ("train", 0):
                (folder / "images" / f"{name}.png").write_bytes(draw(colour, shape, rng))
        (folder / f"{part}_caps.tsv").write_text("".join(lines))
    return folder
