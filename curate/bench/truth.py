"""How good is noise_prob where the truth is known: the figures of one run against `_truth/truth.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.store import RunStore
from curate.summary import annotation_files

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TruthFigures:
    """Quality of noise_prob against known truth, over the usable pairs.

    Attributes:
        pairs: pairs judged.
        mismatched: share of them whose caption is wrong, in [0, 1].
        auroc, auprc: of finding the mismatched pairs by their rank, in [0, 1].
        ece: expected calibration error in 10 equal bins, in [0, 1].
        precision_clean, recall_clean: of calling a pair clean at noise_prob < .5.
    """

    pairs: int
    mismatched: float
    auroc: float
    auprc: float
    ece: float
    precision_clean: float
    recall_clean: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """What a run said of its usable pairs, and the truth; [n] each."""

    noise_prob: Floats
    noise_rank: Floats
    mismatched: Bools


def judge(store: RunStore, truth: Path) -> TruthFigures:
    """Compare a run with the truth that `curate data corrupt` wrote.

    Raises:
        InputError: the truth cannot be read, has other rows, or only one kind of pair.
    """
    judged = read_judged(store, truth)
    return figures(judged.noise_prob, judged.mismatched, judged.noise_rank)


def read_judged(store: RunStore, truth: Path) -> Judged:
    """The usable pairs of a run with their truth.

    Raises:
        InputError: the truth cannot be read, has other rows, or only one kind of pair.
    """
    mismatched = _read_truth(truth)
    probabilities, ranks, wrong = [], [], []
    for name in annotation_files(store):
        table = store.read_table(name, ["row_id", "noise_prob", "noise_rank"])
        for row, probability, rank in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if probability is None:
                continue
            if row not in mismatched:
                raise InputError(f"{truth}: has no row '{row}'. Is it the truth of this run's input?")
            probabilities.append(probability)
            ranks.append(rank)
            wrong.append(mismatched[row])
    if len(set(wrong)) < 2:
        raise InputError(f"{truth}: the run's usable pairs are not of both kinds, matched and mismatched")
    return Judged(np.array(probabilities), np.array(ranks), np.array(wrong))


def figures(noise_prob: Floats, mismatched: Bools, rank: Floats | None = None) -> TruthFigures:
    """The figures for probabilities in [0, 1] of shape [n] and truth of shape [n].

    Args:
        noise_prob, mismatched: of the same pairs.
        rank: what AUROC and AUPRC go by, higher is noisier; None: noise_prob.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    order = noise_prob if rank is None else rank
    kept = noise_prob < 0.5
    clean = ~mismatched
    return TruthFigures(
        pairs=len(noise_prob),
        mismatched=float(mismatched.mean()),
        auroc=float(roc_auc_score(mismatched, order)),
        auprc=float(average_precision_score(mismatched, order)),
        ece=calibration_error(noise_prob, mismatched),
        precision_clean=float(clean[kept].mean()) if kept.any() else 0.0,
        recall_clean=float(kept[clean].mean()),
    )


def calibration_error(noise_prob: Floats, mismatched: Bools, bins: int = 10) -> float:
    """Mean distance between predicted and observed share over equal-width bins, weighted by their pairs."""
    bin_of = np.minimum((noise_prob * bins).astype(int), bins - 1)
    gaps = [
        abs(noise_prob[inside].mean() - mismatched[inside].mean()) * inside.mean()
        for inside in (bin_of == index for index in range(bins))
        if inside.any()
    ]
    return float(sum(gaps))


def _read_truth(path: Path) -> dict[str, bool]:
    try:
        table = pq.read_table(path, columns=["row_id", "mismatched"])
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as truth: {error}") from None
    columns: Sequence[list[Any]] = [column.to_pylist() for column in table.columns]
    return dict(zip(*columns, strict=True))
