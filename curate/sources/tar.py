"""A tar reader that never gives up: damage is reported with its place, and everything else is still read.

Positions are offsets in the whole file. Reading is memoryless: started at the first header of any member, it finds
what a reading from the beginning finds from there on. That is what lets a shard be cut into byte ranges.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from curate.sources.stores import Window

BLOCK = 512
# Long names and PAX records are text; more than this is damage, not a name.
MAX_EXTENSION_BYTES = 1 << 20

_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_PAX = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
_EXTENSIONS = {
    *_PAX,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XGLTYPE,  # global headers are skipped: nothing may depend on what stands far before a member
}
_WITHOUT_DATA = {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE}
_CHECKSUM_FIELD = re.compile(rb"^[ 0-7]+[ \0]*$")
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=")
_WRITE_AGAIN = "copy or download it again"
_NAME_CODEC = ("utf-8", "backslashreplace")
_OTHER_FORMATS = (
    (b"\x1f\x8b", "gzip-compressed: decompress it first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed: decompress it first (zstd -d)"),
    (b"BZh", "bzip2-compressed: decompress it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "xz-compressed: decompress it first (unxz)"),
    (b"PK\x03\x04", "a zip archive: unpack it and pack the files as tar"),
    (b"PAR1", "a Parquet file: set input.format to parquet"),
    (b"\xff\xfe", "UTF-16 text: convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it to UTF-8"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar.

    Attributes:
        name: as stored; bytes that are not UTF-8 are written as backslash escapes.
        start: offset of its first header (of the long-name or PAX header, if it has one).
        data: offset of its content.
        size: bytes of content.
        end: offset behind its last block, at most the end of what was scanned.
        damage: why the content cannot be used, or None.
    """

    name: str
    start: int
    data: int
    size: int
    end: int
    damage: str | None = None


@dataclass(frozen=True)
class Damage:
    """Something that is not readable as tar, and where."""

    offset: int
    error: str


@dataclass(frozen=True)
class _Extension:
    """What the long-name and PAX headers before a member's own header say about it."""

    start: int
    name: str | None = None
    size: int | None = None
    sparse: bool = False


def other_format(head: bytes) -> str | None:
    """What a file is, and what to do, if its first bytes are those of a well-known other format."""
    return next((what for magic, what in _OTHER_FORMATS if head.startswith(magic)), None)


def scan_tar(window: Window) -> Iterator[Member | Damage]:
    """Members and damage in the window, in file order. Never raises for bad content."""
    return _Scanner(window).scan()


class _Cut(Exception):  # noqa: N818 - not an error outside this module
    """The window ends inside something; carries what there is to say of it."""

    def __init__(self, *items: Member | Damage) -> None:
        self.items = items


class _Scanner:
    def __init__(self, window: Window) -> None:
        self._window = window
        self._position = window.start
        self._extension: _Extension | None = None
        self._members_seen = False
        self._closed = False

    def scan(self) -> Iterator[Member | Damage]:
        if self._window.start == self._window.end:
            yield Damage(self._window.start, f"the file is empty (0 bytes): {_WRITE_AGAIN}")
            return
        try:
            while self._position < self._window.end:
                yield from self._next()
        except _Cut as cut:
            yield from cut.items
            return
        if not self._closed:
            yield Damage(self._window.end, f"the tar has no end marker, so members may be missing: {_WRITE_AGAIN}")

    def _next(self) -> list[Member | Damage]:
        block = self._window.read_at(self._position, BLOCK)
        header = parse_header(block)
        if header is not None:
            self._members_seen, self._closed = True, False
            return self._extended(header) if header.type in _EXTENSIONS else self._member(header)
        if not block.strip(b"\0"):
            self._position += BLOCK
            self._extension, self._closed = None, True
            return []
        if len(block) < BLOCK and self._members_seen:
            raise _Cut(Damage(self._position, f"the tar ends inside a header: {_WRITE_AGAIN}"))
        return [self._resynchronised(block)]

    def _extended(self, header: tarfile.TarInfo) -> list[Member | Damage]:
        """Take in a header which only describes the next one."""
        start, data = self._position, self._position + BLOCK
        if header.size > MAX_EXTENSION_BYTES:
            self._position, self._extension = data, None
            return [Damage(start, f"a long-name header claims {header.size:,} bytes and is passed over")]
        if data + header.size > self._window.end:
            raise _Cut(Damage(start, f"the tar ends inside a long-name header: {_WRITE_AGAIN}"))
        payload = self._window.read_at(data, header.size)
        self._position = data + _padded(header.size)
        known = self._extension or _Extension(start)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            known = replace(known, name=payload.split(b"\0", 1)[0].decode(*_NAME_CODEC))
        elif header.type in _PAX:
            known, intact = _with_pax(known, payload)
            self._extension = known
            return [] if intact else [Damage(start, "a PAX header is damaged; the member behind it is kept")]
        self._extension = known
        return []

    def _member(self, header: tarfile.TarInfo) -> list[Member | Damage]:
        known = self._extension or _Extension(self._position)
        self._extension = None
        data = self._position + BLOCK
        if header.type in _WITHOUT_DATA:
            self._position = data
            return []
        size = header.size if known.size is None else known.size
        member = Member(known.name or header.name, known.start, data, size, self._window.end)
        if data + size > self._window.end:
            there = self._window.end - data
            what = f"the tar ends inside {member.name!r} ({there:,} of {size:,} bytes are there): {_WRITE_AGAIN}"
            unusable = replace(member, damage="the tar ends inside it")
            raise _Cut(*_if_regular(header, unusable), Damage(known.start, what))
        self._position = data + _padded(size)
        member = replace(member, end=min(self._position, self._window.end))
        if known.sparse or header.type == tarfile.GNUTYPE_SPARSE:
            what = f"{member.name!r} is stored as a sparse file and cannot be used: pack it again without --sparse"
            return [replace(member, damage="it is stored as a sparse file"), Damage(known.start, what)]
        return _if_regular(header, member)

    def _resynchronised(self, block: bytes) -> Damage:
        """Go to the next valid header, or to the end."""
        start, first = self._position, not self._members_seen
        foreign = other_format(block) if first and start == 0 else None
        if foreign is not None:
            raise _Cut(Damage(0, f"not a tar archive but {foreign}"))
        self._extension = None
        while self._position < self._window.end:
            self._position += BLOCK
            if parse_header(self._window.read_at(self._position, BLOCK)) is not None:
                skipped = self._position - start
                return Damage(start, f"no valid tar header; {skipped:,} bytes are passed over up to the next one")
        if first:
            raise _Cut(Damage(start, "not a tar archive: there is no valid tar header in it"))
        raise _Cut(Damage(start, "no valid tar header from here to the end of the file"))


def parse_header(block: bytes) -> tarfile.TarInfo | None:
    """The header in a block, or None if it is not one whose checksum is right."""
    if len(block) < BLOCK or not _CHECKSUM_FIELD.match(block[148:156]):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, *_NAME_CODEC)
    except tarfile.HeaderError:
        return None
    return header if header.size >= 0 else None


def _if_regular(header: tarfile.TarInfo, member: Member) -> list[Member | Damage]:
    return [member] if header.type in _REGULAR else []


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _with_pax(known: _Extension, payload: bytes) -> tuple[_Extension, bool]:
    """What PAX records say, and whether all of them were readable."""
    position, end_of_records = 0, len(payload.rstrip(b"\0"))
    while position < end_of_records:
        record = _PAX_RECORD.match(payload, position)
        end = position + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(payload) or payload[end - 1 : end] != b"\n":
            return known, False
        keyword, value = record[2], payload[record.end() : end - 1]
        if keyword == b"path" and value:
            known = replace(known, name=value.decode(*_NAME_CODEC))
        elif keyword == b"size":
            if not value.isdigit() or len(value) > 18:
                return known, False
            known = replace(known, size=int(value))
        elif keyword.startswith(b"GNU.sparse."):
            known = replace(known, sparse=True)
        position = end
    return known, True
