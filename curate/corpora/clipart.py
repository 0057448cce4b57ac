"""A real, naturally noisy image-text corpus out of three Debian packages, as img2dataset-like WebDataset shards."""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
import os
import re
import shutil
import struct
import subprocess
import tarfile
import threading
import time
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any, cast

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from curate.corpora.tar_writer import Progress, ignore_progress, write_bytes, write_tar
from curate.errors import CurateError, InputError

PNG_PACKAGE = "openclipart-png"
SVG_PACKAGE = "openclipart-svg"
STAMPS_PACKAGE = "tuxpaint-stamps-default"
PACKAGES = (PNG_PACKAGE, SVG_PACKAGE, STAMPS_PACKAGE)

CORPUS_FILE = "_corpus.json"
# Part of the recorded settings: raise it when a rule below changes what the corpus holds.
CORPUS_VERSION = 1

_CLIPART_PNG_FOLDER = "usr/share/openclipart/png"
_CLIPART_SVG_FOLDER = "usr/share/openclipart/svg"
_STAMPS_FOLDER = "usr/share/tuxpaint/stamps"
_PUBLIC_DOMAIN = "public domain"

_NO_CAPTION = "no usable caption"
_NO_TEXT_FILE = "image without a text file"
_NO_IMAGE = "text without a PNG image"

_MAX_PIXELS = 1 << 30
_BIG_IMAGE_PIXELS = 50_000_000
_STRIP_PIXELS = 4_000_000
# Before Lanczos an image is averaged down to at least this many times the wanted size: sharp, and cheap in memory.
_REDUCING_GAP = 3
_RESIZE_THREADS = 2
_PAIRS_IN_FLIGHT = 16


@dataclass(frozen=True)
class ClipartReport:
    """What `fetch_clipart` made or found.

    Attributes:
        pairs: image-text pairs in the corpus.
        shards: tar files in the corpus.
        pairs_by_package: pairs from each Debian package.
        package_versions: Debian version of each package.
        left_out: how many files did not become a pair, by reason.
        kept_undecodable: pairs that hold the original image bytes because these could not be decoded for resizing.
        shards_written: shards made by this call; the others were there already.
    """

    pairs: int
    shards: int
    pairs_by_package: Mapping[str, int]
    package_versions: Mapping[str, str]
    left_out: Mapping[str, int]
    kept_undecodable: int
    shards_written: int


def fetch_clipart(
    out: Path,
    *,
    image_size: int = 256,
    debs: Path | None = None,
    shard_size: int = 1000,
    progress: Progress = ignore_progress,
) -> ClipartReport:
    """Build the clipart corpus in a folder. Can be interrupted and called again; a complete corpus is left alone.

    Args:
        out: folder for 00000.tar, 00001.tar, ... and `_corpus.json`; downloads wait in `.cache` until all is done.
        image_size: longest side in pixels; larger images are shrunk, smaller ones kept as they are.
            0 keeps every file byte for byte.
        debs: folder with the three packages as .deb files; None downloads them with apt-get.
        shard_size: pairs in one tar.
        progress: called with (description, done, total); bytes while downloading, pairs afterwards.

    Raises:
        InputError: a setting is out of range, `out` holds something else, a tool or package is missing, or the
            download failed. The message says what to do.
        CurateError: a package cannot be unpacked or does not hold what it should.
    """
    if image_size < 0:
        raise InputError(f"image_size is {image_size}: give the longest side in pixels, or 0 for the original files")
    if shard_size < 1:
        raise InputError(f"shard_size is {shard_size}: give how many pairs go into one tar, at least 1")
    settings = _Settings(image_size, shard_size)
    record = _read_record(out, settings)
    if record is not None and record.is_complete(out):
        shutil.rmtree(out / ".cache", ignore_errors=True)
        return record.report(shards_written=0)

    cache = out / ".cache"
    found = _debs_in(debs) if debs is not None else _downloaded_debs(cache, progress)
    versions = {package: _deb_version(deb) for package, deb in found.items()}
    if record is not None:
        _refuse_other_versions(out, record, versions)
    started = _Record(settings, versions)
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / CORPUS_FILE, started.to_json())
    roots = _unpack(found, cache, progress)
    finished = _write_shards(out, started, _Package.all_from(roots, versions), progress)
    shutil.rmtree(cache, ignore_errors=True)
    return finished


def combine_caption(title: str | None, description: str | None) -> str | None:
    """One caption from a title and a description: the title, then the description if that adds anything.

    Entities (also doubly escaped ones) and HTML tags are resolved and white space is normalised. Text that says
    nothing about any picture (an e-mail or web address alone, `HASH(0x...)`, punctuation) counts as absent. Nothing
    else is judged: that captions are bad is what the corpus is for.

    Returns:
        None if neither says anything.
    """
    title, description = _meaningful(title), _meaningful(description)
    if title is None or description is None:
        return title or description
    title_words, description_words = _words(title), _words(description)
    if not {word for word in description_words if len(word) > 1} - set(title_words):
        return title
    if f" {' '.join(title_words)} " in f" {' '.join(description_words)} ":
        return description
    return f"{title}{' ' if title[-1] in '.!?:;,' else '. '}{description}"


@dataclass(frozen=True)
class SvgMetadata:
    """What an SVG file says about its own picture; None or empty where it says nothing."""

    title: str | None = None
    description: str | None = None
    keywords: tuple[str, ...] = ()
    language: str | None = None
    licence: str | None = None


def read_svg_metadata(svg: Path) -> SvgMetadata:
    """The first RDF Work of an SVG. Broken XML yields what stands before the break; external entities are not read."""
    parser: ET.XMLPullParser[Any] = ET.XMLPullParser(events=("end",))
    try:
        with svg.open("rb") as stream:
            while chunk := stream.read(1 << 16):
                parser.feed(chunk)
                work = _first_work(parser)
                if work is not None:
                    return _work_metadata(work)
    except _UNPARSABLE_XML:
        return SvgMetadata()
    return SvgMetadata()


# --- captions --------------------------------------------------------------------------------------------------------

# Broken XML, and an encoding declaration that Python does not know.
_UNPARSABLE_XML = (ET.ParseError, LookupError, ValueError)
_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EMAIL = re.compile(r"(\w+:\s*)?[\w.+-]+@[\w-]+(\.[\w-]+)+")
_URL = re.compile(r"(https?://|www\.)\S+")
_PERL_REFERENCE = re.compile(r"HASH\(0x[0-9a-f]+\)")
_MADE_WITH = re.compile(r"created with (the )?inkscape\.?( https?://\S+)?", re.IGNORECASE)
_SAYS_NOTHING = (_EMAIL, _URL, _PERL_REFERENCE, _MADE_WITH)
# "hash" is what a Perl script once left in place of keywords; "unsorted" is a folder for what has none.
_PLACEHOLDER_KEYWORD = re.compile(r"hash|0x[0-9a-f]+|unsorted")


def _first_work(parser: ET.XMLPullParser[Any]) -> ET.Element | None:
    for _, element in cast("Iterable[tuple[str, ET.Element]]", parser.read_events()):
        if element.tag.endswith("}Work"):
            return element
    return None


def _work_metadata(work: ET.Element) -> SvgMetadata:
    licences = [child.get(f"{_RDF}resource") for child in work if child.tag.endswith("}license")]
    keywords = (_clean(item.text) for item in work.iterfind(f"{_DC}subject//{_RDF}li"))
    return SvgMetadata(
        title=work.findtext(f"{_DC}title"),
        description=work.findtext(f"{_DC}description"),
        keywords=tuple(dict.fromkeys(word for word in keywords if word and not _PLACEHOLDER_KEYWORD.fullmatch(word))),
        language=_clean(work.findtext(f"{_DC}language")) or None,
        licence=next((licence for licence in licences if licence), None),
    )


def _meaningful(text: str | None) -> str | None:
    cleaned = _clean(text)
    if not _words(cleaned) or any(pattern.fullmatch(cleaned) for pattern in _SAYS_NOTHING):
        return None
    return cleaned


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _clean(text: str | None) -> str:
    text = _unescape_fully(text or "")
    if "<" in text:
        text = _without_tags(text)
    return " ".join(_repair_encoding(text).split())


def _unescape_fully(text: str) -> str:
    for _ in range(3):
        text = html.unescape(text)
    return text


def _without_tags(text: str) -> str:
    stripper = _TagStripper()
    stripper.feed(text)
    stripper.close()
    return " ".join(stripper.pieces)


class _TagStripper(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def _repair_encoding(text: str) -> str:
    """Undo UTF-8 read as Latin-1 (`LÃ©zard`), and Windows letters that were read as control characters."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return "".join(html.unescape(f"&#{ord(c)};") if "\x80" <= c <= "\x9f" else c for c in text)


# --- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Package:
    """An unpacked package."""

    name: str
    version: str
    root: Path

    @staticmethod
    def all_from(roots: Mapping[str, Path], versions: Mapping[str, str]) -> dict[str, _Package]:
        return {name: _Package(name, versions[name], root.resolve()) for name, root in roots.items()}

    def files(self, folder: str, suffix: str) -> list[Path]:
        """The package's files below a folder, sorted; links that leave the package are not followed."""
        base = self.root / folder
        if not base.is_dir():
            raise CurateError(
                f"package {self.name} {self.version} has no folder {folder}: its layout is not the known one"
            )
        paths = (path for path in base.rglob(f"*{suffix}") if path.is_file())
        return sorted(path for path in paths if path.resolve().is_relative_to(self.root))

    def holds(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.root)


@dataclass(frozen=True)
class _Pair:
    image: Path
    caption: str
    package: _Package
    category: str
    keywords: tuple[str, ...]
    licence: str | None
    language: str | None

    @property
    def path(self) -> str:
        return self.image.relative_to(self.package.root).as_posix()

    @property
    def sampling_order(self) -> bytes:
        """A hash, so that the first shard is a fair sample of all folders."""
        return hashlib.sha256(b"clipart\0" + self.package.name.encode() + b"\0" + os.fsencode(self.path)).digest()


def _all_pairs(packages: Mapping[str, _Package], progress: Progress) -> tuple[list[_Pair], Counter[str]]:
    left_out: Counter[str] = Counter()
    pairs = [
        *_clipart_pairs(packages[PNG_PACKAGE], packages[SVG_PACKAGE], left_out, progress),
        *_stamp_pairs(packages[STAMPS_PACKAGE], left_out),
    ]
    return sorted(pairs, key=lambda pair: pair.sampling_order), left_out


def _clipart_pairs(png: _Package, svg: _Package, left_out: Counter[str], progress: Progress) -> Iterator[_Pair]:
    images = png.files(_CLIPART_PNG_FOLDER, ".png")
    for done, image in enumerate(images):
        progress("reading captions", done, len(images))
        name = image.relative_to(png.root / _CLIPART_PNG_FOLDER).with_suffix(".svg")
        drawing = svg.root / _CLIPART_SVG_FOLDER / name
        if not svg.holds(drawing):
            left_out[_NO_TEXT_FILE] += 1
            continue
        metadata = read_svg_metadata(drawing)
        caption = combine_caption(metadata.title, metadata.description)
        if caption is None:
            left_out[_NO_CAPTION] += 1
            continue
        yield _Pair(
            image=image,
            caption=caption,
            package=png,
            category=name.parts[0],
            keywords=metadata.keywords,
            licence=_clipart_licence(metadata.licence),
            language=metadata.language,
        )
    progress("reading captions", len(images), len(images))


def _clipart_licence(declared: str | None) -> str:
    """The collection is public domain; a few files name another licence, and that is what counts for them."""
    if declared is None or "publicdomain" in declared.casefold():
        return _PUBLIC_DOMAIN
    return declared


def _stamp_pairs(package: _Package, left_out: Counter[str]) -> Iterator[_Pair]:
    base = package.root / _STAMPS_FOLDER
    licences = _read_licences(package.root / "usr/share/doc" / package.name / "copyright")
    images = package.files(_STAMPS_FOLDER, ".png")
    texts = package.files(_STAMPS_FOLDER, ".txt")
    left_out[_NO_IMAGE] += len({text.with_suffix("") for text in texts} - {image.with_suffix("") for image in images})
    for image in images:
        text = image.with_suffix(".txt")
        if not package.holds(text):
            left_out[_NO_TEXT_FILE] += 1
            continue
        caption = combine_caption(_first_line(text), None)
        if caption is None:
            left_out[_NO_CAPTION] += 1
            continue
        yield _Pair(
            image=image,
            caption=caption,
            package=package,
            category=image.parent.relative_to(base).as_posix(),
            keywords=(),
            licence=_licence_of(f"stamps/{image.relative_to(base).as_posix()}", licences),
            language="en",
        )


def _first_line(text: Path) -> str:
    """The English caption; the lines after it are translations."""
    with text.open("rb") as stream:
        return stream.readline().decode("utf-8", errors="replace")


def _read_licences(copyright_file: Path) -> list[tuple[str, str]]:
    """(file pattern, licence) from a machine-readable Debian copyright file, in its order; [] if it is not one."""
    if not copyright_file.is_file():
        return []
    licences: list[tuple[str, str]] = []
    for paragraph in copyright_file.read_text("utf-8", errors="replace").split("\n\n"):
        fields = dict(re.findall(r"^(Files|License):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if {"Files", "License"} <= fields.keys():
            licence = fields["License"].strip().splitlines()[0]
            licences.extend((pattern, licence) for pattern in fields["Files"].split())
    return licences


def _licence_of(path: str, licences: Sequence[tuple[str, str]]) -> str | None:
    """As Debian defines it: the last paragraph that matches counts."""
    matching = [licence for pattern, licence in licences if fnmatchcase(path, pattern)]
    return matching[-1] if matching else None


# --- images ----------------------------------------------------------------------------------------------------------

# What Pillow raises for a PNG that is cut off, lies about itself, or is larger than memory.
_UNDECODABLE = (OSError, SyntaxError, ValueError, OverflowError, MemoryError, struct.error, zlib.error)
_one_big_image_at_a_time = threading.Lock()


@dataclass(frozen=True)
class _Picture:
    data: bytes
    original_size: tuple[int, int] | None
    size: tuple[int, int] | None
    error: str | None = None


def _load_picture(path: Path, image_size: int) -> _Picture:
    """The image file, shrunk to `image_size` if that is not 0; the original bytes where that cannot be done."""
    original = path.read_bytes()
    size: tuple[int, int] | None = None
    try:
        # Not Image.open: its pixel limit is a global of the process, and nothing but PNG should be tried.
        with PngImageFile(io.BytesIO(original)) as image:
            size = image.size
            if image_size == 0 or max(size) <= image_size:
                return _Picture(original, size, size)
            shrunk = _shrink(image, image_size)
    except _UNDECODABLE as error:
        return _Picture(original, size, size, f"not resized: {error}")
    buffer = io.BytesIO()
    shrunk.save(buffer, "PNG", optimize=False, compress_level=6)
    return _Picture(buffer.getvalue(), size, shrunk.size)


def _shrink(image: Image.Image, image_size: int) -> Image.Image:
    width, height = image.size
    pixels = width * height
    if pixels > _MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than this program decodes")
    scale = image_size / max(width, height)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    factor = max(1, max(width, height) // (image_size * _REDUCING_GAP))
    if pixels > _BIG_IMAGE_PIXELS:
        with _one_big_image_at_a_time:
            averaged = _average_blocks(image, factor)
    else:
        averaged = _average_blocks(image, factor)
    exact_box = (0.0, 0.0, width / factor, height / factor)
    return averaged.resize(target, Image.Resampling.LANCZOS, box=exact_box)


def _average_blocks(image: Image.Image, factor: int) -> Image.Image:
    """Average squares of `factor` pixels, strip by strip: colour conversion never sees the whole image."""
    width, height = image.size
    mode = _averaging_mode(image)
    averaged = Image.new(mode, (math.ceil(width / factor), math.ceil(height / factor)))
    rows = factor * max(1, _STRIP_PIXELS // (width * factor))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        averaged.paste(_as_mode(strip, mode).reduce(factor), (0, top // factor))
    return averaged


def _averaging_mode(image: Image.Image) -> str:
    if image.mode in {"LA", "RGBA"}:
        return image.mode
    if "transparency" in image.info:
        return "RGBA"
    return "RGB" if image.mode in {"P", "RGB"} else "L"


def _as_mode(strip: Image.Image, mode: str) -> Image.Image:
    if strip.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion may clip where it should scale.
        strip = strip.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    return strip if strip.mode == mode else strip.convert(mode)


# --- shards ----------------------------------------------------------------------------------------------------------


def _write_shards(out: Path, started: _Record, packages: Mapping[str, _Package], progress: Progress) -> ClipartReport:
    pairs, left_out = _all_pairs(packages, progress)
    size = started.settings.shard_size
    names = [f"{number:05d}.tar" for number in range(math.ceil(len(pairs) / size))]
    written = undecodable = 0
    for number, name in enumerate(names):
        first_key = number * size
        shard_pairs = pairs[first_key : first_key + size]
        if not (out / name).exists():
            samples = _samples(shard_pairs, first_key, started.settings.image_size)
            write_tar(out / name, _members(samples, lambda done: progress("writing pairs", done, len(pairs))))
            written += 1
        undecodable += _count_undecodable(out / name)
        progress("writing pairs", first_key + len(shard_pairs), len(pairs))
    finished = replace(
        started,
        complete=True,
        pairs_by_package=dict(sorted(Counter(pair.package.name for pair in pairs).items())),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        kept_undecodable=undecodable,
        shard_bytes={name: (out / name).stat().st_size for name in names},
    )
    write_bytes(out / CORPUS_FILE, finished.to_json())
    return finished.report(shards_written=written)


def _samples(pairs: Sequence[_Pair], first_key: int, image_size: int) -> Iterator[tuple[str, _Pair, _Picture]]:
    """Pairs with their keys and pictures, in order; a few pictures are loaded at a time."""
    remaining = enumerate(pairs, first_key)
    with ThreadPoolExecutor(_RESIZE_THREADS) as pool:
        while chunk := list(islice(remaining, _PAIRS_IN_FLIGHT)):
            pictures = pool.map(lambda item: _load_picture(item[1].image, image_size), chunk)
            yield from ((f"{key:09d}", pair, picture) for (key, pair), picture in zip(chunk, pictures, strict=True))


def _members(
    samples: Iterable[tuple[str, _Pair, _Picture]], on_pair: Callable[[int], None]
) -> Iterator[tuple[str, bytes]]:
    for key, pair, picture in samples:
        yield f"{key}.png", picture.data
        yield f"{key}.txt", pair.caption.encode()
        yield f"{key}.json", _to_json(_description(key, pair, picture))
        on_pair(int(key) + 1)


def _description(key: str, pair: _Pair, picture: _Picture) -> dict[str, Any]:
    width, height = picture.size or (None, None)
    original_width, original_height = picture.original_size or (None, None)
    return {
        "key": key,
        "caption": pair.caption,
        "status": "success",
        "error_message": picture.error,
        "width": width,
        "height": height,
        "original_width": original_width,
        "original_height": original_height,
        "sha256": hashlib.sha256(picture.data).hexdigest(),
        "source_package": pair.package.name,
        "source_version": pair.package.version,
        "path": pair.path,
        "category": pair.category,
        "keywords": pair.keywords,
        "language": pair.language,
        "licence": pair.licence,
    }


def _to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=4) + "\n").encode()


def _count_undecodable(shard: Path) -> int:
    try:
        with tarfile.open(shard, "r:") as archive:
            descriptions = (archive.extractfile(member) for member in archive if member.name.endswith(".json"))
            return sum(json.load(stream)["error_message"] is not None for stream in descriptions if stream)
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise CurateError(f"{shard} is not a shard of this corpus ({error}): delete it and call again") from error


# --- record of what was made -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    image_size: int
    shard_size: int


@dataclass(frozen=True)
class _Record:
    """The content of `_corpus.json`."""

    settings: _Settings
    package_versions: Mapping[str, str]
    complete: bool = False
    pairs_by_package: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    kept_undecodable: int = 0
    shard_bytes: Mapping[str, int] = field(default_factory=dict)

    def is_complete(self, out: Path) -> bool:
        sizes = {name: (out / name).stat().st_size for name in self.shard_bytes if (out / name).is_file()}
        return self.complete and sizes == self.shard_bytes

    def report(self, shards_written: int) -> ClipartReport:
        return ClipartReport(
            pairs=sum(self.pairs_by_package.values()),
            shards=len(self.shard_bytes),
            pairs_by_package=self.pairs_by_package,
            package_versions=self.package_versions,
            left_out=self.left_out,
            kept_undecodable=self.kept_undecodable,
            shards_written=shards_written,
        )

    def to_json(self) -> bytes:
        return _to_json({"corpus": "clipart", "corpus_version": CORPUS_VERSION, **asdict(self)})


def _read_record(out: Path, settings: _Settings) -> _Record | None:
    """What an earlier call left in `out`, None for a fresh folder."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder for the corpus")
    path = out / CORPUS_FILE
    if not path.is_file():
        if any(out.glob("*.tar")):
            raise InputError(f"{out} holds tar files that are not this corpus: choose another folder")
        return None
    try:
        content = json.loads(path.read_bytes())
        name, version = content.pop("corpus"), content.pop("corpus_version")
        record = _Record(**{**content, "settings": _Settings(**content["settings"])})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error!r}): {_choose_or_delete(out)}") from error
    if (name, version) != ("clipart", CORPUS_VERSION):
        raise InputError(f"{out} holds corpus {name} version {version}: {_choose_or_delete(out)}")
    if record.settings != settings:
        raise InputError(
            f"{out} was made with image_size={record.settings.image_size}, shard_size={record.settings.shard_size}; "
            f"asked for are image_size={settings.image_size}, shard_size={settings.shard_size}: "
            f"{_choose_or_delete(out)}"
        )
    return record


def _refuse_other_versions(out: Path, record: _Record, versions: Mapping[str, str]) -> None:
    if record.package_versions != versions:
        before, now = (
            ", ".join(f"{name} {version}" for name, version in sorted(which.items()))
            for which in (record.package_versions, versions)
        )
        raise InputError(f"{out} was begun with {before}; now there are {now}: {_choose_or_delete(out)}")


def _choose_or_delete(out: Path) -> str:
    return f"choose another folder, or delete {out} and start again"


# --- Debian packages -------------------------------------------------------------------------------------------------

_PACKAGE_LIST = ", ".join(PACKAGES)
_APT_POLL_SECONDS = 0.2


def _debs_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: --debs takes a folder with the .deb files of {_PACKAGE_LIST}")
    _require("dpkg-deb")
    candidates = {package: sorted(folder.glob(f"{package}_*.deb")) for package in PACKAGES}
    missing = [package for package, debs in candidates.items() if not debs]
    if missing:
        raise InputError(
            f"{folder} has no {_named_deb(missing)}: fetch with `apt-get download {' '.join(missing)}` "
            "on a Debian-like machine and put it there"
        )
    for package, debs in candidates.items():
        if len(debs) > 1:
            names = ", ".join(deb.name for deb in debs)
            raise InputError(f"{folder} has several versions of {package} ({names}): keep one")
    return {package: debs[0] for package, debs in candidates.items()}


def _named_deb(packages: Iterable[str]) -> str:
    return " and no ".join(f"{package}_*.deb" for package in packages)


def _downloaded_debs(cache: Path, progress: Progress) -> dict[str, Path]:
    """The packages in the cache, after downloading those which are not there."""
    _require("apt-get")
    _require("dpkg-deb")
    missing = [package for package in PACKAGES if not any(cache.glob(f"{package}_*.deb"))]
    if missing:
        sizes = _sizes_known_to_apt(missing)
        for package in missing:
            _download(package, sizes[package], cache, progress)
    return _debs_in(cache)


def _sizes_known_to_apt(packages: Sequence[str]) -> dict[str, int]:
    """Bytes to download for each package."""
    result = _run_tool(["apt-get", "download", "--print-uris", *packages])
    sizes = re.findall(r"^'[^']*' ([^_\s]+)_\S+\.deb (\d+)", result.stdout, re.MULTILINE)
    known = {package: int(size) for package, size in sizes}
    if result.returncode != 0 or not known.keys() >= set(packages):
        unknown = [package for package in packages if package not in known]
        raise InputError(
            f"apt knows no package {', '.join(unknown or packages)}; its lists may be empty or old: "
            f"run `sudo apt-get update` and try again{_last_lines(result.stderr)}"
        )
    return known


def _download(package: str, size: int, cache: Path, progress: Progress) -> None:
    partial = cache / "partial" / package
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    log = partial / "apt.log"
    description = f"downloading {package}"
    with log.open("wb") as stream:
        apt = subprocess.Popen(
            ["apt-get", "download", package], cwd=partial, stdout=stream, stderr=stream, env=_plain_english()
        )
        try:
            while apt.poll() is None:
                progress(description, min(size, sum(deb.stat().st_size for deb in partial.glob("*.deb*"))), size)
                time.sleep(_APT_POLL_SECONDS)
        finally:
            apt.terminate()
            apt.wait()
    debs = sorted(partial.glob("*.deb"))
    if apt.returncode != 0 or len(debs) != 1:
        raise InputError(
            f"apt-get could not download {package}: check the network and the mirror in /etc/apt, or fetch "
            f"{_PACKAGE_LIST} elsewhere and give their folder with --debs"
            f"{_last_lines(log.read_text('utf-8', errors='replace'))}"
        )
    debs[0].replace(cache / debs[0].name)
    shutil.rmtree(partial)
    progress(description, size, size)


def _last_lines(output: str) -> str:
    """What apt or dpkg said last, without the harmless warning it gives root."""
    lines = [line for line in output.splitlines() if line.strip() and "performed unsandboxed as root" not in line]
    return "".join(f"\n  {line}" for line in lines[-4:])


def _deb_version(deb: Path) -> str:
    return _dpkg_deb(deb, ["--field", str(deb), "Version"]).strip()


def _unpack(debs: Mapping[str, Path], cache: Path, progress: Progress) -> dict[str, Path]:
    """Unpack each package into a folder of its own. A folder is whole or absent."""
    roots = {package: cache / "unpacked" / deb.stem for package, deb in debs.items()}
    for done, (package, root) in enumerate(roots.items()):
        progress("unpacking packages", done, len(roots))
        if not root.is_dir():
            partial = root.with_name(f"{root.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _dpkg_deb(debs[package], ["--extract", str(debs[package]), str(partial)])
            partial.replace(root)
    progress("unpacking packages", len(roots), len(roots))
    return roots


def _dpkg_deb(deb: Path, arguments: Sequence[str]) -> str:
    result = _run_tool(["dpkg-deb", *arguments])
    if result.returncode != 0:
        raise CurateError(
            f"dpkg-deb cannot read {deb}: it may be damaged or the disk full; delete it and fetch it again"
            f"{_last_lines(result.stderr)}"
        )
    return result.stdout


def _require(tool: str) -> None:
    if shutil.which(tool) is None:
        advice = (
            f"on a Debian-like machine run `apt-get download {' '.join(PACKAGES)}` and give their folder with --debs"
            if tool == "apt-get"
            else "install the package dpkg (most systems have it), which unpacks .deb files"
        )
        raise InputError(f"{tool} is not on this machine, which does not look like Debian: {advice}")


def _run_tool(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=_plain_english())


def _plain_english() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
