"""The pages build, every link leads somewhere, and the reference says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from curate.reference_pages import reference_pages

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_the_reference_is_in_step_with_the_code(pytestconfig):
    for name, text in reference_pages().items():
        found = (pytestconfig.rootpath / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert found == text, "regenerate: python -m curate.reference_pages docs/reference"


def test_the_site_builds_and_every_page_is_in_it(pytestconfig, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert 'not included in the "nav"' not in built.stderr, built.stderr


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(pytestconfig, name):
    page = pytestconfig.rootpath / name
    wrong = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not _leads_somewhere(page, link)]
    assert not wrong


def _leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or anchor in {_slug(line) for line in target.read_text(encoding="utf-8").splitlines()}


def _slug(line: str) -> str | None:
    if not line.startswith("#"):
        return None
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
