"""Parquet, JSONL and CSV files that lie about themselves, or hold what no table should."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.bench.hostile.inputs import Damage, ExpectedRow, HostileFile
from curate.bench.hostile.pictures import four_quarters, saved
from curate.schema import Status

OK = frozenset({Status.OK})
UNREADABLE = frozenset({Status.UNREADABLE_ROW})
MISSING_IMAGE = frozenset({Status.MISSING_IMAGE})
_PICTURE = saved(four_quarters(), "PNG")
_PAGE_HEADER_BYTES = 60
_FOREIGN = ("/etc/passwd", "file:///etc/passwd", "../../../../../../etc/hostname", "/dev/zero",
            "/dev/stdin", "/proc/self/mem",
            "http://169.254.169.254/latest/meta-data", "zip://x::file:///etc/passwd",
            "x\0y", "~/x",
            "", ".", "nobody://x")  # fmt: skip


def _parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def _good(rows: int, **options: Any) -> bytes:
    keys = [f"k{row}" for row in range(rows)]
    return _parquet({"key": keys, "png": [_PICTURE] * rows, "caption": ["aaaa dog"] * rows}, **options)


def _rows(rows: int, statuses: frozenset[Status] = OK) -> tuple[ExpectedRow, ...]:
    return tuple(ExpectedRow(f"k{row}", statuses) for row in range(rows))


def _lying_statistics(draw: random.Random) -> HostileFile:
    rows = draw.randrange(1, 20)
    content = _good(rows, write_statistics=True, use_dictionary=False)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    lie = content[:footer] + content[footer:].replace(b"aaaa dog", b"zzzz cat")
    return HostileFile(".parquet", lie, _rows(rows))


def _large_dictionary(draw: random.Random) -> HostileFile:
    """One long value that hundreds of rows refer to: the file is thousands of times smaller than what it says."""
    rows = draw.randrange(100, 600)
    keys = [f"k{row}" for row in range(rows)]
    columns = {"key": keys, "png": [_PICTURE] * rows, "caption": ["long " * 20_000] * rows}
    return HostileFile(".parquet", _parquet(columns, compression="zstd", use_dictionary=True), _rows(rows))


def _mad_pages(draw: random.Random) -> HostileFile:
    """Sizes, counts and encodings in the header of the first page, which is a dictionary, are changed."""
    content = bytearray(_good(draw.randrange(1, 30), use_dictionary=True))
    for _ in range(draw.randrange(1, 6)):
        content[4 + draw.randrange(_PAGE_HEADER_BYTES)] = draw.randrange(256)
    return HostileFile(".parquet", bytes(content), rows=None)


def _mad_footer(draw: random.Random) -> HostileFile:
    content = bytearray(_good(draw.randrange(1, 30), row_group_size=draw.randrange(1, 30)))
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(draw.randrange(1, 6)):
        content[draw.randrange(footer, len(content))] = draw.randrange(256)
    return HostileFile(".parquet", bytes(content), rows=None)


def _truncated_parquet(draw: random.Random) -> HostileFile:
    content = _good(5)
    return HostileFile(".parquet", content[: draw.randrange(1, len(content) - 4)], (), errors=True)


def _wrong_type(draw: random.Random) -> HostileFile:
    wrong = draw.choice([
        {"key": ["k0"], "png": [3.5], "caption": ["x"]},
        {"key": ["k0"], "png": [[_PICTURE]], "caption": ["x"]},
        {"key": ["k0"], "png": [{"a": 1}], "caption": ["x"]},
        {"key": ["k0"], "png": [_PICTURE], "caption": [["x"]]},
        {"key": ["k0"], "png": [_PICTURE], "caption": [{"en": "x"}]},
        {"key": ["k0"], "png": [_PICTURE], "text2": ["x"]},
        {"key": [{"k": 1}], "png": [_PICTURE], "caption": ["x"]},
    ])  # fmt: skip
    return HostileFile(".parquet", _parquet(wrong), refused=True)


def _no_row_groups(draw: random.Random) -> HostileFile:
    empty = pa.schema([("key", pa.string()), ("png", pa.binary()), ("caption", pa.string())]).empty_table()
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, empty.schema) as writer:
        for _ in range(draw.randrange(3)):
            writer.write_table(empty)
    return HostileFile(".parquet", sink.getvalue())


def _not_utf8(draw: random.Random) -> HostileFile:
    """Bytes that Parquet calls text."""
    raw = draw.choice([b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80"])
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(bytes(4) + len(raw).to_bytes(4, "little")), pa.py_buffer(raw)]
    )
    content = _parquet({"key": ["k0"], "png": [_PICTURE], "caption": text})
    return HostileFile(".parquet", content, _rows(1, frozenset({Status.CAPTION_NOT_UTF8})))


def _json_lines(draw: random.Random) -> HostileFile:
    """Broken records between whole ones whose pictures are not there."""
    lines, rows = (
        [json.dumps({"id": "k0", "image": "none.png", "caption": "x"}).encode()],
        [ExpectedRow("k0", MISSING_IMAGE)],
    )
    broken = (
        b"{",
        b"[1]",
        b"null",
        b"\xff",
        b"{'a': 1}",
        b"[" * 5000,
        b'{"a": ' * 5000,
        b'{"id": ' + b"1" * 6000 + b"}",
        b'{"caption"',
    )
    for row in range(1, draw.randrange(2, 30)):
        if draw.random() < 0.5:
            lines.append(draw.choice(broken))
            rows.append(ExpectedRow(f"{row:09d}", UNREADABLE))
        else:
            lines.append(json.dumps({"id": f"k{row}", "image": "none.png", "caption": "x"}).encode())
            rows.append(ExpectedRow(f"k{row}", MISSING_IMAGE))
    return HostileFile(".jsonl", b"\n".join(lines) + draw.choice([b"", b"\n", b"\n\n\r\n"]), tuple(rows))


def _foreign_paths(draw: random.Random) -> HostileFile:
    """Paths and addresses of what is none of the input's business: nothing of it comes into a column."""
    paths = [draw.choice(_FOREIGN) for _ in range(draw.randrange(1, 8))]
    lines = [json.dumps({"id": f"k{row}", "image": path, "caption": "x"}) for row, path in enumerate(paths)]
    return HostileFile(
        ".jsonl", "\n".join(lines).encode(), _rows(len(paths), frozenset({*MISSING_IMAGE, Status.CORRUPT_IMAGE}))
    )


def _comma_separated(draw: random.Random) -> HostileFile:
    lines, rows = [b"id,image,caption"], []
    broken = (b'kx,"a', b"kx", b"a,b,c,d,e", b'"x"y,b,c', b"\xff,\xfe")
    for row in range(draw.randrange(1, 30)):
        if draw.random() < 0.4:
            # A quote that is left open must not swallow the whole line behind it: that one has none.
            lines.append(draw.choice(broken))
            rows.append(ExpectedRow(f"{row:09d}", UNREADABLE))
        else:
            lines.append(b"k%d,none.png,=1+1" % row)
            rows.append(ExpectedRow(f"k{row}", MISSING_IMAGE))
    return HostileFile(".csv", b"\r\n".join(lines) + b"\r\n", tuple(rows))


def _mutated_text(draw: random.Random) -> HostileFile:
    suffix = draw.choice([".csv", ".jsonl", ".tsv"])
    line = b'{"id": "k", "image": "x", "caption": "y"}\n' if suffix == ".jsonl" else b"id,image,caption\n"
    content = bytearray(line * draw.randrange(2, 20))
    for _ in range(draw.randrange(1, 10)):
        content[draw.randrange(len(line), len(content))] = draw.randrange(256)
    # A .tsv with commas has no image column and is refused for that.
    return HostileFile(suffix, bytes(content).replace(b",", b"\t") if suffix == ".tsv" else bytes(content), rows=None)


def _other_format(draw: random.Random) -> HostileFile:
    suffix = draw.choice([".parquet", ".csv", ".jsonl"])
    head = draw.choice([b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"])
    return HostileFile(suffix, head + draw.randbytes(500), (), errors=True)


_MAYBE = "its rows, or none and a shard error"
_BROKEN_LINES = "unreadable_row each, the lines between them are rows"

TABLES: tuple[Damage, ...] = (
    Damage("Parquet with lying statistics", "table", "rows as its pages say", _lying_statistics),
    Damage("Parquet with a large dictionary", "table", "rows as its pages say, in time", _large_dictionary, 0.2),
    Damage("Parquet with mad pages", "table", _MAYBE, _mad_pages, 3),
    Damage("Parquet with a mad footer", "table", f"{_MAYBE}, or refused for a column", _mad_footer, 3),
    Damage("Parquet cut short", "table", "no rows, and a shard error", _truncated_parquet),
    Damage("Parquet column of a wrong type", "table", "refused, with the column's name", _wrong_type),
    Damage("Parquet without row groups", "table", "no rows", _no_row_groups),
    Damage("Parquet text that is not UTF-8", "table", "caption_not_utf8", _not_utf8),
    Damage("broken JSON lines", "table", _BROKEN_LINES, _json_lines, 2),
    Damage("broken CSV lines", "table", _BROKEN_LINES, _comma_separated, 2),
    Damage(
        "paths that are none of its business",
        "table",
        "missing_image or corrupt_image; nothing is fetched",
        _foreign_paths,
        2,
    ),
    Damage("mutated text table", "table", "a row per line, or refused for a column", _mutated_text, 2),
    Damage("another format", "table", "no rows, and a shard error that says what it is", _other_format),
)
