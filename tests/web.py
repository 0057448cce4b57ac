"""A web server on loopback that answers well or badly, and counts what it is asked."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """What lies where.

    Attributes:
        url: of the server, without a slash at the end.
        answers: by path.
        asked: how often each path was asked for.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()

    def put(self, path: str, answer: Answer | bytes) -> str:
        """Put an answer, or bytes as a picture, at a path; returns the URL."""
        self.answers[path] = sends(answer) if isinstance(answer, bytes) else answer
        return self.url + path


def sends(body: bytes, status: int = 200, **headers: str) -> Answer:
    """The usual answer; header names with "_" for "-"."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        named = {"Content_Type": "image/png", "Content_Length": str(len(body)), **headers}
        for name, value in named.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(location: str, status: int = 302) -> Answer:
    return sends(b"", status, Location=location)


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other; the last for ever."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def endless(pause: float, web: Web) -> Answer:
    """A body without length and end, a chunk every `pause` seconds."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not web.closing.wait(pause):
                handler.wfile.write(b"x" * 1000)
        except OSError:
            return

    return answer


def hangs(web: Web) -> Answer:
    """No answer at all."""
    return lambda handler: web.closing.wait(30) and None


def raw(data: bytes) -> Answer:
    """These bytes in place of an HTTP answer."""
    return lambda handler: handler.wfile.write(data) and None


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.asked[self.path] += 1
            web.headers.append(dict(self.headers))
            web.answers.get(self.path, sends(b"gone", 404))(self)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
