"""Charts as inline SVG. Colours are classes of the page's style sheet, so that they follow light and dark.

Only numbers and the names of our own columns go in; what a corpus says never does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

WIDTH, HEIGHT = 480, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 30
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM


def stacked_histogram(edges: Doubles, clean: Doubles, noise: Doubles, label: str, log_scale: bool = False) -> Markup:
    """Bars of two parts, expected clean pairs below expected mismatches, and the share of the latter as a curve.

    Args:
        edges: of the bins, ascending, float64 [b + 1].
        clean, noise: expected number of pairs of each kind in every bin, >= 0, float64 [b].
        label: of the horizontal axis, and the name of the chart for screen readers.
        log_scale: of the counts, where a few bins would hide all others.
    """
    total = clean + noise
    scale = np.log10(1 + total) if log_scale else total
    highest = max(float(scale.max(initial=0)), 1e-12)
    heights = scale / highest * _INNER_HEIGHT
    share = np.divide(noise, total, out=np.zeros_like(total), where=total > 0)
    left, right = _x(edges[:-1], edges), _x(edges[1:], edges)
    bars = []
    for start, end, height, part in zip(left, right, heights, share, strict=True):
        wrong = height * part
        width = max(end - start - 0.5, 0.5)
        bars.append(_rect("clean", start, _TOP + _INNER_HEIGHT - height + wrong, width, height - wrong))
        bars.append(_rect("noisy", start, _TOP + _INNER_HEIGHT - height, width, wrong))
    held = total > 0
    curve = _line("posterior", (left + right)[held] / 2, _TOP + (1 - share[held]) * _INNER_HEIGHT)
    most = f"{total.max(initial=0):,.0f}"
    return _svg("".join(bars) + curve + _axes(edges[0], edges[-1], label, "0", most), f"Histogram of {label}")


def reliability(predicted: Doubles, observed: Doubles, pairs: Doubles) -> Markup:
    """How often pairs are mismatched, by how probable that was said to be; float64 [b] each, in [0, 1]."""
    unit = np.array([0.0, 1.0])
    held = pairs > 0
    x, y = _x(predicted[held], unit), _TOP + (1 - observed[held]) * _INNER_HEIGHT
    radius = 2 + 8 * np.sqrt(pairs[held] / pairs.max())
    dots = "".join(
        f'<circle class="noisy" cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}"/>' for a, b, r in zip(x, y, radius, strict=True)
    )
    diagonal = _line("grid", _x(unit, unit), _TOP + (1 - unit) * _INNER_HEIGHT)
    axes = _axes(0, 1, "noise_prob said, against the share that is mismatched", "0", "1")
    return _svg(diagonal + dots + axes, "Reliability diagram")


def curve(x: Doubles, y: Doubles, label: str) -> Markup:
    """A line in the unit square, such as an ROC curve; float64 [n] each, in [0, 1]."""
    unit = np.array([0.0, 1.0])
    diagonal = _line("grid", _x(unit, unit), _TOP + (1 - unit) * _INNER_HEIGHT)
    drawn = _line("posterior", _x(x, unit), _TOP + (1 - y) * _INNER_HEIGHT)
    return _svg(diagonal + drawn + _axes(0, 1, label, "0", "1"), label)


def histogram_of(values: Doubles, noise_prob: Doubles, bins: int = 60) -> tuple[Doubles, Doubles, Doubles]:
    """Edges, expected clean pairs and expected mismatches of a signal; the outermost .1 % count in the end bins."""
    finite = np.isfinite(values)
    values, noise_prob = values[finite], noise_prob[finite]
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1e-9, bins + 1, dtype=np.float64)
    place = np.clip(((values - edges[0]) / (edges[-1] - edges[0]) * bins).astype(int), 0, bins - 1)
    noise = np.bincount(place, noise_prob, minlength=bins).astype(np.float64)
    return edges, np.bincount(place, minlength=bins) - noise, noise


def _x(values: Doubles, edges: Doubles) -> Doubles:
    x: Doubles = _LEFT + (values - edges[0]) / (edges[-1] - edges[0]) * _INNER_WIDTH
    return x


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}"/>'


def _line(kind: str, x: Doubles, y: Doubles) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _axes(low: float, high: float, label: str, bottom: str, top: str) -> str:
    base, middle = _TOP + _INNER_HEIGHT, _LEFT + _INNER_WIDTH / 2
    texts: Sequence[tuple[float, float, str, str]] = (
        (_LEFT, base + 14, "start", f"{low:.3g}"),
        (_LEFT + _INNER_WIDTH, base + 14, "end", f"{high:.3g}"),
        (middle, base + 26, "middle", label),
        (_LEFT - 4, base, "end", bottom),
        (_LEFT - 4, _TOP + 10, "end", top),
    )
    written = "".join(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{at}">{text}</text>' for x, y, at, text in texts)
    return f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{_LEFT + _INNER_WIDTH}"/>' + written


def _svg(content: str, name: str) -> Markup:
    # Numbers and our own names only, see the top of this file.
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{content}</svg>')
