"""What a person who opens the page is promised: the right pairs, their pictures, nothing that a caption could do."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from curate.errors import InputError
from curate.report.build import make_report
from curate.report.findings import SAMPLED_PAIRS, gather
from curate.schema import annotation_table
from curate.state import TIMINGS_FILE, remember_config
from curate.steps import write_artifact
from curate.store import RunStore
from tests.conftest import Pipeline
from tests.report.synthetic import parts_of, write_run


def page_of(pipeline, **options):
    return make_report(RunStore(str(pipeline.output)), pipeline.config(), **options)


def cards(page):
    return re.findall(r'<li class="card">.*?</li>', page, re.DOTALL)


def data_of(page):
    (text,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def found_in(pipeline, pairs=10, examples=10):
    return gather(RunStore(str(pipeline.output)), pairs, examples)


def rows_of(findings, name):
    return next((gallery.rows for gallery in findings.galleries if gallery.name == name), ())


def test_every_pair_shown_has_its_picture_once(finished):
    page = page_of(finished)
    assert page.count("data:image/jpeg;base64,") == len(cards(page)) == len(data_of(page)["cards"]) > 60
    assert "No pictures" not in page
    keys = [re.search(r'alt="picture of the pair (\w+)"', card).group(1) for card in cards(page)]
    assert len(keys) == len(set(keys))


def test_galleries_hold_the_pairs_they_name(finished):
    table = pd.read_parquet(finished.output / "annotations")
    found = found_in(finished)
    noisiest = table.sort_values(["noise_rank", "row_id"], ascending=[False, True]).drop_duplicates("caption")
    assert [row["row_id"] for row in rows_of(found, "noisy")] == noisiest.row_id[:10].tolist()
    cleanest = table.sort_values(["noise_rank", "row_id"]).drop_duplicates("caption")
    assert [row["row_id"] for row in rows_of(found, "clean")] == cleanest.row_id[:10].tolist()
    distances = [abs(row["noise_prob"] - 0.5) for row in rows_of(found, "boundary")]
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(float((table.noise_prob - 0.5).abs().min()))
    assert {gallery.kind for gallery in found.galleries} == {"reason", "label"}


def test_examples_are_of_their_label_and_their_status(hostile):
    found = found_in(hostile)
    for gallery in found.galleries:
        if gallery.kind != "reason":
            kind, _, value = gallery.name.partition("-")
            assert {row[kind] for row in gallery.rows} == {value}
            assert 0 < len(gallery.rows) <= 10
    assert [row["caption"] for row in rows_of(found, "status-corrupt_image")] == ["a broken picture"]


def test_figures_are_those_of_the_annotations(finished):
    table = pd.read_parquet(finished.output / "annotations")
    found = found_in(finished)
    assert found.pairs == found.usable == found.scored == len(table) == 160
    assert found.noise.sum() == pytest.approx(table.noise_prob.sum(), rel=1e-6)
    assert found.labels == {
        **dict.fromkeys(("clean", "uncertain", "noisy"), 0),
        **table.label.value_counts().to_dict(),
    }
    half = len(found.counts) // 2
    assert found.counts[:half].sum() == (table.noise_prob < 0.5).sum()
    np.testing.assert_allclose(np.sort(found.sample.noise_prob), np.sort(table.noise_prob))
    assert found.copies == table.duplicate_of.notna().sum()


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """The store of a run of 300 pairs with concepts and completed captions, without pictures. Read only."""
    store = RunStore(str(tmp_path_factory.mktemp("made_up")))
    write_run(store, parts_of(300, 100))
    return store


def test_concepts_are_counted_with_what_their_captions_are_worth(made_up):
    table = pd.read_parquet(made_up.local_root / "annotations")
    found = gather(made_up, 10, 10)
    names = table.concepts.map(lambda row: [each["name"] for each in row])
    exploded = table.assign(name=names).explode("name").dropna(subset="name")
    counted = exploded.groupby("name").agg(pairs=("row_id", "size"), noise=("noise_prob", "sum"))
    assert {name: count.pairs for name, count in found.concepts.items()} == counted.pairs.to_dict()
    for name, count in found.concepts.items():
        assert count.noise == pytest.approx(counted.noise[name], rel=1e-5)
    assert list(found.concepts.values()) == sorted(found.concepts.values(), key=lambda count: -count.pairs)


def test_the_slider_says_what_the_annotations_say(finished):
    table = pd.read_parquet(finished.output / "annotations")
    curve = data_of(page_of(finished))["thresholds"]
    for place in (20, 100, 199):
        kept = table.noise_prob < (place + 1) / 200
        assert curve["kept"][place] == kept.sum()
        assert curve["residual"][place] == pytest.approx(table.noise_prob[kept].mean() if kept.any() else 0, abs=1e-5)
        assert curve["lost"][place] == pytest.approx((1 - table.noise_prob[~kept]).sum(), abs=0.01)


def test_what_completion_added_is_marked(made_up):
    page = make_report(made_up)
    table = pd.read_parquet(made_up.local_root / "annotations")
    believed = table[table.caption_source.isin(["synthetic", "merged"])]
    shown = [card for card in cards(page) if 'class="completed"' in card]
    assert shown
    for card in shown:
        key = re.search(r"key (\w+)", card).group(1)
        row = believed[believed.key == key].iloc[0]
        marked = re.search(r'class="completed" dir="auto">.*?</span> (.*?)</p>', card).group(1)
        assert re.sub(r"</?ins>", "", marked) == row.completed_caption
        for added in re.findall(r"<ins>(.*?)</ins>", marked):
            assert not set(added.lower().split()) & set(row.caption.lower().split())


def test_every_card_says_what_each_signal_said(finished):
    table = pd.read_parquet(finished.output / "annotations").set_index("key")
    for card in cards(page_of(finished))[:5]:
        signals = table.signals[re.search(r"key (\w+)", card).group(1)]
        said = dict(re.findall(r'<th scope="row">(\w+)</th><td class="number">([-\d.]+)</td>', card))
        assert said == {name: f"{value:.3f}" for name, value in signals.items() if value is not None}


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
    assert "Reliability diagram" not in page_of(finished)


def test_a_run_that_judges_no_pair_is_reported_all_the_same(tmp_path):
    store = RunStore(str(tmp_path))
    write_run(store, parts_of(40, 40))
    whole = store.read_table("annotations/part-00000000.parquet")
    kept = whole.select([name for name in whole.column_names if name in ("row_id", "shard", "row", "key", "caption",
                                                                        "status", "duplicate_key")])  # fmt: skip
    store.write_table("annotations/part-00000000.parquet", annotation_table(kept), {"fingerprint": "embedded"})
    page = make_report(store)
    assert len(cards(page)) == 40
    assert "words in a caption" in page
    assert not re.search(r'id="(threshold|signals|concepts)"', page)


def mixture(separable="yes", **more):
    figures = {"noise_share": 0.25, "noise_share_interval": [0.2, 0.3], "null_separation": 2.0, "separation": 2.1}
    moments = {name: {"noise": 0.5, "clean": 1.5} for name in ("means", "sds", "weights")}
    return {"method": "null", "separable": separable, "bic": None, **figures, **moments, **more}


def test_strata_with_posteriors_of_their_own_stand_in_a_table(tmp_path):
    store = RunStore(str(tmp_path))
    write_run(store, parts_of(300, 300))
    stratum = {"stratum": "site", "pairs": 200, "fit": "own", "reason": "enough pairs"}
    strata = {"<b>site</b>": mixture("weak", stratum=stratum)}
    write_artifact(store, "noise", {}, {"fingerprint": "f", "diagnostics": mixture(strata=strata)})
    page = make_report(store)
    assert "&lt;b&gt;site&lt;/b&gt;</th>" in page
    assert "enough pairs" in page
    assert "<strong>score</strong>" not in page
    assert "<strong>crossfit_csls</strong>" in page


def test_the_slowest_step_is_named(tmp_path):
    store = RunStore(str(tmp_path))
    write_run(store, parts_of(300, 300))
    store.write_json(TIMINGS_FILE, {"embed": 0.01, "noise": 0.001, "noise fit": 0.05})
    write_artifact(store, "noise", {}, {"fingerprint": "f", "diagnostics": {}, "fitted": {"fit_rows": 20}})
    page = make_report(store)
    assert "Slowest: <strong>embed</strong>" in page
    assert re.search(r">noise fit</th><td[^>]*>20</td><td[^>]*>20</td><td[^>]*>1.0</td>", page)
    assert re.search(r">embed</th><td[^>]*>300</td><td[^>]*>100</td><td[^>]*>3.0</td>", page)


def test_without_annotations_there_is_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="no annotations here"):
        make_report(RunStore(str(tmp_path)))


def test_a_large_run_is_sampled_and_says_so(tmp_path):
    store = RunStore(str(tmp_path))
    write_run(store, parts_of(30_000, 5_000))
    found = gather(store, 20, 5)
    assert found.pairs == 30_000
    assert found.usable == 29_700
    assert len(found.sample.noise_prob) == pytest.approx(SAMPLED_PAIRS, rel=0.05)
    page = make_report(store, pairs=20, examples=5)
    assert f"An even sample of {len(found.sample.noise_prob):,} of 29,700 usable pairs" in page
    assert len(page) < 500_000


def test_how_a_run_is_cut_into_parts_changes_no_word_of_the_page(tmp_path):
    pages = []
    for rows in (100, 300):
        store = RunStore(str(tmp_path / str(rows) / "run"))
        write_run(store, parts_of(300, 300))
        if rows != 300:
            whole = store.read_table("annotations/part-00000000.parquet")
            write_run(store, parts_of(300, rows))
            for number, first in enumerate(range(0, 300, rows)):
                facts = {"fingerprint": "synthetic", "noise": {"clean_below": 0.3, "noisy_above": 0.7}}
                store.write_table(f"annotations/part-{number:08d}.parquet", whole.slice(first, rows), facts)
        pages.append(make_report(store, pairs=20, examples=5))
    assert pages[0] == pages[1]
