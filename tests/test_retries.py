"""What passes is tried again for a bounded time and counted; what lasts is raised at once."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from curate.retries import (
    Retrying,
    RetryPolicy,
    TruncatedBodyError,
    count_retries,
    counting_retries,
    retries_text,
    transient_kind,
)


class AnswerError(Exception):
    """As botocore has it: the answer of a store."""

    def __init__(self, status, code):
        super().__init__(f"{status} {code}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


class ConnectTimeoutError(Exception):
    """Named as a client names it."""


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AnswerError(503, "SlowDown"), "503 SlowDown"),
        (AnswerError(500, "InternalError"), "500 InternalError"),
        (AnswerError(502, ""), "502 Bad Gateway"),
        (AnswerError(503, "503"), "503 Service Unavailable"),
        (AnswerError(400, "RequestTimeout"), "400 RequestTimeout"),
        (caused(OSError(16, "busy"), AnswerError(503, "SlowDown")), "503 SlowDown"),
        (ConnectionResetError(), "connection reset"),
        (ConnectionRefusedError(), "no connection"),
        (TimeoutError(), "timeout"),
        (ConnectTimeoutError(), "timeout"),
        (TruncatedBodyError(), "truncated body"),
        (AnswerError(403, "AccessDenied"), None),
        (AnswerError(404, "NoSuchBucket"), None),
        (AnswerError(412, "PreconditionFailed"), None),
        (AnswerError(507, "StorageFull"), None),
        (caused(PermissionError(), AnswerError(403, "AccessDenied")), None),
        (FileNotFoundError(), None),
        (OSError(28, "No space left on device"), None),
        (OSError(30, "Read-only file system"), None),
        (ValueError(), None),
    ],
)
def test_what_passes_is_told_from_what_lasts(error, kind):
    assert transient_kind(error) == kind


class Clock:
    """Time that only passes while somebody waits."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.waits.append(seconds)


def failing(times, error=ConnectionResetError):
    """A request that fails so many times, then tells whether it was tried before."""
    left = [times]

    def request(again):
        if left[0]:
            left[0] -= 1
            raise error("no")
        return again

    return request


def retrying(clock, seed=0, **policy):
    return Retrying(RetryPolicy(**policy), random.Random(seed), clock.sleep, clock)


def test_a_request_is_sent_again_until_it_goes_well_and_counted():
    clock = Clock()
    with counting_retries() as retried:
        assert retrying(clock)("s3://b", "s3://b/x", failing(3)) is True
        assert retrying(clock)("s3://b", "s3://b/x", failing(0)) is False
    assert retried.counts == {"s3://b": {"connection reset": 3}}


def test_waits_double_within_their_limits_and_come_from_the_seed():
    one, same, other = Clock(), Clock(), Clock()
    for clock, seed in ((one, 1), (same, 1), (other, 2)):
        retrying(clock, seed, first_seconds=1.0, most_seconds=8.0)("s", "x", failing(6))
    assert one.waits == same.waits != other.waits
    limits = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(one.waits, limits, strict=True))


def test_tries_are_bounded_in_number():
    clock = Clock()
    with (
        counting_retries() as retried,
        pytest.raises(OSError, match=r"s3://b/x: failed 4 times in .* connection reset: no"),
    ):
        retrying(clock, attempts=4)("s3://b", "s3://b/x", failing(100))
    assert len(clock.waits) == 3
    assert retried.counts == {"s3://b": {"connection reset": 3}}


def test_tries_are_bounded_in_time():
    clock = Clock()
    with pytest.raises(OSError, match="failed"):
        retrying(clock, attempts=1000, budget_seconds=30.0)("s3://b", "s3://b/x", failing(1000))
    assert 10 < clock.now <= 30


def test_what_lasts_is_raised_at_once():
    clock = Clock()
    with counting_retries() as retried, pytest.raises(PermissionError):
        retrying(clock)("s3://b", "s3://b/x", failing(1, PermissionError))
    assert clock.waits == []
    assert retried.counts == {}


def test_a_mistake_in_a_program_stays_what_it_is():
    with pytest.raises(KeyError):
        retrying(Clock())("s3://b", "s3://b/x", failing(1, KeyError))


def test_a_context_counts_what_is_counted_inside_it_and_in_threads_that_have_it():
    with counting_retries() as whole:
        with counting_retries() as step:
            count_retries({"s3://b": {"timeout": 2}})
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, count_retries, {"s3://b": {"timeout": 1, "503 SlowDown": 1}}).result()
    assert step.counts == {"s3://b": {"timeout": 2}}
    assert whole.counts == {"s3://b": {"503 SlowDown": 1, "timeout": 3}}


def test_counts_are_told_in_one_line_for_each_store():
    counts = {"s3://a": {"connection reset": 17, "503 SlowDown": 1020}, "s3://b": {"timeout": 1}}
    assert retries_text(counts) == [
        "retried 1,037 requests to s3://a (503 SlowDown 1,020, connection reset 17)",
        "retried 1 request to s3://b (timeout 1)",
    ]
