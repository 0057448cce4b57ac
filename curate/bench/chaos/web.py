"""A web server on loopback with the pictures that a run downloads; slow enough to be caught at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

from curate.errors import CurateError

SECONDS_PER_PICTURE = 0.03


class _Pictures(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SECONDS_PER_PICTURE)
        super().do_GET()

    def copyfile(self, source: object, outputfile: object) -> None:
        try:
            super().copyfile(source, outputfile)  # type: ignore[arg-type]
        except (BrokenPipeError, ConnectionResetError):
            # Who asked was killed: that is what it is for.
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed in the middle is no error here."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """Serve a folder.

    Raises:
        CurateError: somebody else listens on the port.
    """
    try:
        server = _Server(("127.0.0.1", port), partial(_Pictures, directory=str(folder)))
    except OSError as error:
        raise CurateError(
            f"port {port} of loopback is taken ({error}), and the addresses in {folder} name it. Name a new --work."
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
