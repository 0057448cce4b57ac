"""Charts as inline SVG. Colours are classes of the page's style sheet, so that they follow light and dark.

What a corpus says (names of concepts) is escaped like anything else that is written into markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

WIDTH, HEIGHT = 400, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 18, 36
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM


def stacked_histogram(
    edges: Doubles,
    clean: Doubles,
    noise: Doubles,
    label: str,
    *,
    log_scale: bool = False,
    components: Mapping[str, Doubles] | None = None,
    posterior: Doubles | None = None,
    thresholds: Sequence[tuple[str, float]] = (),
) -> Markup:
    """Bars of two parts, expected right pairs below expected mismatches, with what was fitted to them.

    Args:
        edges: of the bins, ascending, float64 [b + 1].
        clean, noise: expected number of pairs of each kind in every bin, >= 0, float64 [b].
        label: of the horizontal axis, and the name of the chart for screen readers.
        log_scale: of the counts, where a few bins would hide all others.
        components: kind ("clean", "noisy") -> pairs of a fitted component in every bin, >= 0, float64 [b].
        posterior: a curve in [0, 1] at the middle of every bin, float64 [b].
        thresholds: what each is called, and where it is on the horizontal axis.
    """
    total = clean + noise
    fitted = components or {}
    scale = np.log1p if log_scale else np.asarray
    highest = max(float(scale(total).max(initial=0)), *(float(scale(each).max()) for each in fitted.values()), 1e-12)
    heights = scale(total) / highest * _INNER_HEIGHT
    share = np.divide(noise, total, out=np.zeros_like(total), where=total > 0)
    left, right = _x(edges[:-1], edges), _x(edges[1:], edges)
    middle = (left + right) / 2
    bars = []
    for start, end, height, part in zip(left, right, heights, share, strict=True):
        if height > 0:
            wrong, width = height * part, max(end - start - 0.5, 0.5)
            bars.append(_rect("clean", start, _TOP + _INNER_HEIGHT - height + wrong, width, height - wrong))
            bars.append(_rect("noisy", start, _TOP + _INNER_HEIGHT - height, width, wrong))
    curves = [
        _line(f"component {kind}", middle, _TOP + (1 - scale(each) / highest) * _INNER_HEIGHT)
        for kind, each in fitted.items()
    ]
    if posterior is not None:
        curves.append(_line("posterior", middle, _TOP + (1 - posterior) * _INNER_HEIGHT))
    most = f"{total.max(initial=0):,.0f}"
    marks = _marks(thresholds, edges)
    axes = _axes(edges[0], edges[-1], label, "0", most)
    return _svg("".join(bars) + "".join(curves) + marks + axes, f"Histogram of {label}")


def _marks(thresholds: Sequence[tuple[str, float]], edges: Doubles) -> str:
    marks = []
    for name, place in thresholds:
        if edges[0] <= place <= edges[-1]:
            x = _LEFT + (place - edges[0]) / (edges[-1] - edges[0]) * _INNER_WIDTH
            marks.append(f'<path class="threshold" d="M{x:.1f} {_TOP}V{_TOP + _INNER_HEIGHT}"/>')
            marks.append(f'<text x="{x:.1f}" y="{_TOP - 3}" text-anchor="middle">{escape(name)}</text>')
    return "".join(marks)


def two_histograms(edges: Doubles, before: Doubles, after: Doubles | None, label: str) -> Markup:
    """Bars, and beside them the outline of what they became; counts in the same bins, float64 [b] each."""
    highest = max(float(before.max(initial=0)), 0.0 if after is None else float(after.max(initial=0)), 1e-12)
    left, right = _x(edges[:-1], edges), _x(edges[1:], edges)
    heights = _INNER_HEIGHT * before / highest
    bars = [
        _rect("clean", start, _TOP + _INNER_HEIGHT - height, end - start - 0.5, height)
        for start, end, height in zip(left, right, heights, strict=True)
    ]
    outline = ""
    if after is not None:
        steps = np.repeat(_TOP + _INNER_HEIGHT * (1 - after / highest), 2)
        outline = _line("after", np.column_stack([left, right]).ravel(), steps)
    axes = _axes(edges[0], edges[-1], label, "0", f"{highest:,.0f}")
    return _svg("".join(bars) + outline + axes, f"Histogram of {label}")


def densities(x: Doubles, curves: Mapping[str, Doubles], label: str) -> Markup:
    """Curves over one axis, scaled to the highest of them: kind ("clean", "noisy") -> values >= 0, float64 [n]."""
    highest = max(*(float(each.max()) for each in curves.values()), 1e-12)
    drawn = "".join(
        _line(f"bell {kind}", _x(x, x), _TOP + (1 - each / highest) * _INNER_HEIGHT) for kind, each in curves.items()
    )
    return _svg(drawn + _axes(x[0], x[-1], label, "", ""), label)


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


def word_map(
    words: Sequence[str],
    places: Doubles,
    sizes: Doubles,
    links: Sequence[tuple[int, int, float]],
    size: tuple[int, int],
    name: str,
) -> Markup:
    """Words where they belong and lines between those that go together.

    Args:
        words: anything.
        places: middle of each word, float64 [k, 2], in pixels.
        sizes: of the letters, in pixels, float64 [k].
        links: numbers of two words, and how strong their link is, in (0, 1].
        size: width and height, in pixels.
        name: of the chart for screen readers.
    """
    lines = "".join(
        f'<line class="link" x1="{places[a, 0]:.1f}" y1="{places[a, 1]:.1f}" x2="{places[b, 0]:.1f}" '
        f'y2="{places[b, 1]:.1f}" stroke-width="{0.6 + 4 * strength:.2f}" '
        f'stroke-opacity="{0.25 + 0.5 * strength:.2f}"/>'
        for a, b, strength in links
    )
    written = "".join(
        f'<text class="word" x="{x:.1f}" y="{y:.1f}" style="font-size:{letters:.1f}px" text-anchor="middle" '
        f'dominant-baseline="central">{escape(word)}</text>'
        for word, (x, y), letters in zip(words, places, sizes, strict=True)
    )
    return _svg(lines + written, name, size)


def bins_of(values: Doubles, bins: int = 60) -> tuple[Doubles, NDArray[np.intp]]:
    """Edges of bins, float64 [bins + 1], and the bin of every value; the outermost .1 % count in the end bins."""
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1e-9, bins + 1, dtype=np.float64)
    place = (values - edges[0]) / (edges[-1] - edges[0]) * bins
    return edges, np.clip(place, 0, bins - 1).astype(np.intp)


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
        (_LEFT, base + 16, "start", f"{low:.3g}"),
        (_LEFT + _INNER_WIDTH, base + 16, "end", f"{high:.3g}"),
        (middle, base + 31, "middle", label),
        (_LEFT - 4, base, "end", bottom),
        (_LEFT - 4, _TOP + 10, "end", top),
    )
    written = "".join(
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{at}">{escape(text)}</text>' for x, y, at, text in texts
    )
    return f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{_LEFT + _INNER_WIDTH}"/>' + written


def _svg(content: str, name: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Markup:
    head = f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(name)}">'
    return Markup(f"{head}{content}</svg>")
