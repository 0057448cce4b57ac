"""Charts say what the figures say, and nothing that a corpus says gets into their markup."""

import re

import numpy as np
import pytest

from curate.report.charts import bins_of, densities, stacked_histogram, two_histograms, word_map

EDGES = np.linspace(0, 3, 4)


def bars(chart):
    found = re.findall(r'<rect class="(\w+)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart)
    return [(kind, float(y), float(height)) for kind, y, height in found]


def points(chart, kind):
    (text,) = re.findall(rf'<polyline class="{kind}" points="([^"]*)"', chart)
    return [tuple(map(float, point.split(","))) for point in text.split()]


def test_bars_are_as_high_as_their_pairs_and_stand_on_the_axis():
    chart = stacked_histogram(EDGES, np.array([30.0, 10, 0]), np.array([10.0, 10, 5]), "a signal")
    clean = [(y, height) for kind, y, height in bars(chart) if kind == "clean"]
    noisy = [(y, height) for kind, y, height in bars(chart) if kind == "noisy"]
    foot = clean[0][0] + clean[0][1]
    assert [y + height for y, height in clean] == pytest.approx([foot] * 3, abs=0.11)
    assert [height for _, height in clean] == pytest.approx([3 * clean[1][1], clean[1][1], 0], abs=0.2)
    assert [height for _, height in noisy] == pytest.approx([noisy[0][1], noisy[0][1], noisy[0][1] / 2], abs=0.2)


def test_curves_have_the_scale_of_the_bars():
    chart = stacked_histogram(
        EDGES,
        np.array([30.0, 10, 0]),
        np.array([10.0, 10, 5]),
        "a signal",
        components={"clean": np.array([40.0, 0, 0]), "noisy": np.array([0.0, 20, 0])},
        posterior=np.array([0.0, 0.5, 1.0]),
        thresholds=[("½", 1.5), ("beyond", 7.0)],
    )
    top = min(y for _, y, _ in bars(chart))
    foot = max(y + height for _, y, height in bars(chart))
    assert [y for _, y in points(chart, "component clean")] == pytest.approx([top, foot, foot], abs=0.11)
    assert [y for _, y in points(chart, "component noisy")] == pytest.approx([foot, (top + foot) / 2, foot], abs=0.11)
    assert [y for _, y in points(chart, "posterior")] == pytest.approx([foot, (top + foot) / 2, top], abs=0.11)
    middle = points(chart, "posterior")[1][0]
    assert [float(x) for x in re.findall(r'class="threshold" d="M([\d.]+)', chart)] == pytest.approx([middle])
    assert "½" in chart
    assert "beyond" not in chart


@pytest.mark.parametrize("values", [[], [1.0] * 30])
def test_a_signal_without_spread_is_drawn_all_the_same(values):
    edges, place = bins_of(np.array(values, dtype=float))
    counts = np.bincount(place, minlength=len(edges) - 1).astype(float)
    assert counts.sum() == len(values)
    assert "<svg" in stacked_histogram(edges, counts, np.zeros(len(counts)), "flat")


def test_far_values_are_counted_in_the_end_bins():
    edges, place = bins_of(np.concatenate([np.random.default_rng(0).normal(size=5000), [1e9, -1e9]]), bins=10)
    assert np.abs(edges).max() < 10
    assert (place[-2:] == [9, 0]).all()


def test_words_and_names_are_escaped():
    evil = '"><script>alert(1)</script>'
    drawn = [
        word_map([evil], np.array([[10.0, 10.0]]), np.array([12.0]), [], (100, 100), evil),
        stacked_histogram(EDGES, np.ones(3), np.ones(3), evil, thresholds=[(evil, 1.0)]),
        two_histograms(EDGES, np.ones(3), None, evil),
        densities(EDGES, {"clean": np.ones(4)}, evil),
    ]
    for chart in drawn:
        assert "<script" not in chart
        assert "&lt;script&gt;" in chart
