"""Inputs that the fuzzers start from: small whole files of every kind that the readers know."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_EXIF_ORIENTATION = 0x0112


def pictures() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of small pictures in every format and mode that is decoded."""
    colours = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    rgb = Image.fromarray(colours)
    exif = rgb.getexif()
    exif[_EXIF_ORIENTATION] = 6
    yield "rgb.png", _saved(rgb, "PNG", exif=exif, icc_profile=b"no profile", dpi=(72, 72))
    yield "palette.png", _saved(rgb.convert("P"), "PNG", transparency=3)
    yield "rgba.png", _saved(rgb.convert("RGBA"), "PNG")
    yield "grey16.png", _saved(Image.fromarray(colours[..., 0].astype(np.uint16) * 257), "PNG")
    yield "bits.png", _saved(rgb.convert("1"), "PNG")
    yield "animated.png", _saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)])
    yield "rgb.jpg", _saved(rgb, "JPEG", exif=exif, icc_profile=b"no profile")
    yield "progressive.jpg", _saved(rgb, "JPEG", progressive=True)
    yield "cmyk.jpg", _saved(rgb.convert("CMYK"), "JPEG")
    yield "grey.jpg", _saved(rgb.convert("L"), "JPEG")
    yield "rgb.webp", _saved(rgb, "WEBP", exif=exif)
    yield "lossless.webp", _saved(rgb.convert("RGBA"), "WEBP", lossless=True)
    yield "animated.webp", _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])
    yield "rgb.gif", _saved(rgb, "GIF")
    yield "animated.gif", _saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)], transparency=0)
    yield "rgb.bmp", _saved(rgb, "BMP")
    yield "palette.bmp", _saved(rgb.convert("P"), "BMP")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"{compression}.tiff", _saved(rgb, "TIFF", compression=compression)
    yield "group4.tiff", _saved(rgb.convert("1"), "TIFF", compression="group4")
    yield "float.tiff", _saved(Image.fromarray(colours[..., 0].astype(np.float32)), "TIFF")
    yield "pages.tiff", _saved(rgb, "TIFF", save_all=True, append_images=[rgb], exif=exif)


def archives() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of small tars in every dialect, with names of every kind."""
    record = json.dumps({"caption": "a cat", "n": [1, None]}).encode()
    members = [
        ("0/a.jpg", b"\xff\xd8"),
        ("0/a.txt", b"a dog"),
        ("0/a.json", record),
        ("0/b.png", b""),
        ("0/c.gif", b"x"),
    ]
    for dialect, number in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        yield f"{dialect}.tar", _tar(members, number)
    yield "gnu-long.tar", _tar([("x" * 140 + ".jpg", b"1"), ("x" * 140 + ".txt", b"2")], tarfile.GNU_FORMAT)
    yield "pax-long.tar", _tar([("ä" * 140 + ".jpg", b"1"), ("ä" * 140 + ".txt", b"2")], tarfile.PAX_FORMAT)
    yield "twice.tar", _tar([*members, *members], tarfile.USTAR_FORMAT)
    yield "links.tar", _linked()


def write_seeds(folder: Path, seeds: Iterator[tuple[str, bytes]]) -> None:
    """Put seeds into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds:
        (folder / name).write_bytes(content)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tar(members: list[tuple[str, bytes]], dialect: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue().rstrip(b"\0") + bytes(1024)


def _linked() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("d.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"a dog"))
    return buffer.getvalue().rstrip(b"\0") + bytes(1024)
