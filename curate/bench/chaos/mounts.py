"""A disk of a trial's own, and a view of a folder that nothing can be written to. Linux only, for root only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from curate.errors import CurateError


def why_no_mounts() -> str | None:
    """Why file systems cannot be mounted here; None: they can."""
    if sys.platform != "linux":
        return "file systems are mounted on Linux only"
    if os.geteuid() != 0:
        return "only root may mount file systems"
    # A container's root may not: CAP_SYS_ADMIN is bit 21.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not effective >> 21 & 1:
        return "this container may not mount file systems"
    return _why_not_in_truth()


@cache
def _why_not_in_truth() -> str | None:
    """What root is told who tries; a sandbox may refuse what the capability allows."""
    with tempfile.TemporaryDirectory(prefix="curate-mounts-") as folder:
        disk = Path(folder) / "disk"
        try:
            mount_small_disk(disk, 1 << 20)
            try:
                make_read_only(disk)
                unmount(disk)
            finally:
                unmount(disk)
        except CurateError as refused:
            return str(refused)
    return None


def mount_small_disk(folder: Path, size: int) -> None:
    """An empty disk of so many bytes at a folder, in memory.

    Raises:
        CurateError: it cannot be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _do("mount", "-t", "tmpfs", "-o", f"size={size}", "curate-chaos", str(folder))


def make_read_only(folder: Path) -> None:
    """Whatever opens a file below the folder from now on cannot write to it; what is open stays as it is.

    Raises:
        CurateError: it cannot be mounted.
    """
    # Elsewhere first: a view through which somebody is writing cannot be made read-only.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="read-only-") as view:
        _do("mount", "--bind", str(folder), view)
        try:
            _do("mount", "-o", "remount,bind,ro", view)
            _do("mount", "--bind", view, str(folder))
        finally:
            unmount(Path(view))


def unmount(folder: Path) -> None:
    """Take the uppermost mount of a folder away; what is open in it stays open.

    Raises:
        CurateError: nothing is mounted there.
    """
    _do("umount", "--lazy", str(folder))


def unmount_below(folder: Path) -> None:
    """Take away what a killed bench left mounted."""
    if sys.platform != "linux":
        return
    root = str(folder.resolve())
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed([each for each in mounted if each.startswith(f"{root}/")]):
        unmount(Path(place))


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CurateError(f"{' '.join(command)}: {done.stderr.strip()}")
