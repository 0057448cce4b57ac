"""Images made to exhaust a decoder: memory stays bounded, every one has a status, sound neighbours are decoded."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from curate.decoding.guard import GuardedDecoder
from curate.stages.decode import DecodeOptions
from curate.status import Status

from .pictures import png

OPTIONS = DecodeOptions(32, max_pixels=4_000_000)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    data = saved(Image.new("RGB", (64, 64), (9, 99, 199)), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def gif_of_frames(frames: int) -> bytes:
    """All frames are one pixel; only the first is the picture."""
    data = saved(Image.new("P", (40, 40), 1), "GIF")
    small = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return data[:-1] + small * frames + data[-1:]


def tiff_claiming_a_strip_of(size: int) -> bytes:
    """A picture of 8 x 8 whose only strip is said to have so many bytes."""
    data = bytearray(saved(Image.new("L", (8, 8), 77), "TIFF"))
    place = data.index(struct.pack("<HHI", 279, 4, 1))
    data[place + 8 : place + 12] = struct.pack("<I", size)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + saved(Image.new("RGB", (8, 8)), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


TOO_LARGE = {
    "png of 65535 x 65535": png_claiming(65535, 65535, bytes(1000)),
    "jpeg of 65535 x 65535": jpeg_claiming(65535, 65535),
    "png of 4,000,001 pixels": png(4_000_001, 1),
    "gif of 65535 x 65535": b"GIF89a" + struct.pack("<HH", 65535, 65535) + saved(Image.new("P", (9, 9)), "GIF")[10:],
}
BOUNDED = {
    "png whose rows go on for 200 MB": png_claiming(40, 40, bytes(200_000_000)),
    "gif of 100,000 frames": gif_of_frames(100_000),
    "tiff with a strip of 4 GB": tiff_claiming_a_strip_of(2**32 - 1),
    "webp of 16384 x 16384": webp_claiming(16384, 16384),
    "jpeg of 2000 x 2000 without its data": jpeg_claiming(2000, 2000),
    "png of 4,000,000 pixels": png(4_000_000, 1),
}


def decoded(images: list[bytes]) -> list[Status]:
    pixels = np.zeros((len(images), 32, 32, 3), np.uint8)
    with GuardedDecoder(OPTIONS) as decoder:
        return [outcome.status for outcome in decoder([memoryview(data) for data in images], pixels)]


def peaks() -> str:
    """JSON: statuses of all bombs, and the most memory that decoding them took here and in the decoder, in MB."""
    import resource

    decoded([png()])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    statuses = decoded([*TOO_LARGE.values(), *BOUNDED.values(), png()])
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return json.dumps([statuses, here >> 10, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10])


def test_bombs_do_not_go_off() -> None:
    root = Path(__file__).parent.parent.parent
    code = "from tests.decoding.test_bombs import peaks; print(peaks())"
    statuses, here, child = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=root))
    assert statuses[: len(TOO_LARGE)] == ["image_too_large"] * len(TOO_LARGE)
    assert set(statuses[len(TOO_LARGE) : -1]) <= {"ok", "corrupt_image", "image_too_large"}
    assert statuses[-2:] == ["ok", "ok"], "the limit itself is allowed, and what follows bombs is decoded"
    assert here < 100
    assert child < 400
