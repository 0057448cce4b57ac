"""What a person who opens the page is promised: the right pairs, their pictures, nothing that a caption could do."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from curate.errors import InputError
from curate.report.build import make_report
from curate.report.charts import histogram_of, stacked_histogram
from curate.report.findings import gather
from curate.state import remember_config
from curate.store import RunStore
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_shard

EVIL = '</script><img src=x onerror="document.title=1"> {{ 7*7 }}'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, tiny_encoder):
    """A run over pairs whose captions try to get into the page, one picture of which is broken. Read only."""
    folder = tmp_path_factory.mktemp("hostile")
    pairs = make_pairs(158, seed=3)
    pairs += [(pairs[0][0], EVIL), (b"no picture", "a broken picture")]
    members = {f"{number:04d}.png": image for number, (image, _) in enumerate(pairs)}
    members |= {f"{number:04d}.txt": caption.encode() for number, (_, caption) in enumerate(pairs)}
    write_shard(folder / "00000.tar", sorted(members.items()))
    made = Pipeline(folder, folder / "run", tiny_encoder)
    made.run()
    return made


def page_of(pipeline, **options):
    return make_report(RunStore(str(pipeline.output)), pipeline.config(), **options)


def cards(page):
    return re.findall(r'<li class="card".*?</li>', page, re.DOTALL)


def test_every_pair_shown_has_its_picture(finished):
    page = page_of(finished)
    assert page.count("data:image/jpeg;base64,") == len(cards(page)) > 60
    assert "No pictures" not in page


def test_galleries_hold_the_pairs_they_name(finished):
    table = pd.read_parquet(finished.output / "annotations")
    found = gather(RunStore(str(finished.output)), 10)
    galleries = {gallery.name: gallery.rows for gallery in found.galleries}
    noisiest = table.sort_values(["noise_rank", "row_id"], ascending=[False, True]).drop_duplicates("caption")
    assert [row["row_id"] for row in galleries["noisy"]] == noisiest.row_id[:10].tolist()
    cleanest = table.sort_values(["noise_rank", "row_id"]).drop_duplicates("caption")
    assert [row["row_id"] for row in galleries["clean"]] == cleanest.row_id[:10].tolist()
    distances = [abs(row["noise_prob"] - 0.5) for row in galleries["boundary"]]
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(float((table.noise_prob - 0.5).abs().min()))
    assert galleries["unusable"] == ()


def test_figures_are_those_of_the_annotations(finished):
    table = pd.read_parquet(finished.output / "annotations")
    found = gather(RunStore(str(finished.output)), 5)
    assert found.pairs == len(table) == 160
    assert found.counts.sum() == 160
    assert found.noise.sum() == pytest.approx(table.noise_prob.sum(), rel=1e-6)
    assert found.labels == {
        **dict.fromkeys(("clean", "uncertain", "noisy"), 0),
        **table.label.value_counts().to_dict(),
    }
    half = len(found.counts) // 2
    assert found.counts[:half].sum() == (table.noise_prob < 0.5).sum()
    np.testing.assert_allclose(np.sort(found.sample["noise_prob"]), np.sort(table.noise_prob))


def test_the_slider_says_what_the_annotations_say(finished):
    table = pd.read_parquet(finished.output / "annotations")
    (text,) = re.findall(r'id="threshold-data">(.*?)</script>', page_of(finished))
    curve = json.loads(text)
    for place in (20, 100, 199):
        kept = table.noise_prob[table.noise_prob < (place + 1) / 200]
        assert curve["kept"][place] == len(kept)
        assert curve["residual"][place] == pytest.approx(kept.mean() if len(kept) else 0, abs=1e-5)


def test_captions_cannot_inject_anything(hostile):
    page = page_of(hostile)
    assert "onerror=&#34;document.title=1&#34;&gt; {{ 7*7 }}" in page
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:image/jpeg|#)', page)


def test_what_could_not_be_read_is_shown_with_its_reason(hostile):
    (broken,) = [card for card in cards(page_of(hostile)) if "a broken picture" in card]
    assert "corrupt_image" in broken
    assert "no picture" in broken


def test_a_run_remembers_its_input_and_says_when_it_is_gone(hostile, tmp_path, monkeypatch):
    moved = Pipeline(tmp_path / "shards", tmp_path / "run", hostile.raw["encoder"])
    shutil.copytree(hostile.output, moved.output)
    store = RunStore(str(moved.output))
    assert "does not say where its input is" in make_report(store)
    shutil.copytree(hostile.output.parent, tmp_path / "shards", ignore=shutil.ignore_patterns("run"))
    monkeypatch.chdir(tmp_path)
    moved.raw["input"]["path"] = "shards/*.tar"
    remember_config(store, moved.config())
    monkeypatch.chdir("/")
    assert make_report(store).count("data:image/jpeg") > 60
    (tmp_path / "shards" / "00000.tar").unlink()
    page = make_report(store)
    assert "the input cannot be read any more" in page
    assert "data:image/jpeg" not in page


def test_the_truth_is_drawn_where_it_is_known(finished, tmp_path):
    table = pd.read_parquet(finished.output / "annotations")
    wrong = table.noise_rank > 0.6
    pd.DataFrame({"row_id": table.row_id, "mismatched": wrong}).to_parquet(tmp_path / "truth.parquet")
    page = page_of(finished, truth=tmp_path / "truth.parquet")
    assert "AUROC 1.000" in page
    assert "Reliability diagram" in page


def test_without_annotations_there_is_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="no annotations here"):
        make_report(RunStore(str(tmp_path)))


def test_bars_add_up_to_the_pairs_and_stand_on_the_axis():
    values, probability = np.random.default_rng(0).normal(size=1000), np.full(1000, 0.25)
    edges, clean, noise = histogram_of(values, probability)
    assert clean.sum() + noise.sum() == pytest.approx(1000)
    assert noise.sum() == pytest.approx(250)
    chart = stacked_histogram(edges, clean, noise, "a signal")
    bars = re.findall(r'<rect class="(\w+)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart)
    feet = [float(y) + float(height) for kind, y, height in bars if kind == "clean"]
    assert feet == pytest.approx([170.0] * len(edges[1:]), abs=0.11)


@pytest.mark.parametrize("values", [[], [1.0] * 30, [np.nan] * 5])
def test_a_signal_without_spread_is_drawn_all_the_same(values):
    edges, clean, noise = histogram_of(np.array(values, dtype=float), np.full(len(values), 0.5))
    assert "<svg" in stacked_histogram(edges, clean, noise, "flat")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_the_page_works_in_a_browser(hostile, tmp_path):
    """The script ran, nothing complained, and the caption's own script did not run."""
    (tmp_path / "report.html").write_text(page_of(hostile))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    command += ["--enable-logging=stderr", "--v=0", "--dump-dom", f"file://{tmp_path}/report.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert re.search(r"\d+ of \d+ shown", done.stdout)
    assert re.search(r'id="threshold-kept">\d', done.stdout)
    assert re.search(r"<title>curate: run</title>", done.stdout)
