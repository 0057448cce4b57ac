"""What the papers published, as facts with their sources, to stand beside our own row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from curate.bench.paper.splits import DatasetName

Subset: TypeAlias = Literal["all", "1k", "5k"]
Six: TypeAlias = tuple[float, float, float, float, float, float]

NPC_SOURCE = "README of ZhangXu0963/NPC (AAAI 2024)"
DSDMR_SOURCE = "result tables in the repository iLearn-Lab/TOIS24-DSDMR (TOIS 2024)"
NPC_DRAW = "NPC"
DECL_DRAW = "DECL"
REAL = "real"


@dataclass(frozen=True)
class Published:
    """One published row, in percent.

    Attributes:
        dataset, subset: COCO is reported on five folds of 1,000 test images (1k) and on all 5,000.
        rate: share of pairs that was mismatched.
        method: as the papers call it; "CLIP tuned" is CLIP ViT-B/32 fine-tuned without any remedy, from which NPC and
            DSDMR start too. The others train on features of image regions.
        image_r1, text_r1: R@1 with an image, and with a caption as the query.
        total: sum of R@1, 5 and 10 both ways; None where a figure of it is missing.
        draw: whose draw of mismatches, DECL's index or NPC's own; rows of different draws are comparable only roughly.
            "real": none was added.
        source: where the figures were read.
        recalls: all six, images as queries first, where they are known.
    """

    dataset: DatasetName
    subset: Subset
    rate: float
    method: str
    image_r1: float
    text_r1: float
    total: float | None
    draw: str
    source: str
    recalls: Six | None = None


@dataclass(frozen=True)
class PublishedFilter:
    """How clean a published filter leaves the training part: share of mismatches among the kept pairs, in [0, 1]."""

    dataset: DatasetName
    rate: float
    method: str
    residual_noise: float
    source: str


def published_rows(dataset: DatasetName, subset: Subset, rate: float) -> list[Published]:
    """Rows of one table, as listed."""
    return [row for row in ROWS if (row.dataset, row.subset, row.rate) == (dataset, subset, rate)]


def published_filters(dataset: DatasetName, rate: float) -> list[PublishedFilter]:
    """What is known of filters under this noise."""
    return [row for row in FILTERS if (row.dataset, row.rate) == (dataset, rate)]


def _six(rate: float, method: str, figures: Six) -> Published:
    """A Flickr30K row of NPC's README."""
    total = round(sum(figures), 1)
    return Published(
        "flickr30k", "all", rate, method, figures[0], figures[3], total, NPC_DRAW, NPC_SOURCE, recalls=figures
    )


def _coco(subset: Subset, rate: float, method: str, image_r1: float, text_r1: float) -> Published:
    """A COCO row of NPC's README. Its R@10 of captions as queries repeats that of images on 1k: no sum is given."""
    return Published("coco", subset, rate, method, image_r1, text_r1, None, NPC_DRAW, NPC_SOURCE)


# method, then (image R@1, text R@1, rSum) at 20, 40, 60 and 80 %; None where nothing was published.
_Row: TypeAlias = tuple[float, float, float] | None
_DECL_RATES = (0.2, 0.4, 0.6, 0.8)
_FLICKR_DECL: tuple[tuple[str, _Row, _Row, _Row, _Row], ...] = (
    ("NCR", (73.5, 56.9, 491.1), (68.1, 51.4, 467.1), (13.9, 11.0, 184.6), (1.5, 0.3, 21.0)),
    ("DECL-SGRAF", (77.5, 56.1, 494.7), (72.7, 53.4, 479.6), (65.2, 46.8, 450.6), (53.4, 37.6, 394.4)),
    ("BiCro", (78.1, 60.4, 504.7), (74.6, 55.5, 487.5), (67.6, 51.2, 466.3), None),
    ("MSCN", (77.4, 59.6, 501.9), None, None, None),
    ("RCL-SGR", (74.2, 55.6, 487.2), (71.3, 51.4, 472.3), (62.3, 45.1, 438.1), (47.1, 30.3, 349.7)),
    ("CRCL", (77.9, 60.9, 507.8), (77.8, 60.0, 505.2), (73.1, 54.8, 487.3), (62.3, 46.0, 443.7)),
    ("DSDMR", (85.1, 69.7, 536.1), (85.2, 69.6, 535.9), (85.8, 69.5, 536.1), (86.6, 68.5, 535.8)),
)
_COCO_DECL: tuple[tuple[str, _Row, _Row, _Row, _Row], ...] = (
    ("NCR", (76.6, 60.8, 515.0), (74.7, 59.6, 509.7), (0.1, 0.1, 2.4), (0.1, 0.1, 2.4)),
    ("DECL-SGRAF", (77.5, 61.7, 518.2), (75.6, 59.5, 512.0), (73.0, 57.0, 502.5), (64.8, 49.7, 473.0)),
    ("BiCro", (78.8, 63.7, 523.2), (77.0, 61.8, 517.1), (73.9, 58.3, 505.5), None),
    ("MSCN", (78.1, 64.3, 524.6), None, None, None),
    ("RCL-SGR", (77.0, 61.3, 515.5), (73.9, 59.0, 507.0), (71.4, 55.4, 494.1), (63.2, 47.6, 462.0)),
    ("CRCL", (79.6, 64.7, 525.6), (78.2, 63.3, 521.5), (76.3, 60.8, 514.2), (72.7, 57.5, 501.8)),
    ("DSDMR", (80.5, 65.8, 527.6), (79.9, 64.8, 525.1), (78.9, 63.5, 521.0), (76.5, 60.0, 509.6)),
)
_CC152K: tuple[tuple[str, float, float, float, Six | None], ...] = (
    ("NCR", 39.5, 40.3, 355.6, None),
    ("DECL-SGRAF", 39.0, 40.7, 364.3, None),
    ("BiCro", 40.8, 42.1, 370.2, None),
    ("MSCN", 40.1, 40.6, 366.7, None),
    ("RCL-SGRAF", 41.7, 41.6, 364.4, None),
    ("CRCL", 41.8, 41.6, 373.7, None),
    ("DSDMR", 68.1, 66.1, 497.7, (68.1, 89.2, 94.0, 66.1, 87.9, 92.4)),
)


def _decl(
    dataset: DatasetName, subset: Subset, table: tuple[tuple[str, _Row, _Row, _Row, _Row], ...]
) -> list[Published]:
    return [
        Published(dataset, subset, rate, method, *figures, DECL_DRAW, DSDMR_SOURCE)
        for method, *by_rate in table
        for rate, figures in zip(_DECL_RATES, by_rate, strict=True)
        if figures is not None
    ]


ROWS: tuple[Published, ...] = (
    *_decl("flickr30k", "all", _FLICKR_DECL),
    *_decl("coco", "1k", _COCO_DECL),
    *(
        Published("cc152k", "all", 0.0, method, image_r1, text_r1, total, REAL, DSDMR_SOURCE, recalls=figures)
        for method, image_r1, text_r1, total, figures in _CC152K
    ),
    _six(0.0, "CLIP tuned", (86.2, 97.6, 99.2, 72.9, 92.3, 96.0)),
    _six(0.2, "CLIP tuned", (82.3, 95.5, 98.3, 66.0, 88.5, 93.5)),
    _six(0.4, "CLIP tuned", (76.2, 93.3, 96.5, 59.4, 85.0, 90.9)),
    _six(0.6, "CLIP tuned", (66.3, 87.3, 93.0, 52.1, 78.8, 87.4)),
    _six(0.0, "NPC", (87.9, 98.1, 99.4, 75.0, 93.7, 97.2)),
    _six(0.2, "NPC", (87.3, 97.5, 98.8, 72.9, 92.1, 95.8)),
    _six(0.4, "NPC", (85.6, 97.5, 98.4, 71.3, 91.3, 95.3)),
    _six(0.6, "NPC", (83.0, 95.9, 98.6, 68.1, 89.6, 94.2)),
    _coco("1k", 0.0, "CLIP tuned", 79.9, 65.0),
    _coco("1k", 0.2, "CLIP tuned", 75.0, 58.7),
    _coco("1k", 0.4, "CLIP tuned", 70.7, 54.7),
    _coco("1k", 0.5, "CLIP tuned", 69.0, 52.8),
    _coco("1k", 0.6, "CLIP tuned", 67.0, 49.7),
    _coco("1k", 0.0, "NPC", 82.2, 68.3),
    _coco("1k", 0.2, "NPC", 79.9, 66.3),
    _coco("1k", 0.4, "NPC", 79.4, 65.0),
    _coco("1k", 0.5, "NPC", 78.5, 64.1),
    _coco("1k", 0.6, "NPC", 78.2, 63.1),
    _coco("5k", 0.0, "CLIP tuned", 62.2, 45.1),
    _coco("5k", 0.2, "CLIP tuned", 55.5, 38.8),
    _coco("5k", 0.4, "CLIP tuned", 51.6, 35.3),
    _coco("5k", 0.5, "CLIP tuned", 49.0, 33.7),
    _coco("5k", 0.6, "CLIP tuned", 45.1, 30.9),
    _coco("5k", 0.0, "NPC", 65.4, 48.5),
    _coco("5k", 0.2, "NPC", 61.6, 46.0),
    _coco("5k", 0.4, "NPC", 61.3, 44.7),
    _coco("5k", 0.5, "NPC", 60.1, 43.6),
    _coco("5k", 0.6, "NPC", 59.9, 43.0),
)


def _dsdmr_filter(dataset: DatasetName, shares: tuple[float, float, float, float]) -> list[PublishedFilter]:
    return [
        PublishedFilter(dataset, rate, "DSDMR", share, DSDMR_SOURCE)
        for rate, share in zip(_DECL_RATES, shares, strict=True)
    ]


FILTERS: tuple[PublishedFilter, ...] = (
    *_dsdmr_filter("flickr30k", (0.005, 0.013, 0.028, 0.068)),
    *_dsdmr_filter("coco", (0.010, 0.023, 0.046, 0.118)),
)
