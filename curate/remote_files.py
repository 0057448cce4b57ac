"""Files on object stores, for everything that takes an fsspec filesystem: what fails for a moment is tried again."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from curate.retries import Retrying, RetryPolicy, TruncatedBodyError

# Its client and s3fs would try again by themselves: more often than is said, and uncounted.
_S3_CONFIG = {"retries": {"mode": "standard", "total_max_attempts": 1}}
_S3 = ("s3", "s3a")


def open_files(url: str, retrying: Retrying | None = None) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL, and the path in it; one that is not this machine's tries again.

    Args:
        url: a local path or an fsspec URL.
        retrying: how; default: the default policy, with waits of this process's own.

    Raises:
        ValueError, ImportError: the protocol is unknown, or its package is missing.
    """
    filesystem, path = fsspec.core.url_to_fs(url, **_options(url))
    if isinstance(filesystem, LocalFileSystem):
        return filesystem, path
    if url.partition("://")[0] in _S3:
        filesystem.retries = 1
    return RemoteFiles(filesystem, retrying or Retrying(RetryPolicy(), own_jitter())), path


def own_jitter() -> random.Random:
    """A generator that no other thread or machine has: workers that fail together do not come back together."""
    return random.Random(f"{socket.gethostname()} {os.getpid()} {threading.get_ident()}")


def _options(url: str) -> dict[str, Any]:
    protocol = url.partition("://")[0]
    if protocol not in _S3:
        return {}
    given: Mapping[str, Any] = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    config = {**given, **_S3_CONFIG, "http_session_cls": _once_session()}
    # Folders are listed because something may have changed.
    return {"config_kwargs": config, "use_listings_cache": False}


@cache
def _once_session() -> type:
    """A session of S3's client that sends a request once.

    aiohttp sends it a second time when a connection breaks, and has no setting for that. Where it no longer does it
    this way those requests are not counted, which changes nothing else.

    Raises:
        ImportError: the client is not installed.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class OnceSession(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False
            return session

    return OnceSession


class RemoteFiles(AbstractFileSystem):  # type: ignore[misc]
    """A filesystem whose requests are sent again while what goes wrong may pass.

    A file is put in one go, so that it is whole or absent. Bytes that do not come in full are asked for again. What
    lasts (no such file, no permission) is raised at once, as the OSError of the filesystem inside.
    """

    cachable = False

    def __init__(self, inner: AbstractFileSystem, retrying: Retrying) -> None:
        super().__init__()
        self._inner, self._retrying = inner, retrying
        self.protocol = inner.protocol

    def unstrip_protocol(self, name: str) -> str:
        """See fsspec."""
        return str(self._inner.unstrip_protocol(name))

    def invalidate_cache(self, path: str | None = None) -> None:
        """See fsspec."""
        self._inner.invalidate_cache(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        """See fsspec. What is there now: no listing is remembered."""
        return self._retried(path, lambda: self._inner.ls(path, detail=detail, **options))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """See fsspec. As it is now."""
        found: dict[str, Any] = self._retried(path, lambda: self._inner.info(path, **options))
        return found

    def exists(self, path: str, **options: Any) -> bool:
        """Whether it is there. A store that cannot be asked is an OSError, not a no."""
        try:
            self.info(path, **options)
        except FileNotFoundError:
            return False
        return True

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """See fsspec. A range comes in full, unless the object ends before it does."""
        if start is None or end is None or start < 0 or end < 0:
            return bytes(self._retried(path, lambda: self._inner.cat_file(path, start=start, end=end, **options)))
        return self._range(path, start, end, options)

    def _range(self, path: str, start: int, end: int, options: Mapping[str, Any]) -> bytes:
        def fetch() -> bytes:
            data = bytes(self._inner.cat_file(path, start=start, end=end, **options))
            if len(data) > end - start:
                # A server that knows of no ranges sends all.
                data = data[start:end]
            if len(data) < end - start and len(data) < min(end, int(self._inner.info(path)["size"] or 0)) - start:
                raise TruncatedBodyError(f"{path}: {len(data)} of {end - start} bytes came")
            return data

        return self._retried(path, fetch) if end > start else b""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> Any:
        """See fsspec; put once, whole.

        Raises:
            FileExistsError: mode is "create" and somebody else's file is there.
        """

        def put(again: bool) -> Any:
            try:
                return self._inner.pipe_file(path, value, mode=mode, **options)
            except FileExistsError:
                # The try that failed may have been the one that put it.
                if again and self.cat_file(path) == value:
                    return None
                raise

        return self._retrying(self._store(path), path, put)

    def rm_file(self, path: str) -> None:
        """See fsspec."""

        def remove(again: bool) -> None:
            try:
                self._inner.rm_file(path)
            except FileNotFoundError:
                if not again:
                    raise

        self._retrying(self._store(path), path, remove)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """A file for reading at any place. What is written is put in one go by `pipe_file`.

        Raises:
            ValueError: the mode is not "rb".
        """
        if mode != "rb":
            raise ValueError(f"{path}: opened with mode {mode}; only rb is possible, pipe_file writes")
        details = self.info(path)
        if details.get("size") is None:
            # A server that does not say how long its answer is can only be read from the beginning.
            return self._retried(path, lambda: self._inner.open(path, "rb", **options))
        return _RemoteFile(self, path, size=int(details["size"]), details=details, cache_type="readahead")

    def _retried(self, path: str, request: Any) -> Any:
        def ask(again: bool) -> Any:
            # A listing that was remembered must never make a file look absent.
            self._inner.invalidate_cache(path)
            self._inner.invalidate_cache(self._parent(path))
            return request()

        return self._retrying(self._store(path), path, ask)

    def _store(self, path: str) -> str:
        """What requests are counted under: protocol and bucket or host."""
        protocol, _, rest = self.unstrip_protocol(path).partition("://")
        return f"{protocol}://{rest.lstrip('/').partition('/')[0]}"


class _RemoteFile(AbstractBufferedFile):  # type: ignore[misc]
    """Reads ranges as `RemoteFiles` does."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start=start, end=end))
