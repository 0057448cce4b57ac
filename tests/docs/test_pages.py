"""The pages of the docs do what they say, snippet by snippet, on a small corpus."""

import json
import sys

import pytest

import curate as curate_library
from tests.corpus import write_corpus
from tests.docs.pages import run_page, snippets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory of the pages' reader: 160 pairs in data/web."""
    write_corpus(tmp_path / "data" / "web")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.slow
def test_python(folder, curate, capsys):
    (shown,) = [each.text for each in snippets("python.md") if each.language == "text" and "unknown key" in each.text]
    names = run_page("python.md", curate)
    out = capsys.readouterr().out
    assert shown in out
    assert out.startswith("Run('runs/web': 160 pairs: ")
    assert names["picture"].size == (48, 48)
    assert names["table"].num_rows == 160


@pytest.mark.slow
def test_write_a_stage(folder, curate):
    names = run_page("write-a-stage.md", curate)
    table = names["run"].to_pandas()
    assert table.words.tolist() == table.caption.str.split().str.len().tolist()
    assert table.sharp.tolist() == (table.sharpness > 50).tolist()
    assert table.sharpness.nunique() > 100
    kept = sum(json.loads((folder / "kept" / "sizes.json").read_text()).values())
    assert kept == (table.sharp & (table.noise_prob < 0.5)).sum() > 0
    assert isinstance(names["run"], curate_library.Run)


def test_the_error_that_the_page_shows_is_the_one_that_comes(folder, curate):
    (shown,) = [each.text for each in snippets("write-a-stage.md") if "requires 'concepts'" in each.text]
    files = {each.title: each.text for each in snippets("write-a-stage.md") if each.title}
    asking = files["my_stages.py"].replace("needs_pictures", 'requires = ("concepts",)\n    needs_pictures')
    (folder / "my_stages.py").write_text(asking)
    (folder / "pipeline.yaml").write_text(files["pipeline.yaml"])
    code, _, err = curate("plan", "pipeline.yaml")
    assert code == 2
    assert shown in err
