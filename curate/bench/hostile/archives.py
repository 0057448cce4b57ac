"""Tars whose members, headers or ends are not what they should be."""

from __future__ import annotations

import gzip
import random
import tarfile
from collections.abc import Callable, Iterable

from curate.bench.hostile.inputs import Damage, ExpectedRow, HostileFile
from curate.bench.hostile.pictures import four_quarters, saved
from curate.schema import Status

OK = frozenset({Status.OK})
_BLOCK = 512
_PICTURE = saved(four_quarters(), "PNG")
_NO_DATA = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)


def _header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def _member(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + bytes(-len(content) % _BLOCK)


def _pairs(keys: Iterable[str]) -> bytes:
    return b"".join(_member(f"{key}.png", _PICTURE) + _member(f"{key}.txt", b"a dog") for key in keys)


def _rows(keys: Iterable[str]) -> tuple[ExpectedRow, ...]:
    return tuple(ExpectedRow(key, OK) for key in keys)


def _tar(content: bytes) -> bytes:
    return content + bytes(2 * _BLOCK)


def _some_keys(draw: random.Random) -> tuple[list[str], list[str]]:
    return ([f"b{n}" for n in range(draw.randrange(1, 5))], [f"e{n}" for n in range(draw.randrange(1, 5))])


def _between(
    middle: Callable[[random.Random], bytes], errors: bool | None = None
) -> Callable[[random.Random], HostileFile]:
    """Good pairs with something between them that is no row."""

    def build(draw: random.Random) -> HostileFile:
        before, after = _some_keys(draw)
        content = _tar(_pairs(before) + middle(draw) + _pairs(after))
        return HostileFile(".tar", content, _rows([*before, *after]), errors)

    return build


def _escaping_names(draw: random.Random) -> HostileFile:
    """The names are keys, and never paths."""
    before, after = _some_keys(draw)
    name = draw.choice(["../../etc/passwd", "/etc/passwd", "/home/ann/.ssh/authorized_keys", "..", "a/../../../tmp/x",
                        "C:\\windows\\system32", "\\\\host\\share\\x", "~/x", "x" * 3000])  # fmt: skip
    key = name if not name.endswith("..") else f"{name}/x"
    content = _tar(_pairs(before) + _pairs([key]) + _pairs(after))
    return HostileFile(".tar", content, _rows([*before, key, *after]))


def _names_with_escapes(draw: random.Random) -> HostileFile:
    key = draw.choice(["\x1b[2J\x1b[31mred", "a\nb", "\u202egpj", "bell\a", "<script>", "=1+1", " "])
    return HostileFile(".tar", _tar(_pairs(["a", key])), _rows(["a", key]))


def _links_and_devices(draw: random.Random) -> bytes:
    kinds = [draw.choice(_NO_DATA) for _ in range(draw.randrange(1, 6))]
    target = draw.choice(["../../etc/passwd", "/etc/passwd", "/dev/zero", "b0.png"])
    return b"".join(_header(f"l{number}.png", 0, kind, target) for number, kind in enumerate(kinds))


def _truncated(draw: random.Random) -> HostileFile:
    keys = [f"k{number}" for number in range(draw.randrange(2, 8))]
    size = len(_pairs(keys[:1]))
    whole = draw.randrange(len(keys))
    # Inside the header of the next picture: nothing of that pair is there.
    return HostileFile(
        ".tar", _pairs(keys)[: whole * size + draw.randrange(1, _BLOCK)], _rows(keys[:whole]), errors=True
    )


def _cut_in_a_picture(draw: random.Random) -> HostileFile:
    keys = [f"k{number}" for number in range(draw.randrange(2, 8))]
    size = len(_pairs(keys[:1]))
    whole = draw.randrange(len(keys))
    rows = (*_rows(keys[:whole]), ExpectedRow(keys[whole], frozenset({Status.MISSING_IMAGE})))
    return HostileFile(".tar", _pairs(keys)[: whole * size + _BLOCK + draw.randrange(1, 50)], rows, errors=True)


def _mutated(draw: random.Random) -> HostileFile:
    content = bytearray(_tar(_pairs(f"k{number}" for number in range(draw.randrange(1, 6)))))
    for _ in range(draw.randrange(1, 20)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return HostileFile(".tar", bytes(content), rows=None)


def _mad_headers(draw: random.Random) -> HostileFile:
    """Random fields with right checksums, which a mere change of bytes would not have."""
    blocks = []
    for _ in range(draw.randrange(1, 8)):
        block = bytearray(
            _header(
                "k.png",
                draw.choice([0, 1, 511, 513, 2**33, 10**9]),
                draw.choice(b"01234567xgLKSVD\0").to_bytes(1, "big"),
            )
        )
        for _ in range(draw.randrange(0, 6)):
            block[draw.randrange(_BLOCK)] = draw.randrange(256)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        blocks.append(bytes(block) + draw.randbytes(draw.choice([0, 0, 512, 700])))
    return HostileFile(".tar", _pairs(["a"]) + b"".join(blocks) + _pairs(["z"]), rows=None)


def _huge_claim(draw: random.Random) -> HostileFile:
    """A member that claims to be larger than any disk; what it would hold is not there."""
    size = draw.choice([10**9, 2**33, 2**60])
    content = _pairs(["a"]) + _header("b.png", size) + b"x" * draw.randrange(0, 2000)
    return HostileFile(
        ".tar", content, (*_rows(["a"]), ExpectedRow("b", frozenset({Status.MISSING_IMAGE}))), errors=True
    )


def _long_name_bomb(draw: random.Random) -> bytes:
    """A long-name header that claims gigabytes; the member behind it keeps its own name."""
    return _header("././@LongLink", draw.choice([2**21, 2**32]), tarfile.GNUTYPE_LONGNAME)


def _pax_bomb(draw: random.Random) -> bytes:
    records = b"".join(b"6 a=%c\n" % draw.choice(b"xyz") for _ in range(draw.choice([10, 20_000]))) + bytes(7)
    return (
        _header("pax", len(records), tarfile.XHDTYPE)
        + records
        + bytes(-len(records) % _BLOCK)
        + _header("d/", 0, tarfile.DIRTYPE)
    )


def _nested(draw: random.Random) -> bytes:
    """A tar in a tar is a member of no kind, and is not opened."""
    inner = _tar(_pairs(["inner"]))
    for _ in range(draw.randrange(0, 5)):
        inner = _tar(_member("inner.tar", inner))
    return _member(draw.choice(["nested.tar", "nested.tar.gz", "nested.zip"]), inner)


def _gzip_bomb(draw: random.Random) -> HostileFile:
    """Zeros that take a thousandth of their size, under the name of a tar; nobody unpacks it."""
    packed = gzip.compress(bytes(draw.choice([1 << 16, 1 << 24])), 9, mtime=0)
    return HostileFile(draw.choice([".tar", ".tar.gz"]), packed, (), errors=True)


def _other_formats(draw: random.Random) -> HostileFile:
    head = draw.choice(
        [b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PAR1", b"<html>", b"\xff\xfe", b"\x7fELF"]
    )
    return HostileFile(".tar", head + draw.randbytes(draw.randrange(600, 3000)), (), errors=True)


def _empty(draw: random.Random) -> HostileFile:
    return HostileFile(".tar", b"", (), errors=True)


def _duplicates(draw: random.Random) -> HostileFile:
    keys = ["same"] * draw.randrange(2, 20)
    return HostileFile(".tar", _tar(_pairs(keys)), _rows(keys))


_ONLY_ROWS = "the pairs around it are rows, it is none"
_SAID = "no rows, and a shard error that says what it is"
_WHOLE = "rows for what came whole before, the rest is a shard error"

ARCHIVES: tuple[Damage, ...] = (
    Damage(
        "names such as ../../etc/passwd", "tar", "rows with that key; nothing is written under it", _escaping_names, 2
    ),
    Damage("names with escapes", "tar", "rows with that key, shown without them", _names_with_escapes),
    Damage("links and devices", "tar", _ONLY_ROWS, _between(_links_and_devices), 2),
    Damage("nested archives", "tar", _ONLY_ROWS, _between(_nested)),
    Damage("gzip bomb", "tar", _SAID, _gzip_bomb),
    Damage("another format", "tar", _SAID, _other_formats),
    Damage("empty file", "tar", _SAID, _empty, 0.5),
    Damage("cut in a header", "tar", _WHOLE, _truncated, 2),
    Damage("cut in a picture", "tar", f"{_WHOLE}; the cut pair is missing_image", _cut_in_a_picture, 2),
    Damage("member of claimed size", "tar", f"{_WHOLE}; the cut pair is missing_image", _huge_claim),
    Damage("long name of claimed size", "tar", _ONLY_ROWS, _between(_long_name_bomb, errors=True)),
    Damage("PAX record bomb", "tar", _ONLY_ROWS, _between(_pax_bomb)),
    Damage("the same key again and again", "tar", "a row each, marked as duplicate_key", _duplicates),
    Damage("mutated tar", "tar", "rows and shard errors, the same in every cut", _mutated, 3),
    Damage("mad headers", "tar", "rows and shard errors, the same in every cut", _mad_headers, 3),
)
