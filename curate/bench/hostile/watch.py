"""What a process does to the world outside of one folder, as the interpreter's own audit events tell it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.link": (1,),
    "os.chmod": (0,),
    "os.truncate": (0,),
}
_NEVER = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")


class Watch:
    """Refuses and remembers every write outside of a folder, every process and every connection.

    It sees what goes through Python, for the whole life of the process; what a C library writes by itself it does not
    see: for that, compare a `snapshot` of the surroundings.
    """

    def __init__(self, allowed: Path) -> None:
        self._allowed = os.path.realpath(allowed) + os.sep
        self._seen: list[str] = []
        sys.addaudithook(self._hear)

    def taken(self) -> list[str]:
        """What was refused since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            wanted = set(mode or "") & set("wax+") or (isinstance(flags, int) and flags & _WRITING)
            paths = [path] if wanted else []
        elif event in _CHANGES:
            paths = [arguments[place] for place in _CHANGES[event]]
        elif event in _NEVER:
            self._refuse(f"{event} {arguments[0]!r}")
            return
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes) and not self._is_allowed(os.fsdecode(path)):
                self._refuse(f"{event} {path!r}")

    def _is_allowed(self, path: str) -> bool:
        # The folder of a link counts, not what is written about it: a rename replaces the link itself.
        where = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
        return f"{where}{os.sep}".startswith(self._allowed) or path == os.devnull

    def _refuse(self, what: str) -> None:
        self._seen.append(what)
        raise PermissionError(f"outside of the output: {what}")


def snapshot(folder: Path, without: Path) -> dict[str, tuple[int, int, bytes]]:
    """Size, time of change and content of all files in a folder at any depth, but not those in `without`."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != without]
        for name in [*files, *folders]:
            file = Path(root, name)
            status = file.lstat()
            is_file = file.is_file() and not file.is_symlink()
            found[str(file)] = (status.st_size, status.st_mtime_ns, file.read_bytes() if is_file else b"")
    return found
