"""Captions that try to reach the reader, the terminal, the report or the tokenizer, and bytes that are no text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from curate.bench.hostile.inputs import Damage, HostilePair
from curate.bench.hostile.pictures import noise_picture, saved
from curate.schema import Status

OK = frozenset({Status.OK})
NOT_UTF8 = frozenset({Status.CAPTION_NOT_UTF8})
EMPTY = frozenset({Status.EMPTY_CAPTION})
MISSING = frozenset({Status.MISSING_CAPTION})

TEXTS: dict[str, tuple[str, ...]] = {
    "control characters": ("bell \a back \b\b\b\b over\rwritten", "a\x00b", "\x7f\x1f dog",
                           "\u2028line\u2029paragraph\x85"),
    "terminal escapes": (
        "\x1b[2J\x1b[H\x1b[31mred",
        "\x1b]0;title\x07 and \x1b]8;;http://evil.example\x1b\\link",
        "\x9b31m 8-bit",
        "\x1b]52;c;cm0gLXJmIC8=\x07",
        "\x1bP+q544e\x1b\\",
    ),
    "direction overrides": ("a \u202egnp.exe\u202c dog", "\u2066\u202d\u202b never closed", "\u200f\u061c\u200e"),
    "HTML and script": (
        "<script>alert(document.domain)</script>",
        '"><img src=x onerror=alert(1)>',
        "</script><svg onload=alert(1)>",
        "{{ 7*7 }}{% include '/etc/passwd' %}",
        "javascript:alert(1)//<!--",
        "[bold]not markup[/bold] [link=http://x]y[/link] [/]",
    ),
    "CSV formulas": ('=cmd|" /C calc"!A0', "+1+1", "-2+3", "@SUM(1+1)", "\t=1+1", '=HYPERLINK("http://x","y")'),
    "invisible characters": ("\u200b\ufeff\u00ad", "a\u0301" * 400, "\U000e0041",
                             "👩\u200d👩\u200d👧\u200d👦" * 50),
    "shell and paths": ("$(touch /tmp/x) `id` ; rm -rf /", "../../etc/passwd", "%s%n%x {__class__}",
                        "\\\\host\\share"),
}  # fmt: skip
BYTES: dict[str, tuple[bytes, ...]] = {
    "invalid UTF-8": (
        "café".encode("latin-1"),
        b"\xc0\xaf",
        b"a dog \xff\xfe",
        "犬".encode("shift_jis"),
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        "a dog".encode("utf-16"),
    ),
}


def _picture_of(draw: random.Random) -> tuple[str, bytes]:
    return "png", saved(noise_picture(draw), "PNG")


def _in_txt(content: bytes, statuses: frozenset[Status], draw: random.Random) -> HostilePair:
    caption = None if statuses == MISSING else _as_it_came(content)
    return HostilePair((_picture_of(draw), ("txt", content)), statuses, caption)


def _as_it_came(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _text(texts: tuple[str, ...]) -> Callable[[random.Random], HostilePair]:
    def build(draw: random.Random) -> HostilePair:
        text = draw.choice(texts)
        if draw.random() < 0.5:
            return _in_txt(text.encode(), OK if text.strip() else EMPTY, draw)
        record = json.dumps({"caption": text}, ensure_ascii=draw.random() < 0.5).encode()
        return HostilePair((_picture_of(draw), ("json", record)), OK if text.strip() else EMPTY, text)

    return build


def _bytes(contents: tuple[bytes, ...]) -> Callable[[random.Random], HostilePair]:
    return lambda draw: _in_txt(draw.choice(contents), NOT_UTF8, draw)


def _lone_surrogate(draw: random.Random) -> HostilePair:
    escape = draw.choice(["\\ud800", "\\udfff", "\\udc80", "\\ud83d x"])
    held = json.loads(f'"{escape}"')
    raw = _surrogate_bytes(f"a {held} dog")
    record = f'{{"caption": "a {escape} dog"}}'.encode()
    return HostilePair((_picture_of(draw), ("json", record)), NOT_UTF8, raw)


def _surrogate_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _blank(draw: random.Random) -> HostilePair:
    return _in_txt(draw.choice([b"", b" \n\t", "\u3000\u2003".encode()]), EMPTY, draw)


def _long_words(draw: random.Random) -> HostilePair:
    letters = draw.choice(["a", "ab", "abcdefghijklmnopqrstuvwxyz", "é", "犬", "!?"])
    return _in_txt("".join(draw.choices(letters, k=draw.randrange(1000, 30_000))).encode(), OK, draw)


def _long_caption(draw: random.Random) -> HostilePair:
    return _in_txt(b"word " * draw.randrange(1000, 20_000), OK, draw)


def _json_record(records: tuple[bytes, ...]) -> Callable[[random.Random], HostilePair]:
    return lambda draw: HostilePair((_picture_of(draw), ("json", draw.choice(records))), MISSING)


_BAD_JSON = (b"", b"{", b"null", b"[1, 2]", b'"text"', b"\xff\xfe{", b"[" * 20_000, b'{"a":' * 20_000,
             b'{"caption": NaN}',
             b'{"caption": {"a": 1}}', b'{"caption": null}', b'{"caption": ' + b"9" * 6000 + b"}",
             b"<html>")  # fmt: skip
_AS_IT_CAME = "ok, character by character as it came"

CAPTIONS: tuple[Damage, ...] = (
    *(Damage(name, "caption", _AS_IT_CAME, _text(texts)) for name, texts in TEXTS.items()),
    *(
        Damage(name, "caption", "caption_not_utf8; its bytes are kept", _bytes(contents), 2)
        for name, contents in BYTES.items()
    ),
    Damage("lone surrogates in JSON", "caption", "caption_not_utf8; their bytes are kept", _lone_surrogate),
    Damage("blank", "caption", "empty_caption", _blank),
    Damage("very long words", "caption", "ok, tokenised in time", _long_words),
    Damage("very long captions", "caption", "ok, tokenised in time", _long_caption),
    Damage("broken or nested JSON", "caption", "missing_caption", _json_record(_BAD_JSON), 2),
)
