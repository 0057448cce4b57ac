"""Pictures in terminals that can show them: kitty's graphics protocol, and sixel.

Protocols: kitty, "Terminal graphics protocol", section "Displaying images"; DEC STD 070 (VT330/VT340 Programmer
Reference Manual, volume 2, chapter 14: sixel graphics).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

PictureProtocol: TypeAlias = Literal["kitty", "sixel"]

_KITTY_PROGRAMS = frozenset({"kitty", "ghostty", "WezTerm"})
_KITTY_TERMS = frozenset({"xterm-kitty", "xterm-ghostty"})
_SIXEL_PROGRAMS = frozenset({"iTerm.app", "mintty", "contour"})
_SIXEL_TERMS = frozenset({"foot", "foot-extra", "mlterm", "contour", "yaft-256color"})
# Inside them the window's own variables are still there, but the pictures do not come through.
_MULTIPLEXERS = ("tmux", "screen")
_KITTY_CHUNK = 4096
_SIXEL_COLOURS = 128
_SIXEL_ROWS = 6


def picture_protocol(environment: Mapping[str, str]) -> PictureProtocol | None:
    """How the terminal shows pictures, by what its environment variables say; None: it does not say that it can."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term.startswith(_MULTIPLEXERS) or program in _MULTIPLEXERS or "TMUX" in environment:
        return None
    if term in _KITTY_TERMS or program in _KITTY_PROGRAMS or "KITTY_WINDOW_ID" in environment:
        return "kitty"
    return "sixel" if term in _SIXEL_TERMS or program in _SIXEL_PROGRAMS else None


def picture_sequence(protocol: PictureProtocol, file: bytes) -> str:
    """What to write to the terminal so that it shows a picture at the cursor, pixel by pixel, and goes on below.

    Args:
        protocol: that the terminal understands.
        file: a picture that can be trusted, such as a thumbnail made here.
    """
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    return (_kitty(picture) if protocol == "kitty" else _sixel(picture)) + "\n"


def _kitty(picture: Image.Image) -> str:
    """PNG (f=100) shown at once (a=T) without an answer (q=2), in chunks of at most 4,096 characters."""
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    data = base64.standard_b64encode(sink.getvalue()).decode()
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    first = "a=T,f=100,q=2,"
    return "".join(
        f"\x1b_G{first if place == 0 else ''}m={int(place < len(chunks) - 1)};{chunk}\x1b\\"
        for place, chunk in enumerate(chunks)
    )


def _sixel(picture: Image.Image) -> str:
    """Bands of six rows; in each band every colour draws its pixels as one character a column, the top row lowest."""
    indexed = picture.quantize(_SIXEL_COLOURS)
    colours = np.array(indexed.getpalette(), dtype=np.int64).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(indexed)
    written = [f'\x1bP0;1q"1;1;{picture.width};{picture.height}']
    written += [f"#{place};2;{red};{green};{blue}" for place, (red, green, blue) in enumerate(colours.tolist())]
    for top in range(0, picture.height, _SIXEL_ROWS):
        band = pixels[top : top + _SIXEL_ROWS]
        weights = 1 << np.arange(len(band))
        lines = [f"#{colour}{_run_lengths(weights @ (band == colour))}" for colour in np.unique(band).tolist()]
        written.append("$".join(lines) + "-")
    return "".join(written) + "\x1b\\"


def _run_lengths(columns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    signs = ((chr(63 + bits), len(list(group))) for bits, group in groupby(columns.tolist()))
    return "".join(f"!{count}{sign}" if count > 3 else sign * count for sign, count in signs)
