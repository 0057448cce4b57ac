"""What is sent to a terminal is the picture: read back by the rules of each protocol."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from curate.terminal_pictures import picture_protocol, picture_sequence


@pytest.fixture(scope="module")
def picture():
    """Four fields of colour and a ramp, PNG, 50 x 27 pixels: no whole number of sixel bands."""
    pixels = np.zeros((27, 50, 3), dtype=np.uint8)
    pixels[:13, :25], pixels[:13, 25:], pixels[13:, :25] = (200, 30, 30), (30, 200, 30), (250, 250, 250)
    pixels[13:, 25:, 2] = np.linspace(0, 255, 25).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return pixels, sink.getvalue()


def test_kitty_gets_the_png_in_small_chunks():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    sent = picture_sequence("kitty", sink.getvalue())
    chunks = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", sent)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) + "\n" == sent
    assert len(chunks) > 2
    assert [keys for keys, _ in chunks] == ["a=T,f=100,q=2,m=1", *["m=1"] * (len(chunks) - 2), "m=0"]
    assert all(len(data) <= 4096 for _, data in chunks)
    received = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks))))
    assert np.array_equal(np.asarray(received), pixels)


def test_sixel_draws_every_pixel_in_its_colour(picture):
    pixels, file = picture
    drawn = read_sixel(picture_sequence("sixel", file))
    assert drawn.shape == pixels.shape
    # Sixel colours are per cent, and there are 128 of them.
    assert np.abs(drawn.astype(int) - pixels).max() <= 6


def read_sixel(sent):
    """A reader of the protocol: size, palette, then bands of signs with run lengths."""
    head, width, height, body = re.fullmatch(r'(\x1bP0;1q)"1;1;(\d+);(\d+)(.*)\x1b\\\n', sent, re.DOTALL).groups()
    assert head
    drawn = np.full((-(-int(height) // 6) * 6, int(width), 3), 77, dtype=np.uint8)
    palette, colour, x, top = {}, 0, 0, 0
    for define, values, select, repeat, sign, move in re.findall(
        r"#(\d+);2;(\d+;\d+;\d+)|#(\d+)|(?:!(\d+))?([?-~])|([$-])", body
    ):
        if define:
            palette[define] = np.array([round(int(v) * 2.55) for v in values.split(";")], dtype=np.uint8)
        elif select:
            colour = select
        elif sign:
            for bit in range(6):
                if (ord(sign) - 63) >> bit & 1:
                    drawn[top + bit, x : x + int(repeat or 1)] = palette[colour]
            x += int(repeat or 1)
        else:
            x, top = 0, top + (6 if move == "-" else 0)
    return drawn[: int(height)]


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
    ],
)
def test_pictures_go_only_to_terminals_that_say_they_can(environment, protocol):
    assert picture_protocol(environment) == protocol
