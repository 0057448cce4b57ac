"""An S3 store on loopback that fails on purpose: moto's server behind a proxy that injects faults by a seed."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from curate.errors import InputError

INTERNAL_ERROR = "500"
SLOW_DOWN = "503"
RESET = "reset"
TRUNCATED = "truncated"
DELAY = "delay"
FAULTS = (INTERNAL_ERROR, SLOW_DOWN, RESET, TRUNCATED, DELAY)
"""What can be injected: two answers, a connection that is reset, a body that stops in the middle, a late answer."""

_DELAY_SECONDS = 0.2
_UPSTREAM_SECONDS = 60.0
_REGION = "us-east-1"
_LOOPBACK = "127.0.0.1"
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_ERRORS = {INTERNAL_ERROR: (500, "InternalError"), SLOW_DOWN: (503, "SlowDown")}
_END_WITH_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class ObjectStore:
    """A bucket on loopback and how to reach it.

    Attributes:
        url: `s3://` and the bucket.
        environment: variables for a process that is to reach the bucket through the faults.
        storage_options: the same for `s3fs.S3FileSystem`.
        calm_environment, calm_storage_options: past the faults, for preparing and comparing.
    """

    url: str
    environment: Mapping[str, str]
    storage_options: Mapping[str, str]
    calm_environment: Mapping[str, str]
    calm_storage_options: Mapping[str, str]
    _faults: Faults

    @property
    def injected(self) -> dict[str, int]:
        """Faults so far, by kind."""
        return self._faults.injected

    @property
    def requests(self) -> int:
        """Requests so far that came by the proxy, the disturbed ones too."""
        return self._faults.requests


@dataclass(frozen=True)
class Fault:
    """What happens to one request; `after`: once the store has done what it asked for, else instead of it."""

    kind: str
    after: bool


class Faults:
    """Draws what happens to each request in turn, and counts. Safe for threads."""

    def __init__(self, seed: int, rate: float, kinds: Sequence[str] = FAULTS) -> None:
        """Raises InputError for a kind that there is not, or a rate outside [0, 1)."""
        unknown = sorted(set(kinds) - set(FAULTS))
        if unknown or not 0 <= rate < 1:
            raise InputError(
                f"faults {', '.join(unknown) or rate}: there are {', '.join(FAULTS)}; a rate is in [0, 1)"
            )
        self._random, self._rate, self._kinds = random.Random(seed), rate, tuple(kinds)
        self._lock = threading.Lock()
        self._injected: Counter[str] = Counter()
        self._requests = 0

    @property
    def injected(self) -> dict[str, int]:
        """Faults so far, by kind."""
        with self._lock:
            return dict(self._injected)

    @property
    def requests(self) -> int:
        """Requests so far."""
        with self._lock:
            return self._requests

    def draw(self, has_body: bool) -> Fault | None:
        """What happens to the next request; None: nothing. Only an answer with a body can stop in the middle."""
        with self._lock:
            self._requests += 1
            hit, chosen, after = (self._random.random() for _ in range(3))
            kinds = [kind for kind in self._kinds if has_body or kind != TRUNCATED]
            if hit >= self._rate or not kinds:
                return None
            kind = kinds[int(chosen * len(kinds))]
            self._injected[kind] += 1
            return Fault(kind, after < 0.5)


@contextmanager
def faulty_store(seed: int, rate: float, kinds: Sequence[str] = FAULTS) -> Iterator[ObjectStore]:
    """An empty bucket that fails a share of its requests, for as long as the context is open.

    Args:
        seed: of the draws; the order of concurrent requests is not in its hands.
        rate: share of requests that are disturbed, in [0, 1).
        kinds: of `FAULTS`.

    Raises:
        InputError: moto or boto3 is not installed, there is no such kind, or the rate is out of range.
    """
    faults = Faults(seed, rate, kinds)
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise InputError(f"{error}. The faulty store needs moto: pip install 'moto[server]' s3fs") from error
    # It would log every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=_LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        name = f"chaos-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3", **_client_options(f"http://{host}:{port}"))
        client.create_bucket(Bucket=name)
        client.close()
        with _proxy_to(host, port, faults) as address:
            yield _reached(name, address, f"http://{host}:{port}", faults)
    finally:
        server.stop()


def copy_in(store: ObjectStore, folder: Path) -> None:
    """Put a folder into the bucket, past the faults."""
    _calm(store).put(str(folder), f"{store.url}/{folder.name}", recursive=True)


def copy_out(store: ObjectStore, folder: Path) -> None:
    """Bring what the bucket has under the folder's name, past the faults.

    A file that is there already as the bucket has it stays: one that was put again meanwhile is another.
    """
    files, root = _calm(store), f"{store.url}/{folder.name}".removeprefix("s3://")
    for name, about in files.find(root, detail=True).items():
        target, put = folder / name[len(root) + 1 :], about["LastModified"].timestamp()
        if target.exists() and target.stat().st_mtime == put:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.cat_file(name))
        os.utime(target, (put, put))


def count_objects(store: ObjectStore, folder: str) -> int:
    """How many objects lie directly in a folder of the bucket, past the faults."""
    try:
        return len(_calm(store).ls(f"{store.url}/{folder}", detail=False))
    except FileNotFoundError:
        return 0


def _calm(store: ObjectStore) -> Any:
    import s3fs

    return s3fs.S3FileSystem(**store.calm_storage_options, use_listings_cache=False)


def _reached(bucket: str, faulty: str, calm: str, faults: Faults) -> ObjectStore:
    return ObjectStore(
        f"s3://{bucket}",
        _environment(faulty),
        _storage_options(faulty),
        _environment(calm),
        _storage_options(calm),
        faults,
    )


def _client_options(endpoint: str) -> dict[str, str]:
    return {
        "endpoint_url": endpoint,
        "region_name": _REGION,
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "nothing",
    }


def _environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }


def _storage_options(endpoint: str) -> dict[str, str]:
    return {"endpoint_url": endpoint, "key": "nobody", "secret": "nothing"}


@contextmanager
def _proxy_to(host: str, port: int, faults: Faults) -> Iterator[str]:
    """The address of a proxy in front of a server."""

    class Handler(_Proxy):
        upstream = (host, port)
        drawn = faults

    with _Server((_LOOPBACK, 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), name="faulty-store", daemon=True)
        thread.start()
        try:
            yield f"http://{_LOOPBACK}:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A connection that is kept alive would be waited for.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or a connection that was reset here: nothing to tell."""


class _Proxy(BaseHTTPRequestHandler):
    """Passes requests on to the store, or does to them what is drawn."""

    protocol_version = "HTTP/1.1"
    upstream: tuple[str, int]
    drawn: Faults

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""

    def _handle(self) -> None:
        body = self._body()
        fault = self.drawn.draw(has_body=self.command == "GET")
        self.close_connection = True
        if fault is None:
            self._answer(*self._forward(body))
        elif fault.kind == DELAY:
            time.sleep(_DELAY_SECONDS)
            self._answer(*self._forward(body))
        elif fault.kind == TRUNCATED:
            self._answer(*self._forward(body), stop_early=True)
        else:
            if fault.after:
                self._forward(body)
            self._fail(fault.kind)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names that the base class asks for

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return self._chunks()
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _forward(self, body: bytes) -> tuple[int, HTTPMessage, bytes]:
        connection = HTTPConnection(*self.upstream, timeout=_UPSTREAM_SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: HTTPMessage, body: bytes, stop_early: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self._end_headers()
        if stop_early:
            self.wfile.write(body[: len(body) // 2])
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _end_headers(self) -> None:
        # A client renews by itself a connection that it kept, and would not tell of one that is reset.
        self.send_header("Connection", "close")
        self.end_headers()

    def _fail(self, kind: str) -> None:
        if kind == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_WITH_RESET)
            self.connection.close()
            return
        status, code = _ERRORS[kind]
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self._end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
