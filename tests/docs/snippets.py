"""Code blocks of a page, run as a reader would: in order, in one folder, the Python blocks in one session.

Fenced blocks are run; indented ones are what a test cannot do, such as installing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One block: its language, bash or python, its text, and the line of the page that it starts at."""

    language: str
    code: str
    line: int


def snippets_of(page: str) -> list[Snippet]:
    """The bash and Python blocks of a page below docs/, or of another file of the project, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Snippet(found["language"], found["code"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


def run_page(page: str, folder: Path, replace: Mapping[str, str] | None = None, check: str = "") -> str:
    """Run the blocks of a page; returns what they printed.

    Bash blocks come before Python blocks, which share one process.

    Args:
        page: relative to the project.
        folder: working directory.
        replace: what stands for parts of the blocks, each of which must be there: a model that a test can train.
        check: Python that runs after the page's own, in the same process.
    """
    blocks = snippets_of(page)
    code = {language: [_marked(page, each) for each in blocks if each.language == language] for language in _RUN}
    code["python"].append(check)
    joined = {language: "\n".join(parts) for language, parts in code.items()}
    for old, new in (replace or {}).items():
        assert any(old in text for text in joined.values()), f"{page} does not say {old!r}"
        joined = {language: text.replace(old, new) for language, text in joined.items()}
    return "".join(run([*_RUN[language], text], folder) for language, text in joined.items() if text.strip())


def run(command: Sequence[str], folder: Path) -> str:
    """Run a command in a folder, with this checkout's `curate` and without any network; returns what it printed."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    offline = {"HF_HOME": str(folder / ".cache"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **offline, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def losses(log: str) -> list[float]:
    """The loss after each step that open_clip's trainer told of."""
    return [float(loss) for loss in re.findall(r"Train Epoch: 0 .* Loss: ([\d.]+) \([\d.]+\)$", log, re.MULTILINE)]


_RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def _marked(page: str, snippet: Snippet) -> str:
    return f"# {page}, line {snippet.line}\n{snippet.code}"
