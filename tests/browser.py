"""A headless Chromium, driven over its own debugging pipe: no package, no port, no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 60.0


def find_browser() -> str | None:
    """Where a Chromium is, None if there is none on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page in a browser of its own.

    Args:
        profile: an empty folder.
        width, height: of the window, in pixels.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        browser = find_browser()
        assert browser is not None, "there is no Chromium here"
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        # Chromium reads commands from descriptor 3 and answers on 4.
        redirected = 'exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._commands.close()
        self._process.terminate()
        self._process.wait(timeout=_SECONDS)
        self._answers.close()

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        """Another window."""
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    def prefer(self, scheme: str) -> None:
        """What the page is told of its reader: light or dark."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, file: Path) -> float:
        """Open a page from disk; seconds until it was loaded and painted."""
        started = time.monotonic()
        self._send("Page.navigate", url=file.resolve().as_uri())
        self._wait_for("Page.loadEventFired")
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """The value of an expression in the page.

        Raises:
            AssertionError: it throws.
        """
        answer = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str | None = None) -> None:
        """A key of the keyboard, down and up; `code` is its Windows virtual key code."""
        typed = {} if text is None else {"text": text}
        for kind in ("keyDown", "keyUp"):
            self._send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self._send("Input.insertText", text=text)

    def accessible(self) -> list[dict[str, Any]]:
        """What a screen reader is told: every node that it does not pass over."""
        nodes: list[dict[str, Any]] = self._send("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def screenshot(self, file: Path, whole_page: bool = False, quality: int | None = None) -> None:
        """A picture of the window or of the whole page: PNG, or JPEG with a quality."""
        how = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        data = self._send("Page.captureScreenshot", captureBeyondViewport=whole_page, **how, **self._clip(whole_page))
        file.write_bytes(base64.b64decode(data["data"]))

    def _clip(self, whole_page: bool) -> dict[str, Any]:
        if not whole_page:
            return {}
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    @property
    def complaints(self) -> list[str]:
        """What the page wrote to the console, what it threw, and what it asked the network for."""
        said = []
        for event in self._events:
            kind, facts = event["method"], event["params"]
            if kind == "Runtime.consoleAPICalled":
                said.append(str([argument.get("value") for argument in facts["args"]]))
            elif kind == "Runtime.exceptionThrown":
                said.append(str(facts["exceptionDetails"]))
            elif kind == "Log.entryAdded":
                said.append(facts["entry"]["text"])
            elif kind == "Network.requestWillBeSent" and not facts["request"]["url"].startswith(("file:", "data:")):
                said.append(facts["request"]["url"])
        return said

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": number, "method": method, "params": parameters, **session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self._events.append(answer)

    def _wait_for(self, method: str) -> None:
        while True:
            event = self._next()
            self._events.append(event)
            if event.get("method") == method:
                return

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._answers.fileno(), 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))
