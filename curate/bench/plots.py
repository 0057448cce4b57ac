"""Pictures of a benchmark's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.bench.noise import OURS, Record, over_seeds
from curate.errors import InputError


def check_plot(file: Path) -> None:
    """Find out before hours of measuring whether the picture can be written.

    Raises:
        InputError: matplotlib is not installed, or cannot write this kind of file.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise InputError("--plot needs matplotlib: pip install 'curate[bench]'") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in known:
        raise InputError(f"--plot {file}: give a file name that ends in one of {', '.join(sorted(known))}")


def noise_plot(records: Sequence[Record], file: Path) -> None:
    """AUROC over the rate, a panel for each kind and a line for each method, with the spread over seeds."""
    from matplotlib.figure import Figure

    cells = over_seeds(records, "auroc")
    kinds = list(dict.fromkeys(kind for kind, rate, _ in cells if rate))
    methods = list(dict.fromkeys(method for _, _, method in cells))
    figure = Figure(figsize=(1 + 4 * max(len(kinds), 1), 4.2), layout="constrained")
    axes: Any = figure.subplots(1, max(len(kinds), 1), sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds, strict=False):
        for method in methods:
            points = sorted((rate, cell) for (k, rate, m), cell in cells.items() if (k, m) == (kind, method))
            known = [(rate, cell.mean, cell.spread) for rate, cell in points if cell.mean is not None]
            if known:
                rates, means, spreads = zip(*known, strict=True)
                width = 2.5 if method == OURS else 1.0
                axis.errorbar(rates, means, yerr=spreads, label=method, linewidth=width, marker="o", capsize=2)
        axis.set_title(f"{kind} swaps")
        axis.set_xlabel("share of mismatched pairs")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("AUROC of finding them")
    axes[-1].legend(fontsize="small")
    figure.savefig(file)
