"""Runs the snippets of a page of the docs, in their order, in one folder: what the page shows is what happens."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?$")
Command = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    Attributes:
        language: python, yaml, sh, text...
        title: the file that it is; None: it is not one.
        text: what it holds.
        line: of the page, where its text begins.
    """

    language: str
    title: str | None
    text: str
    line: int


def snippets(page: str) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    found: list[Snippet] = []
    opened: re.Match[str] | None = None
    held: list[str] = []
    for number, line in enumerate((DOCS / page).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.startswith("```"):
            held.append(line)
        elif opened is None:
            opened, held = _FENCE.match(line), []
            assert opened, f"{page}:{number}: not understood: {line}"
        else:
            found.append(Snippet(opened["language"], opened["title"], "\n".join(held), number - len(held)))
            opened = None
    assert opened is None, f"{page}: a block has no end"
    return found


def run_page(page: str, command: Command) -> dict[str, Any]:
    """Run a page in the current directory; returns the names that its Python left.

    A block with a title is written to that file. Python without one is executed, in one namespace for the whole page.
    Lines of `sh` are commands of curate, each of which has to end well. Other blocks are shown only.

    Args:
        page: its file in docs/.
        command: runs one command of curate, given its arguments; returns (exit code, stdout, stderr).
    """
    names: dict[str, Any] = {}
    for snippet in snippets(page):
        if snippet.title is not None:
            Path(snippet.title).write_text(snippet.text + "\n", encoding="utf-8")
        elif snippet.language == "python":
            # Line numbers of a traceback are those of the page.
            text = "\n" * (snippet.line - 1) + snippet.text
            exec(compile(text, page, "exec"), names)
        elif snippet.language == "sh":
            _run_commands(page, snippet, command)
    return names


def _run_commands(page: str, snippet: Snippet, command: Command) -> None:
    for line in snippet.text.split("\n"):
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "curate", f"{page}:{snippet.line}: not a command of curate: {line}"
            code, _, err = command(*words[1:])
            assert code == 0, f"{page}:{snippet.line}: {line}: {err}"
