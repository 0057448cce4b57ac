"""Pictures that are broken, lie, explode, or are merely unusual."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from curate.bench.hostile.inputs import MAYBE_DECODABLE, UNDECODABLE, Damage, HostilePair
from curate.schema import Status

CAPTION = "a picture from the web"
TOO_LARGE = frozenset({Status.IMAGE_TOO_LARGE})
CORNERS = ((220, 30, 30), (30, 170, 60), (40, 60, 220), (240, 220, 40))
"""Colours of the quarters of the picture whose orientation is looked at."""

_QUARTER = 40
_EXIF_ORIENTATION = 0x0112
_STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp", "TIFF": "tiff", "BMP": "bmp"}
_HEADER_BYTES = 64
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise_picture(draw: random.Random) -> Image.Image:
    """A small RGB picture that no compression makes smaller."""
    width, height = draw.randrange(20, 60), draw.randrange(20, 60)
    return Image.frombytes("RGB", (width, height), draw.randbytes(width * height * 3))


def four_quarters() -> Image.Image:
    """A square whose quarters have the colours CORNERS."""
    pixels = np.zeros((2 * _QUARTER, 2 * _QUARTER, 3), dtype=np.uint8)
    for place, colour in enumerate(CORNERS):
        top, left = divmod(place, 2)
        pixels[top * _QUARTER : (top + 1) * _QUARTER, left * _QUARTER : (left + 1) * _QUARTER] = colour
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and the right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, packed: bytes, *more: bytes, bits: int = 1, colour: int = 0) -> bytes:
    """A PNG with this header, these chunks and this pixel data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        _PNG_MAGIC + png_chunk(b"IHDR", header) + b"".join(more) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    )


def _pair(
    kind: str,
    data: bytes,
    statuses: frozenset[Status] = frozenset({Status.OK}),
    corners: tuple[tuple[int, int, int], ...] | None = None,
) -> HostilePair:
    return HostilePair(((_EXTENSIONS.get(kind, kind), data), ("txt", CAPTION.encode())), statuses, CAPTION, corners)


def _any_kind(draw: random.Random) -> str:
    return draw.choice(list(_EXTENSIONS))


def _random_bytes(draw: random.Random) -> HostilePair:
    return _pair(_any_kind(draw), b"\0" + draw.randbytes(draw.randrange(1, 4000)), UNDECODABLE)


def _empty(draw: random.Random) -> HostilePair:
    return _pair(_any_kind(draw), b"", UNDECODABLE)


def _web_page(draw: random.Random) -> HostilePair:
    return _pair(_any_kind(draw), b"<!DOCTYPE html><html><body>404 Not Found</body></html>", UNDECODABLE)


def _truncated(draw: random.Random) -> HostilePair:
    kind = draw.choice(["PNG", "JPEG", "WEBP", "BMP"])
    data = saved(noise_picture(draw), kind)
    return _pair(kind, data[: draw.randrange(len(data) // 8, len(data) // 2)], UNDECODABLE)


def _fuzzed(kind: str) -> Callable[[random.Random], HostilePair]:
    def build(draw: random.Random) -> HostilePair:
        data = bytearray(saved(noise_picture(draw), kind))
        reach = len(data) if draw.random() < 0.5 else min(len(data), _HEADER_BYTES)
        for _ in range(draw.randrange(1, 12)):
            data[draw.randrange(reach)] = draw.randrange(256)
        return _pair(kind, bytes(data), MAYBE_DECODABLE)

    return build


def _fuzzed_chunks(draw: random.Random) -> HostilePair:
    """Chunks with random content and right checksums, which a mere change of bytes would not have."""
    kinds = [
        b"tRNS",
        b"PLTE",
        b"gAMA",
        b"iCCP",
        b"pHYs",
        b"eXIf",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"cHRM",
        b"sRGB",
        b"tEXt",
    ]
    more = [png_chunk(draw.choice(kinds), draw.randbytes(draw.randrange(0, 80))) for _ in range(draw.randrange(1, 4))]
    colour, bits = draw.choice(
        [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 4), (3, 8), (4, 8), (6, 8), (6, 16)]
    )
    return _pair(
        "PNG", png_of(5, 5, zlib.compress(draw.randbytes(400)), *more, bits=bits, colour=colour), MAYBE_DECODABLE
    )


def _png_bomb(draw: random.Random) -> HostilePair:
    """Hundreds of megapixels in a few hundred kB, all of them there."""
    width, height = 30_000 + 8 * draw.randrange(100), 20_000
    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return _pair("PNG", png_of(width, height, packed), TOO_LARGE)


def _png_claim(draw: random.Random) -> HostilePair:
    side = draw.choice([20_000, 65_535, 2**31 - 1])
    return _pair("PNG", png_of(side, side, zlib.compress(b"\0" * 100), bits=16, colour=6), TOO_LARGE)


def _text_chunk_bomb(draw: random.Random) -> HostilePair:
    """A megabyte of compressed text that comes to a gigabyte."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    chunk = draw.choice([png_chunk(b"zTXt", b"Comment\0\0" + bomb), png_chunk(b"iCCP", b"profile\0\0" + bomb)])
    return _pair("PNG", png_of(3, 2, zlib.compress(b"\0\xe0" * 2), chunk), MAYBE_DECODABLE)


def _pixel_data_bomb(draw: random.Random) -> HostilePair:
    """A tiny picture with far more pixel data than it has pixels."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    return _pair("PNG", png_of(1 + draw.randrange(8), 1, bomb), MAYBE_DECODABLE)


def _gif_bomb(draw: random.Random) -> HostilePair:
    data = bytearray(saved(noise_picture(draw), "GIF"))
    struct.pack_into("<HH", data, 6, 65_535, 65_535)
    return _pair("GIF", bytes(data), TOO_LARGE)


def _gif_frame_bomb(draw: random.Random) -> HostilePair:
    """A small canvas with a first frame of gigapixels."""
    data = bytearray(saved(noise_picture(draw), "GIF"))
    descriptor = data.index(b"\x2c\0\0\0\0")
    struct.pack_into("<HH", data, descriptor + 5, 65_535, 65_535)
    return _pair("GIF", bytes(data), MAYBE_DECODABLE)


def _jpeg_claim(draw: random.Random) -> HostilePair:
    data = bytearray(saved(noise_picture(draw), "JPEG"))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, 65_500, 65_500)
    return _pair("JPEG", bytes(data), TOO_LARGE)


def _webp_claim(draw: random.Random) -> HostilePair:
    """A canvas of 2^24 x 2^24 pixels in the extended header."""
    frame = saved(noise_picture(draw), "WEBP")[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff\xff\xff" * 2
    body = b"WEBP" + extended + frame
    return _pair("WEBP", b"RIFF" + struct.pack("<I", len(body)) + body, MAYBE_DECODABLE)


def _tiff_claim(draw: random.Random) -> HostilePair:
    """One tag of a real TIFF claims something absurd: width, length, offsets, counts or samples."""
    data = bytearray(
        saved(noise_picture(draw), "TIFF", compression=draw.choice(["raw", "tiff_lzw", "tiff_adobe_deflate"]))
    )
    (directory,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, directory)
    entry = directory + 2 + 12 * draw.randrange(tags)
    absurd = draw.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, draw.randrange(2**32)])
    struct.pack_into("<I", data, entry + draw.choice([4, 8]), absurd)
    return _pair("TIFF", bytes(data), MAYBE_DECODABLE)


def _tiff_of_itself(draw: random.Random) -> HostilePair:
    """The next page is this page."""
    data = bytearray(saved(noise_picture(draw), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * tags, directory)
    return _pair("TIFF", bytes(data), MAYBE_DECODABLE)


def _bmp_claim(draw: random.Random) -> HostilePair:
    data = bytearray(saved(noise_picture(draw), "BMP"))
    struct.pack_into("<ii", data, 18, draw.choice([30_000, -30_000, 2**31 - 1]), draw.choice([30_000, -(2**31), 0]))
    return _pair("BMP", bytes(data), MAYBE_DECODABLE)


def _orientation(draw: random.Random) -> HostilePair:
    orientation, kind = draw.randrange(1, 9), draw.choice(["JPEG", "PNG", "WEBP", "TIFF"])
    stored = four_quarters()
    if orientation in _STORED_AS:
        stored = stored.transpose(_STORED_AS[orientation])
    exif = stored.getexif()
    exif[_EXIF_ORIENTATION] = orientation
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    return _pair(kind, saved(stored, kind, exif=exif, **options), corners=CORNERS)


def _bad_exif(draw: random.Random) -> HostilePair:
    kind = draw.choice(["JPEG", "PNG", "WEBP"])
    exif = b"Exif\0\0" + draw.choice(
        [b"", b"II*\0" + draw.randbytes(40), b"MM\0*\xff\xff\xff\xff", draw.randbytes(60)]
    )
    return _pair(kind, saved(noise_picture(draw), kind, exif=exif), MAYBE_DECODABLE)


def _bad_profile(draw: random.Random) -> HostilePair:
    kind = draw.choice(["JPEG", "PNG", "WEBP", "TIFF"])
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    garbage = draw.randbytes(draw.randrange(1, 500))
    return _pair(kind, saved(four_quarters(), kind, icc_profile=garbage, **options), corners=CORNERS)


def _cmyk(draw: random.Random) -> HostilePair:
    kind = draw.choice(["JPEG", "TIFF"])
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    return _pair(kind, saved(four_quarters().convert("CMYK"), kind, **options), corners=CORNERS)


def _sixteen_bits(draw: random.Random) -> HostilePair:
    grey = np.asarray(four_quarters().convert("L"))
    corners = tuple((int(grey[y, x]),) * 3 for y in (0, -1) for x in (0, -1))
    return _pair(
        draw.choice(["PNG", "TIFF"]), saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), corners=corners
    )


def _transparent_palette(draw: random.Random) -> HostilePair:
    """Quarters in a palette, one of whose entries is transparent and shows white."""
    indices = np.zeros((2 * _QUARTER, 2 * _QUARTER), dtype=np.uint8)
    indices[:_QUARTER, _QUARTER:], indices[_QUARTER:, :_QUARTER], indices[_QUARTER:, _QUARTER:] = 1, 2, 3
    image = Image.fromarray(indices)
    image.putpalette([value for colour in CORNERS for value in colour])
    clear = draw.randrange(4)
    corners = tuple((255, 255, 255) if place == clear else colour for place, colour in enumerate(CORNERS))
    kind = draw.choice(["PNG", "GIF"])
    return _pair(kind, saved(image, kind, transparency=clear), corners=corners)


def _wrong_name(draw: random.Random) -> HostilePair:
    """The content counts, not what the name says."""
    real, named = draw.sample(["PNG", "BMP", "GIF"], 2)
    return _pair(named, saved(four_quarters(), real), corners=CORNERS)


_SVG = """<?xml version="1.0"?>
<!DOCTYPE svg [<!ENTITY secret SYSTEM "file:///etc/passwd"><!ENTITY a "&secret;&secret;">]>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="50" height="50">
<script>alert(1)</script><image xlink:href="http://127.0.0.1:9/x.png" width="50" height="50"/><text>&a;</text></svg>"""


def _svg(draw: random.Random) -> HostilePair:
    return _pair(_any_kind(draw), _SVG.encode(), UNDECODABLE)


def _other_decoders(draw: random.Random) -> HostilePair:
    """Formats that Pillow would open, some with an interpreter behind them; they are not among the six."""
    head = draw.choice([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", b"P6 9 9 255\n" + bytes(243),
                        b"8BPS\0\1" + bytes(30), b"\0\0\1\0\1\0" + bytes(40), b"SIMPLE  =" + bytes(80),
                        b"\x0a\x05\x01\x08" + bytes(140), b"qoif" + bytes(30)])  # fmt: skip
    return _pair(_any_kind(draw), head, UNDECODABLE)


def _svg_member(draw: random.Random) -> HostilePair:
    """An .svg is no kind of picture at all: the pair has none."""
    members = (("svg", _SVG.encode()), ("txt", CAPTION.encode()))
    return HostilePair(members, frozenset({Status.MISSING_IMAGE}), CAPTION)


_STAYS = "corrupt_image; its neighbours are untouched"
_EITHER = "ok, corrupt_image or image_too_large, as Pillow alone says of the file"
_LIMIT = "image_too_large, from the header alone"

PICTURES: tuple[Damage, ...] = (
    Damage("random bytes", "picture", _STAYS, _random_bytes),
    Damage("no bytes", "picture", _STAYS, _empty),
    Damage("a web page", "picture", _STAYS, _web_page),
    Damage("truncated", "picture", _STAYS, _truncated),
    *(Damage(f"mutated {kind}", "picture", _EITHER, _fuzzed(kind), 2) for kind in _EXTENSIONS),
    Damage("PNG with mad chunks", "picture", _EITHER, _fuzzed_chunks, 2),
    Damage("PNG bomb", "picture", _LIMIT, _png_bomb, 0.03),
    Damage("PNG of claimed size", "picture", _LIMIT, _png_claim),
    Damage("PNG text and profile bomb", "picture", _EITHER, _text_chunk_bomb, 0.05),
    Damage("PNG pixel data bomb", "picture", _EITHER, _pixel_data_bomb, 0.05),
    Damage("GIF canvas bomb", "picture", _LIMIT, _gif_bomb),
    Damage("GIF frame bomb", "picture", _EITHER, _gif_frame_bomb, 0.1),
    Damage("JPEG of claimed size", "picture", _LIMIT, _jpeg_claim),
    Damage("WebP of claimed size", "picture", _EITHER, _webp_claim),
    Damage("TIFF with an absurd tag", "picture", _EITHER, _tiff_claim, 2),
    Damage("TIFF whose next page is itself", "picture", _EITHER, _tiff_of_itself),
    Damage("BMP of claimed size", "picture", _EITHER, _bmp_claim),
    Damage("EXIF orientation 1 to 8", "picture", "ok, and upright", _orientation, 2),
    Damage("broken EXIF", "picture", _EITHER, _bad_exif),
    Damage("broken colour profile", "picture", "ok, with its colours", _bad_profile),
    Damage("CMYK", "picture", "ok, with its colours", _cmyk),
    Damage("16 bit grey", "picture", "ok, scaled to 8 bit", _sixteen_bits),
    Damage("palette with transparency", "picture", "ok, what is transparent shows white", _transparent_palette),
    Damage("other format than its name", "picture", "ok, by content", _wrong_name),
    Damage("SVG named as a picture", "picture", "corrupt_image: refused, never rendered", _svg),
    Damage("SVG as .svg", "picture", "missing_image: refused, never rendered", _svg_member),
    Damage("PostScript, PSD, ICO, ...", "picture", "corrupt_image: never opened", _other_decoders),
)
