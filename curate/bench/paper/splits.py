"""The data sets of the noisy correspondence papers, as they are published: which caption belongs to which image.

Three layouts are read, see docs/paper.md: Karpathy's JSON; the `*_caps.txt` and `*_ids.txt` of SCAN's precomputed
features, in whose order published noise indices count; and the `*_caps.tsv` of NCR's CC152K.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError

DatasetName: TypeAlias = Literal["flickr30k", "coco", "cc152k"]
Order: TypeAlias = Literal["karpathy", "scan", "ncr"]
Images: TypeAlias = NDArray[np.int64]

CAPTIONS_PER_IMAGE = 5
DEV_IMAGES = 1000
"""The papers choose their epoch on the first so many images of the development split."""

_JSON = {"flickr30k": "dataset_flickr30k.json", "coco": "dataset_coco.json"}
# Karpathy's names for the parts; the papers train on COCO's `restval` too.
_PARTS = {"train": ("train", "restval"), "dev": ("val",), "test": ("test",)}
# SCAN's ids are `imgid` for Flickr30K and `cocoid` for COCO; COCO's test_* is the first thousand, testall_* all.
_SCAN_ID = {"flickr30k": "imgid", "coco": "cocoid"}
_SCAN_FOLDER = {"flickr30k": "f30k_precomp", "coco": "coco_precomp"}
_SCAN_TEST = {"flickr30k": "test", "coco": "testall"}
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        images: files of the images, each once.
        captions: in the published order.
        image_of: which image each caption belongs to, int64 [captions].
    """

    images: tuple[Path, ...]
    captions: tuple[str, ...]
    image_of: Images

    def take_images(self, rows: NDArray[np.intp]) -> Split:
        """Only some of the images, with their captions, in the same order."""
        place = np.full(len(self.images), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = np.nonzero(place[self.image_of] >= 0)[0]
        return Split(
            tuple(self.images[row] for row in rows),
            tuple(self.captions[row] for row in kept),
            place[self.image_of[kept]],
        )


@dataclass(frozen=True)
class PaperDataset:
    """A published data set.

    Attributes:
        name: which one.
        order: whose order images and captions stand in; published noise indices count in that of SCAN (CC152K: NCR).
        train, dev, test: its parts.
    """

    name: DatasetName
    order: Order
    train: Split
    dev: Split
    test: Split


def read_dataset(name: DatasetName, folder: Path) -> PaperDataset:
    """Read a data set's lists; no image is opened.

    Args:
        name: which data set.
        folder: holds the lists, and the images under `images`.

    Raises:
        InputError: a list is missing, broken, or names images that are not there.
    """
    order: Order
    if name == "cc152k":
        order, parts = "ncr", {part: _read_ncr(folder, part) for part in _PARTS}
    else:
        listed = _read_karpathy(folder / _JSON[name])
        scan = _scan_folder(name, folder)
        if scan is None:
            order, parts = "karpathy", {part: _split_of_json(listed, part, folder) for part in _PARTS}
        else:
            order, parts = "scan", {part: _read_scan(name, scan, part, listed, folder) for part in _PARTS}
    dev = parts["dev"].take_images(np.arange(min(DEV_IMAGES, len(parts["dev"].images))))
    return PaperDataset(name, order, train=parts["train"], dev=dev, test=parts["test"])


@dataclass(frozen=True)
class _Listed:
    """An image of Karpathy's JSON."""

    part: str
    file: str
    folder: str
    ids: dict[str, int]
    captions: tuple[str, ...]


def _read_karpathy(file: Path) -> list[_Listed]:
    content = _read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{file}: has no list 'images'. It must be Karpathy's file, as published.")
    return [_listed(entry, f"{file}: images[{number}]") for number, entry in enumerate(entries)]


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file. docs/paper.md says what --path must hold.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {error}") from None


def _listed(entry: Any, where: str) -> _Listed:
    try:
        captions = tuple(" ".join(str(sentence["raw"]).split()) for sentence in entry["sentences"])
        ids = {name: int(entry[name]) for name in ("imgid", "cocoid") if name in entry}
        folder = str(entry.get("filepath", ""))
        made = _Listed(str(entry["split"]), str(entry["filename"]), folder, ids, captions)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where}: must have split, filename, and sentences with raw, as Karpathy's files do ({error!r})"
        ) from None
    if len(captions) < CAPTIONS_PER_IMAGE:
        raise InputError(f"{where}: {made.file} has {len(captions)} captions; the protocol takes the first 5 of each")
    return made


def _split_of_json(listed: Sequence[_Listed], part: str, folder: Path) -> Split:
    chosen = [image for image in listed if image.part in _PARTS[part]]
    captions = [caption for image in chosen for caption in image.captions[:CAPTIONS_PER_IMAGE]]
    return _split(
        [_image_file(folder, image.file, image.folder) for image in chosen],
        captions,
        np.arange(len(captions)) // CAPTIONS_PER_IMAGE,
        f"{folder}: {part}",
    )


def _scan_folder(name: DatasetName, folder: Path) -> Path | None:
    for candidate in (folder, folder / _SCAN_FOLDER[name]):
        if (candidate / "train_caps.txt").is_file():
            return candidate
    return None


def _read_scan(name: DatasetName, scan: Path, part: str, listed: Sequence[_Listed], folder: Path) -> Split:
    """SCAN's lists: five lines of `*_caps.txt` for each image of `*_ids.txt`, which may be repeated five times."""
    stem = _SCAN_TEST[name] if part == "test" else part
    captions = list(_lines(scan / f"{stem}_caps.txt"))
    file, ids = scan / f"{stem}_ids.txt", list(_lines(scan / f"{stem}_ids.txt"))
    each = CAPTIONS_PER_IMAGE
    if len(ids) == len(captions):
        repeated = [number for number in range(len(ids)) if ids[number] != ids[number - number % each]]
        if repeated:
            raise InputError(f"{file}:{repeated[0] + 1}: the ids of one image must stand five times in a row")
        ids = ids[::each]
    if len(ids) * each != len(captions):
        raise InputError(
            f"{file}: {len(ids)} images, but {len(captions)} captions in {stem}_caps.txt: there must be 5 for each"
        )
    by_id = {image.ids[_SCAN_ID[name]]: image for image in listed if _SCAN_ID[name] in image.ids}
    chosen = []
    for number, text in enumerate(ids):
        if not text.isdigit() or int(text) not in by_id:
            raise InputError(
                f"{file}: image {number + 1}: no image of {_JSON[name]} has the {_SCAN_ID[name]} '{text}'"
            )
        chosen.append(by_id[int(text)])
    files = [_image_file(folder, image.file, image.folder) for image in chosen]
    return _split(files, captions, np.arange(len(captions)) // each, f"{scan}: {part}")


def _read_ncr(folder: Path, part: str) -> Split:
    """CC152K: a line is the image's id, a tab and the caption; images are `images/ID.jpg`. Missing ones stay out."""
    names = (f"{part}_caps.tsv", f"{part}_caps_img_urls.csv")
    file = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    try:
        rows = list(csv.reader(_lines(file), delimiter="\t"))
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as tab-separated lines: {error}") from None
    short = [number for number, row in enumerate(rows) if len(row) < 2]
    if short:
        raise InputError(f"{file}:{short[0] + 1}: must be an image id, a tab and a caption")
    found = [(_found(folder / "images", row[0].strip()), row[1].strip()) for row in rows]
    pairs = [(image, caption) for image, caption in found if image is not None]
    if not pairs:
        raise InputError(f"{folder / 'images'}: holds none of the {len(rows):,} images of {file.name} (ID.jpg)")
    images, captions = zip(*pairs, strict=True)
    return _split(images, captions, np.arange(len(captions)), f"{folder}: {part}")


def _found(folder: Path, name: str) -> Path | None:
    """The image of that name in the folder, of any format. A name from a list never leads out of the folder."""
    return next((file for suffix in _IMAGE_SUFFIXES if (file := folder / (Path(name).name + suffix)).is_file()), None)


def _image_file(folder: Path, file: str, subfolder: str) -> Path:
    """Where an image is. A name from the list never leads out of the folder.

    Raises:
        InputError: it is in none of the usual places.
    """
    name, below = Path(file).name, Path(subfolder).name
    places = [folder / "images" / below / name, folder / "images" / name, folder / below / name]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{places[0]}: no such image (nor {places[1]}). docs/paper.md says where images must be.")


def _lines(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file. docs/paper.md says what --path must hold.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text: {error}") from None
    # Only line feeds end a line: captions of the web hold other separators that splitlines would follow.
    return (line.strip() for line in text.removesuffix("\n").split("\n"))


def _split(images: Iterable[Path], captions: Iterable[str], image_of: NDArray[Any], where: str) -> Split:
    made = Split(tuple(images), tuple(captions), image_of.astype(np.int64))
    if not made.captions:
        raise InputError(f"{where}: this part is empty")
    return made
