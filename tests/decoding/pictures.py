"""Pictures that are hard on a decoder, and a look at the processes that decode them."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

from PIL import Image

from curate.stages.decode import DecodeOptions, Outcome, Pixels, decode_image

MODULE = b"curate.decoding.child"


def png(width: int = 48, height: int = 40, colour: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def slow_jpeg(segments: int) -> bytes:
    """A small picture whose EXIF comes in so many pieces of 64 KB; the time it takes grows with their square."""
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40), (10, 200, 90)).save(buffer, "JPEG")
    data, content = buffer.getvalue(), b"Exif\0\0" + bytes(65_000)
    piece = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return data[:2] + piece * segments + data[2:]


def decoded_here(images: list[bytes | None], options: DecodeOptions, pixels: Pixels) -> list[Outcome]:
    """What decoding in this process gives."""
    return [decode_image(data, options, pixels[row]) for row, data in enumerate(images)]


def children_of(parent: int) -> set[int]:
    """Decoder processes of a process."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if MODULE in command and int(stat.rpartition(")")[2].split()[1]) == parent:
            found.add(int(folder.name))
    return found


def shared_bytes(process: int) -> int:
    """Size of the memory that a decoder process shares with its run; 0 if it is gone."""
    try:
        maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    except OSError:
        return 0
    ranges = [line.split()[0].split("-") for line in maps if "curate-decode" in line]
    return sum(int(end, 16) - int(start, 16) for start, end in ranges)


def gone(process: int, within: float = 30.0) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
