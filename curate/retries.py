"""What a store's failing request means, how long it is tried again, and how often that was needed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias, TypeVar

RetryCounts: TypeAlias = dict[str, dict[str, int]]
"""Requests that had to be sent again: by store (`s3://bucket`), then by what went wrong (`503 SlowDown`)."""

T = TypeVar("T")

TRUNCATED = "truncated body"
RESET = "connection reset"
REFUSED = "no connection"
TIMEOUT = "timeout"

_TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
# Answers of S3 that another try may change although their status says otherwise.
_TRANSIENT_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
# By name: the packages of stores need not be installed.
_BY_NAME = {
    "ClientConnectorError": REFUSED,
    "ClientOSError": RESET,
    "ClientPayloadError": TRUNCATED,
    "ConnectTimeoutError": TIMEOUT,
    "ConnectionClosedError": RESET,
    "ContentLengthError": TRUNCATED,
    "EndpointConnectionError": REFUSED,
    "FSTimeoutError": TIMEOUT,
    "HTTPClientError": RESET,
    "IncompleteRead": TRUNCATED,
    "IncompleteReadError": TRUNCATED,
    "ProxyConnectionError": REFUSED,
    "ReadTimeoutError": TIMEOUT,
    "ResponseParserError": TRUNCATED,
    "ServerDisconnectedError": RESET,
    "ServerTimeoutError": TIMEOUT,
}
_CLIENTS = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google"}


class TruncatedBodyError(OSError):
    """An object ended before its stated length."""


def transient_kind(error: BaseException) -> str | None:
    """What went wrong if another try may go well, in a few words; None: it will not.

    Only what lasts is None: no such object or bucket, no permission, a store that is full or read-only.
    """
    for each in _chain(error):
        kind = _kind_of(each)
        if kind is not None:
            return kind
    return None


def is_of_store(error: BaseException) -> bool:
    """Whether an exception comes from a store or its client, not from a mistake in a program."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The innermost first: s3fs turns what S3 said into something vaguer, botocore what a connection did."""
    inner = error.__cause__ or getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, BaseException) and inner is not error:
        yield from _chain(inner)
    yield error


def _kind_of(error: BaseException) -> str | None:
    status, code = _answer(error)
    if status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES:
        # A request without a body in its answer says no code.
        return f"{status} {code or HTTPStatus(status).phrase}" if status else code
    if status is not None:
        return None
    if isinstance(error, TruncatedBodyError):
        return TRUNCATED
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    if isinstance(error, ConnectionError):
        return RESET
    if isinstance(error, TimeoutError):
        return TIMEOUT
    names = (each.__name__ for each in type(error).__mro__)
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), None)


def _answer(error: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and error code of an answer, as botocore, aiohttp and gcsfs hold them."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(response.get("Error", {}).get("Code", ""))
        return status, None if code.isdigit() or not code else code
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return (status, None) if isinstance(status, int) and 400 <= status < 600 else (None, None)


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is tried again.

    Attributes:
        attempts: most tries, the first one too.
        first_seconds, most_seconds: a wait is drawn from the upper half of a limit that doubles from one to the other.
        budget_seconds: no further try begins this long after the first failure; a large file may take its time.
    """

    attempts: int = 10
    first_seconds: float = 0.1
    most_seconds: float = 10.0
    budget_seconds: float = 120.0

    def wait_seconds(self, failures: int, jitter: random.Random) -> float:
        """How long to wait after so many failures."""
        limit = min(self.most_seconds, self.first_seconds * 2.0 ** (failures - 1))
        return limit * (0.5 + 0.5 * jitter.random())


class RetryCounter:
    """Counts requests that are sent again. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> RetryCounts:
        """As of now."""
        with self._lock:
            found: RetryCounts = {}
            for (store, kind), count in sorted(self._counts.items()):
                found.setdefault(store, {})[kind] = count
            return found

    def add(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Count what was counted elsewhere too."""
        with self._lock:
            for store, kinds in counts.items():
                for kind, count in kinds.items():
                    self._counts[store, kind] += count


_counting: ContextVar[RetryCounter | None] = ContextVar("curate_retries", default=None)


@contextmanager
def counting_retries() -> Iterator[RetryCounter]:
    """Count what is sent again while the context is open, in this thread and those that were given its context.

    A context around it counts the same requests too.
    """
    counter, around = RetryCounter(), _counting.get()
    token = _counting.set(counter)
    try:
        yield counter
    finally:
        _counting.reset(token)
        if around is not None:
            around.add(counter.counts)


def count_retries(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Count what a worker sent again as if it had been sent here."""
    counter = _counting.get()
    if counter is not None:
        counter.add(counts)


class Retrying:
    """Sends a request again while what goes wrong may pass."""

    def __init__(
        self,
        policy: RetryPolicy,
        jitter: random.Random,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy, self._jitter, self._sleep, self._clock = policy, jitter, sleep, clock

    def __call__(self, store: str, what: str, request: Callable[[bool], T]) -> T:
        """What the request gives.

        Args:
            store: that it goes to, for the counts.
            what: it is about, for the message.
            request: told whether an earlier try failed: then the store may have done already what is asked for.

        Raises:
            OSError: it fails for good, or did so too often.
        """
        began, failures = 0.0, 0
        while True:
            try:
                return request(failures > 0)
            except Exception as error:
                kind = transient_kind(error)
                if kind is None:
                    raise _as_os_error(what, error) from error
                began = began if failures else self._clock()
                failures += 1
                wait = self._policy.wait_seconds(failures, self._jitter)
                gone = self._clock() - began
                if failures >= self._policy.attempts or gone + wait > self._policy.budget_seconds:
                    raise OSError(
                        f"{what}: failed {failures} times in {gone:.0f} s, at last: {kind}: {error}"
                    ) from error
            count_retries({store: {kind: 1}})
            self._sleep(wait)


def _as_os_error(what: str, error: Exception) -> Exception:
    """Clients raise what is no OSError for what a person has to mend: credentials that are missing."""
    if isinstance(error, OSError) or not is_of_store(error):
        return error
    return OSError(f"{what}: {type(error).__name__}: {error}")


def retries_text(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One line for each store, for a person: retried 37 requests to s3://bucket (503 SlowDown 20, timeout 17)."""
    return [_line(store, kinds) for store, kinds in counts.items()]


def _line(store: str, kinds: Mapping[str, int]) -> str:
    total = sum(kinds.values())
    told = ", ".join(
        f"{kind} {count:,}" for kind, count in sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    )
    return f"retried {total:,} request{'s' if total > 1 else ''} to {store} ({told})"
