"""Pictures of the report for the documentation, light and dark, taken in a headless Chromium.

Usage, from the root of the repository: python -m docs.report_screenshots RUN [TRUTH]

RUN is a finished run whose pictures may be published, such as one of the clip art corpus (public domain); TRUTH is the
truth.parquet of an input that was corrupted on purpose. Writes docs/report-light.png and docs/report-dark.png.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from curate.report.build import make_report
from curate.store import RunStore
from tests.browser import Page

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 1280, 1660
COLOURS = 256
# What each picture begins with, and what is done to the page before.
VIEWS = {
    "light": ("body", "document.querySelector('[data-gallery=boundary]').click()"),
    "dark": ("#signals", "document.querySelector('[data-gallery=noisy]').click()"),
}


def main() -> None:
    """Take both pictures."""
    run, *truth = sys.argv[1:]
    page = make_report(RunStore(run), truth=Path(truth[0]) if truth else None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "report.html").write_text(page, encoding="utf-8")
        with Page(folder / "profile", WIDTH, HEIGHT) as shown:
            for scheme, (start, script) in VIEWS.items():
                shown.prefer(scheme)
                shown.open(folder / "report.html")
                shown.run(script)
                shown.run(f"document.querySelector('{start}').scrollIntoView()")
                shown.run("new Promise((done) => setTimeout(done, 300))")
                shown.screenshot(folder / "shot.png")
                _write(folder / "shot.png", FOLDER / f"report-{scheme}.png")


def _write(taken: Path, target: Path) -> None:
    """With fewer colours: a third of the size, and no eye sees it."""
    sink = io.BytesIO()
    with Image.open(taken) as image:
        image.convert("RGB").quantize(COLOURS).save(sink, "PNG", optimize=True)
    target.write_bytes(sink.getvalue())


if __name__ == "__main__":
    main()
