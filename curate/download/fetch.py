"""One picture from the web: checked addresses, bounded time and size, and what went wrong in words.

On the standard library's `http.client`, one connection for each request: libraries above it resolve a host's name
themselves, so that the address they visit need not be the one that was checked, and bound the time of one read, not of
an answer. Proxies that the environment names are not used.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from curate.download.addresses import AddressError, Endpoint, resolve

CHUNK_BYTES = 1 << 16
FIRST_PAUSE = 1.0
"""Seconds before the second try; each further pause is twice as long."""

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_TOO_MANY_REQUESTS = 429
# What may stand in a path or query as it is (RFC 3986, with "%" for what is escaped already).
_UNESCAPED = "!#$%&'()*+,/:;=?@[]~"
# Error pages that come with status 200.
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class FetchOptions:
    """How an address is fetched.

    Attributes:
        timeout: seconds for one try, redirects included; the look-up of a name takes what the resolver takes.
        retries: further tries where the server is busy or the connection breaks.
        max_bytes: of a picture.
        max_redirects: that are followed.
        allow_private: whether private, loopback, link-local and reserved addresses may be visited.
        user_agent: sent as such; its first word, without a version, is the name that X-Robots-Tag may speak to.
        refused_directives: of X-Robots-Tag, lower case: a picture sent with one of these is not taken.
    """

    timeout: float
    retries: int
    max_bytes: int
    max_redirects: int
    allow_private: bool
    user_agent: str
    refused_directives: tuple[str, ...]


@dataclass(frozen=True)
class Fetched:
    """What came of an address.

    Attributes:
        image: the bytes as they came; None if there are none.
        http_status: of the last answer; None if there was none.
        error: why there is no image.
    """

    image: bytes | None = None
    http_status: int | None = None
    error: str | None = None


class _Failed(Exception):  # noqa: N818 - becomes a row's error
    """Why a try came to nothing; `again`: another may not; `pause`: seconds that the server asks to wait before it."""

    def __init__(self, reason: str, http_status: int | None = None, again: bool = False, pause: float = 0) -> None:
        super().__init__(reason)
        self.http_status, self.again, self.pause = http_status, again, pause


def fetch(url: str, options: FetchOptions, sleep: Callable[[float], None] = time.sleep) -> Fetched:
    """Fetch a picture. Whatever goes wrong becomes its error.

    Tried again are 429, 5xx and broken connections. What took too long is not: most hosts that do not answer are dead.
    """
    failure = _Failed("not tried")
    for attempt in range(options.retries + 1):
        try:
            return Fetched(*_get(url, options))
        except _Failed as error:
            failure = error
        if not failure.again or attempt == options.retries:
            break
        sleep(max(FIRST_PAUSE * 2**attempt, min(failure.pause, options.timeout)))
    return Fetched(None, failure.http_status, str(failure))


class _Clock:
    """Seconds that are left of a try."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Raises TimeoutError if none are."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def _get(url: str, options: FetchOptions) -> tuple[bytes, int]:
    """Image and HTTP status of one try. Raises _Failed."""
    clock = _Clock(options.timeout)
    with _told(options):
        for _ in range(options.max_redirects + 1):
            with _answer(url, options, clock) as response:
                if response.status not in _REDIRECTS:
                    return _body(response, options), response.status
                status, location = response.status, response.headers.get("Location")
            if not location:
                raise _Failed(f"HTTP {status} without a location", status)
            # Header fields are bytes, read as Latin-1; browsers take these for UTF-8.
            url = urljoin(url, location.encode("latin-1", "replace").decode("utf-8", "surrogateescape"))
    raise _Failed(f"redirected more than {options.max_redirects} times", status)


@contextmanager
def _told(options: FetchOptions) -> Iterator[None]:
    """What networks and servers do wrong, in words. Nothing that a server sent stands in them."""
    try:
        yield
    except AddressError as error:
        raise _Failed(str(error), again=error.again) from None
    except TimeoutError:
        raise _Failed(f"timed out after {options.timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise _Failed(f"the certificate is not valid: {error.verify_message}") from None
    except ssl.SSLError:
        raise _Failed("no TLS connection") from None
    except ConnectionRefusedError:
        raise _Failed("the connection is refused", again=True) from None
    except (ConnectionError, http.client.IncompleteRead):
        raise _Failed("the connection broke off", again=True) from None
    except OSError as error:
        raise _Failed(f"no connection: {error.strerror}", again=True) from None
    except (http.client.HTTPException, ValueError) as error:
        raise _Failed(f"not a valid HTTP answer ({type(error).__name__})") from None


@dataclass(frozen=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def _target(url: str) -> _Target:
    """The parts of a URL. Raises _Failed."""
    try:
        parts = urlsplit(url.strip())
        port, name = parts.port, parts.hostname or ""
        host = name if name.isascii() else name.encode("idna").decode()
    except ValueError:
        raise _Failed("not a valid web address") from None
    if parts.scheme not in _PORTS:
        raise _Failed("not a web address: it does not begin with http:// or https://")
    if not host:
        raise _Failed("not a valid web address: it names no host")
    query = f"?{parts.query}" if parts.query else ""
    path = quote((parts.path or "/") + query, safe=_UNESCAPED, errors="surrogateescape")
    return _Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


@contextmanager
def _answer(url: str, options: FetchOptions, clock: _Clock) -> Iterator[http.client.HTTPResponse]:
    target = _target(url)
    endpoints = resolve(target.host, target.port, options.allow_private)
    with closing(_connect(endpoints, clock)) as raw, closing(_encrypted(raw, target)) as link:
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = _TimedSocket(link, clock)
        headers = {
            "Host": target.host_header,
            "User-Agent": options.user_agent,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        connection.request("GET", target.path, headers=headers)
        with closing(connection.getresponse()) as response:
            yield response


def _connect(endpoints: Sequence[Endpoint], clock: _Clock) -> socket.socket:
    """A connection to the first endpoint that accepts one; each gets its share of the time."""
    failure: OSError = OSError("no address")
    for place, endpoint in enumerate(endpoints):
        link = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            link.settimeout(clock.left() / (len(endpoints) - place))
            link.connect(endpoint.address)
        except OSError as error:
            link.close()
            failure = error
        else:
            link.settimeout(clock.left())
            return link
    raise failure


def _encrypted(link: socket.socket, target: _Target) -> socket.socket:
    return link if target.scheme == "http" else _tls().wrap_socket(link, server_hostname=target.host)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _TimedSocket:
    """What `http.client` needs of a socket; every byte that it waits for counts against one clock.

    A socket's own timeout begins anew with every byte that trickles in.
    """

    def __init__(self, link: socket.socket, clock: _Clock) -> None:
        self._link, self._clock = link, clock

    def sendall(self, data: bytes) -> None:
        self._link.settimeout(self._clock.left())
        self._link.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._link, self._clock))

    def close(self) -> None:
        """Whoever opened the socket closes it: the answer is still read when `http.client` lets go of it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, link: socket.socket, clock: _Clock) -> None:
        self._link, self._clock = link, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._link.settimeout(self._clock.left())
        return self._link.recv_into(buffer)


def _body(response: http.client.HTTPResponse, options: FetchOptions) -> bytes:
    """The picture of an answer that is no redirect. Raises _Failed."""
    status, headers = response.status, response.headers
    if status != http.client.OK:
        busy = status == _TOO_MANY_REQUESTS or status >= http.client.INTERNAL_SERVER_ERROR
        raise _Failed(f"HTTP {status}", status, busy, _seconds(headers.get("Retry-After")))
    directive = _refused_directive(headers.get_all("X-Robots-Tag", []), options)
    if directive is not None:
        raise _Failed(f"robots: {directive}", status)
    if headers.get_content_type() in _PAGES and "Content-Type" in headers:
        raise _Failed("the answer is a web page, not a picture", status)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Failed("the answer is compressed, which was not asked for", status)
    if (response.length or 0) > options.max_bytes:
        raise _too_large(options, status)
    chunks, size = [], 0
    while chunk := response.read(CHUNK_BYTES):
        size += len(chunk)
        if size > options.max_bytes:
            raise _too_large(options, status)
        chunks.append(chunk)
    if response.length:
        raise _Failed(f"the answer ended {response.length:,} bytes too early", status, again=True)
    if not size:
        raise _Failed("the answer is empty", status)
    return b"".join(chunks)


def _too_large(options: FetchOptions, status: int) -> _Failed:
    return _Failed(f"larger than {options.max_bytes / 1e6:g} MB", status)


def _seconds(retry_after: str | None) -> float:
    """What a Retry-After header asks for in seconds; 0 for a date."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0


def _refused_directive(tags: Sequence[str], options: FetchOptions) -> str | None:
    """The first refused directive of X-Robots-Tag headers, if it speaks to everyone or to us.

    As img2dataset reads them: `noai, noindex`, or `NAME: noai` for the user agent of that name.
    """
    ours = options.user_agent.partition(" ")[0].partition("/")[0].lower()
    for tag in tags:
        name, colon, rest = tag.lower().partition(":")
        if colon and name.strip() != ours:
            continue
        for directive in (rest if colon else name).split(","):
            if directive.strip() in options.refused_directives:
                return directive.strip()
    return None
