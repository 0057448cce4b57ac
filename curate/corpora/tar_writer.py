"""Tar files whose bytes depend on nothing but the names and contents of their members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""How a long job says where it stands: what it is doing, how much of it is done, how much there is to do."""

AddMember = Callable[[str, bytes], None]
"""Writes one regular file, by name and content, at the end of a tar."""


def ignore_progress(description: str, done: int, total: int) -> None:
    """The Progress of a caller who does not want to know."""


@contextmanager
def new_tar(path: Path) -> Iterator[AddMember]:
    """A tar of regular files in the order they are added: time 0, owner 0, mode 0644.

    The file is whole or absent: it takes its name when the block ends, and an error in the block leaves nothing.

    Args:
        path: where the tar goes; its folder is made if needed. A file that is there already is replaced.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
            yield lambda name, content: archive.addfile(_plain_header(name, len(content)), io.BytesIO(content))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar with these members, as `new_tar` does.

    Args:
        path: where the tar goes.
        members: name and content of each member. Read one at a time, so a generator keeps memory small.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    with new_tar(path) as add:
        for name, content in members:
            add(name, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _plain_header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    return header
