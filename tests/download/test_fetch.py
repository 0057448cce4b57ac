"""One address: what came, or why nothing came; within its time and size whatever the server does."""

import socket
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.download.fetch import Fetched, FetchOptions, fetch
from tests.web import endless, hangs, in_turn, raw, redirects, sends, serving

PICTURE = b"\x89PNG" + bytes(range(256)) * 600
OPTIONS = FetchOptions(
    timeout=5,
    retries=2,
    max_bytes=200_000,
    max_redirects=3,
    allow_private=True,
    user_agent="curate/1 (test)",
    refused_directives=("noai", "noindex"),
)


@pytest.fixture
def web():
    with serving() as web:
        yield web


def fetched(url, pauses=None, **changed):
    return fetch(url, replace(OPTIONS, **changed), (pauses if pauses is not None else []).append)


def test_bytes_stay_as_they_came(web):
    assert fetched(web.put("/a.png", PICTURE)) == Fetched(PICTURE, 200, None)
    assert web.headers[0]["User-Agent"] == "curate/1 (test)"
    assert web.headers[0]["Host"] == web.url.removeprefix("http://")


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "nonsense", ""])
def test_a_wrong_content_type_is_no_reason(web, kind):
    assert fetched(web.put("/a", sends(PICTURE, Content_Type=kind))).image == PICTURE


def test_a_web_page_is_no_picture(web):
    page = web.put("/page", sends(b"<html>not found</html>", Content_Type="text/html; charset=utf-8"))
    assert fetched(page) == Fetched(None, 200, "the answer is a web page, not a picture")


def test_what_is_gone_is_asked_for_once(web):
    assert fetched(f"{web.url}/gone") == Fetched(None, 404, "HTTP 404")
    assert web.asked["/gone"] == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(web, status):
    pauses = []
    url = web.put("/a", in_turn(sends(b"", status), sends(b"", status), sends(PICTURE)))
    assert fetched(url, pauses).image == PICTURE
    assert pauses == [1, 2]


def test_retries_end(web):
    pauses = []
    assert fetched(web.put("/a", sends(b"", 500)), pauses) == Fetched(None, 500, "HTTP 500")
    assert (web.asked["/a"], pauses) == (3, [1, 2])


@pytest.mark.parametrize(("asked", "pause"), [("3", 3), ("99999", 5), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("-1", 1)])
def test_the_server_says_when_to_come_again_within_limits(web, asked, pause):
    pauses = []
    url = web.put("/a", in_turn(sends(b"", 429, Retry_After=asked), sends(PICTURE)))
    assert fetched(url, pauses).image == PICTURE
    assert pauses == [pause]


def test_a_slow_server_is_left(web):
    started = time.monotonic()
    assert fetched(web.put("/a", hangs(web)), timeout=0.3).error == "timed out after 0.3 s"
    assert time.monotonic() - started < 2
    assert web.asked["/a"] == 1


def test_a_body_that_trickles_is_left(web):
    started = time.monotonic()
    assert fetched(web.put("/a", endless(0.05, web)), timeout=0.4).error == "timed out after 0.4 s"
    assert time.monotonic() - started < 2


def test_headers_that_trickle_are_left(web):
    def trickle(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not web.closing.wait(0.05):
            handler.wfile.write(b"X-A: b\r\n")

    started = time.monotonic()
    assert fetched(web.put("/a", trickle), timeout=0.4).error == "timed out after 0.4 s"
    assert time.monotonic() - started < 2


def test_an_endless_body_ends_at_the_limit(web):
    assert fetched(web.put("/a", endless(0, web))).error == "larger than 0.2 MB"


def test_what_says_that_it_is_too_large_is_not_read(web):
    url = web.put("/a", sends(b"", Content_Length="999999999999"))
    assert fetched(url) == Fetched(None, 200, "larger than 0.2 MB")


def test_the_limit_itself_is_not_too_large(web):
    assert fetched(web.put("/a", bytes(1000)), max_bytes=1000).image == bytes(1000)
    assert fetched(web.put("/b", bytes(1001)), max_bytes=1000).error == "larger than 0.001 MB"


def test_a_length_that_promises_more_is_a_broken_answer(web):
    url = web.put("/a", in_turn(sends(b"half", Content_Length="10"), sends(PICTURE)))
    assert fetched(url, retries=0).error == "the answer ended 6 bytes too early"
    assert fetched(url).image == PICTURE


def test_a_length_that_promises_less_bounds_what_is_read(web):
    assert fetched(web.put("/a", sends(b"whole", Content_Length="2"))).image == b"wh"


def test_chunks_that_break_off_are_a_broken_answer(web):
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"
    assert fetched(web.put("/a", raw(start))).error == "the connection broke off"
    assert web.asked["/a"] == 3


def test_an_empty_answer_is_no_picture(web):
    assert fetched(web.put("/a", b"")).error == "the answer is empty"


def test_compression_that_was_not_asked_for_is_refused(web):
    assert "compressed" in fetched(web.put("/a", sends(b"x", Content_Encoding="gzip"))).error


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 99999])
def test_what_is_no_http_is_told(web, garbage):
    assert fetched(web.put("/a", raw(garbage))).error.startswith("not a valid HTTP answer")


@given(data=st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_whatever_a_server_sends_becomes_an_outcome(data):
    with serving() as web:
        found = fetched(web.put("/a", raw(b"HTTP/1.1 200 OK\r\n" + data)), retries=0)
    assert (found.image is None) == (found.error is not None)
    assert found.error is None or found.error.isprintable()


def test_redirects_are_followed(web):
    web.put("/c/a.png", PICTURE)
    web.put("/b", redirects("c/a.png", 307))
    assert fetched(web.put("/a", redirects(f"{web.url}/b"))).image == PICTURE


def test_redirects_end(web):
    assert fetched(web.put("/a", redirects("/a"))).error == "redirected more than 3 times"
    assert web.asked["/a"] == 4
    assert fetched(web.put("/b", sends(b"", 302))).error == "HTTP 302 without a location"


def test_private_addresses_are_refused_by_default(web):
    found = fetched(web.put("/a", PICTURE), allow_private=False)
    assert found == Fetched(None, None, "address 127.0.0.1 is loopback")
    assert not web.asked


def test_a_redirect_to_a_private_address_is_refused(web, monkeypatch):
    """The first host is a public one to the check, as every address before the redirect is."""
    from curate.download import addresses

    known = addresses.refusal
    web.put("/a", redirects("http://10.0.0.1/inside"))
    monkeypatch.setattr(addresses, "refusal", lambda each: None if each == "127.0.0.1" else known(each))
    assert fetched(f"{web.url}/a", allow_private=False).error == "address 10.0.0.1 is private"


def test_the_address_that_was_checked_is_visited(web, monkeypatch):
    """A name that leads elsewhere at a second look-up changes nothing: there is none."""
    asked = []
    known = socket.getaddrinfo

    def rebinding(host, port, *more, **other):
        asked.append(host)
        return known("127.0.0.1" if len(asked) == 1 else "10.255.255.1", port, *more, **other)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = web.put("/a", PICTURE).replace("127.0.0.1", "rebinding.example")
    assert fetched(url).image == PICTURE
    assert asked == ["rebinding.example"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "data:image/png;base64,AA", "http://["])
def test_a_redirect_leads_to_http_only(web, location):
    assert "not a" in fetched(web.put("/a", redirects(location))).error


@pytest.mark.parametrize(
    "url", ["", "a.png", "file:///etc/passwd", "ftp://a/b", "http://", "http://[::1", "http://a:99999/"]
)
def test_what_is_no_web_address_is_told(url):
    found = fetched(url)
    assert found.image is None
    assert "not a" in found.error


@given(url=st.one_of(st.text(), st.text().map("http://127.0.0.1:1/".__add__)))
@settings(max_examples=100, deadline=None)
def test_any_text_becomes_an_outcome(url):
    found = fetched(url, retries=0, allow_private=False)
    assert found.image is None
    assert found.error


@pytest.mark.parametrize("path", ["/ä ö.png", "/a%20b.png", "/a?x=1&y=ü", "/a;b,c", "/%zz"])
def test_paths_are_sent_as_a_browser_would(web, path):
    from urllib.parse import quote

    sent = quote(path, safe="/?=&;,%")
    web.put(sent, PICTURE)
    assert fetched(web.url + path + "#part").image == PICTURE


@pytest.mark.parametrize(
    ("tag", "refused"),
    [
        ("noai", "robots: noai"),
        ("max-snippet:5", None),
        ("nofollow, NOAI", "robots: noai"),
        ("curate: noindex", "robots: noindex"),
        ("otherbot: noindex", None),
        ("nofollow", None),
    ],
)
def test_robots_tags_are_honoured(web, tag, refused):
    found = fetched(web.put("/a", sends(PICTURE, X_Robots_Tag=tag)))
    assert found.error == refused
    assert (found.image is None) == (refused is not None)


def test_nobody_there_is_told_after_retries():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    pauses = []
    assert fetched(f"http://127.0.0.1:{port}/a", pauses).error == "the connection is refused"
    assert pauses == [1, 2]


def test_https_needs_a_certificate(web):
    assert fetched(web.put("/a", PICTURE).replace("http:", "https:")).error == "no TLS connection"
