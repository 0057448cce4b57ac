"""A page whose captions are all hostile, in a real browser: they are text there, and nothing else."""

import pytest

from curate.bench.hostile.captions import TEXTS
from curate.report.build import make_report
from curate.store import RunStore
from tests.browser import Page, find_browser
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_shard

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine: apt-get install chromium")

HOSTILE = [text for texts in TEXTS.values() for text in texts]
PAIRS = 160
# Direction marks of a text end with the element whose text they are in.
NOT_ISOLATED = """[...document.body.querySelectorAll('*')].filter((element) =>
  [...element.childNodes].some((node) => node.nodeType === 3 && /[\\u202a-\\u202e\\u2066-\\u2069]/.test(node.data))
  && !/isolate|plaintext/.test(getComputedStyle(element).unicodeBidi))
  .map((element) => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("hostile-page")
    captions = [*HOSTILE, *("a dog" for _ in range(PAIRS - len(HOSTILE)))]
    pairs = [image for image, _ in make_pairs(PAIRS, seed=3)]
    members = []
    for number, (image, caption) in enumerate(zip(pairs, captions, strict=True)):
        key = f"{number:04d}<script>alert(3)<script>\u202e"
        members += [(f"{key}.png", image), (f"{key}.txt", caption.encode())]
    write_shard(folder / "<img src=x onerror=alert(2)>.tar", members)
    made = Pipeline(folder, folder / "run", tiny_encoder)
    made.run()
    (folder / "report.html").write_text(make_report(RunStore(str(made.output)), made.config()))
    with Page(folder / "profile") as opened:
        opened.open(folder / "report.html")
        yield opened


def test_no_script_of_a_caption_runs(page):
    assert page.run("document.querySelectorAll('.card').length") > 20
    assert page.run("document.scripts.length") == 2
    assert page.run("document.querySelectorAll('img:not([src^=\"data:image/jpeg;base64,\"])').length") == 0
    assert page.run("document.querySelectorAll('svg[onload], [onerror], a[href^=javascript]').length") == 0
    assert page.run("document.title") == "curate: run"
    assert page.complaints == []


def test_captions_are_shown_as_they_came(page):
    shown = page.run("[...document.querySelectorAll('.card .caption')].map((each) => each.textContent)")
    # The page's parser turns carriage returns into line feeds, and has no NUL.
    expected = {text for text in HOSTILE if "\0" not in text and "\r" not in text}
    assert {text for text in shown if text != "a dog"} & expected
    assert "</script><svg onload=alert(1)>" in shown


def test_a_direction_override_ends_with_its_text(page):
    assert page.run("document.body.textContent.includes('\\u202e')")
    assert page.run(NOT_ISOLATED) == []
