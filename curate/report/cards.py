"""The pairs of all galleries as cards, each once, with what every signal said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.completion.merge import BELIEVED_SOURCES, Piece, pieces
from curate.noise.signals import HIGHER_IS_NOISIER
from curate.ranking import Doubles
from curate.report.findings import Findings


@dataclass(frozen=True)
class Said:
    """What one signal said of a pair.

    Attributes:
        name: of the signal.
        value: its own.
        doubt: share of the sampled pairs that seem cleaner by it, in [0, 1].
    """

    name: str
    value: float
    doubt: float


@dataclass(frozen=True)
class Card:
    """A pair to look at, once on the page however many galleries it is in.

    Attributes:
        row: its annotations.
        places: gallery -> its place there.
        said: what each signal said.
        completed: the completed caption with what was added marked; empty: the pair keeps its own.
    """

    row: Mapping[str, Any]
    places: Mapping[str, int]
    said: tuple[Said, ...]
    completed: tuple[Piece, ...]

    def for_script(self) -> dict[str, Any]:
        """What filters and orders go by."""
        row = self.row
        names = [each["name"] for each in row["concepts"] or ()]
        texts = (row["caption"], row["key"], row["completed_caption"], *names)
        return {
            "places": dict(self.places),
            "label": row["label"] or "",
            "source": row["caption_source"] or "",
            "text": "\n".join(text for text in texts if text).lower(),
            "noise_prob": row["noise_prob"],
            "noise_rank": row["noise_rank"],
            "doubt": {said.name: round(said.doubt, 4) for said in self.said},
        }


def cards_of(findings: Findings) -> list[Card]:
    """One card for each pair of any gallery."""
    rows: dict[str, Mapping[str, Any]] = {}
    places: dict[str, dict[str, int]] = {}
    for gallery in findings.galleries:
        for place, row in enumerate(gallery.rows):
            rows[row["row_id"]] = row
            places.setdefault(row["row_id"], {})[gallery.name] = place
    ordered = {name: np.sort(_doubt(name, values)) for name, values in findings.sample.signals.items()}
    return [
        Card(row, places[row_id], tuple(_said(row["signals"] or {}, ordered)), _completed(row))
        for row_id, row in rows.items()
    ]


def _doubt(name: str, values: Doubles) -> Doubles:
    """Finite values so turned that higher is noisier."""
    finite: Doubles = values[np.isfinite(values)]
    return finite if name in HIGHER_IS_NOISIER else -finite


def _said(signals: Mapping[str, float | None], ordered: Mapping[str, Doubles]) -> list[Said]:
    said = []
    for name, held in ordered.items():
        value = signals.get(name)
        if value is not None:
            turned = _doubt(name, np.array([value], dtype=np.float64))
            said.append(Said(name, value, float(np.searchsorted(held, turned)[0]) / len(held)))
    return said


def _completed(row: Mapping[str, Any]) -> tuple[Piece, ...]:
    if row["caption_source"] not in BELIEVED_SOURCES:
        return ()
    return pieces(row["caption"] or "", row["completed_caption"])
