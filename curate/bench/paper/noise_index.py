"""Noise as the papers make it: which image each training caption is given instead of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.bench.paper.splits import Images, Split
from curate.errors import InputError

Protocol: TypeAlias = Literal["decl", "ncr"]


def draw_noise(split: Split, rate: float, protocol: Protocol, seed: int) -> Images:
    """Which image each caption is given, int64 [captions]; by the published rule, with a draw of our own.

    Of a random share `rate` of the units, rounded down, the images are shuffled among each other. A unit is

    * decl: an image with all its captions (DECL, MM 2022; used by DSDMR and others),
    * ncr: a single caption (NCR, NeurIPS 2021; NPC's rule is the same with captions shuffled).

    Some land where they were, and ncr may give a caption another copy of its own image: the true share of mismatches
    is a little lower than `rate`, as in the papers.

    Args:
        split: the training part.
        rate: in [0, 1).
        protocol: what is shuffled.
        seed: of the draw. The papers' own draws had no fixed seed; their files are read by `read_noise`.

    Raises:
        InputError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise InputError(f"--rate {rate}: must be from 0 to below 1")
    rng = np.random.default_rng(seed)
    given = np.arange(len(split.images)) if protocol == "decl" else split.image_of.copy()
    units = rng.permutation(len(given))[: int(rate * len(given))]
    given[units] = rng.permutation(given[units])
    return given[split.image_of] if protocol == "decl" else given


def read_noise(file: Path, split: Split) -> Images:
    """The same from a published index (`noise_inx_0.4.npy`), one image for each image (DECL) or each caption (NCR).

    Raises:
        InputError: it cannot be read without running code from it, or does not fit the training part.
    """
    index = _read_array(file)
    images, captions = len(split.images), len(split.captions)
    if index.ndim != 1 or len(index) not in (images, captions):
        raise InputError(
            f"{file}: an index of shape {list(index.shape)} fits neither the {images:,} images (DECL) nor the "
            f"{captions:,} captions (NCR) of the training part. Is it for this data set, and its lists complete?"
        )
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= images:
        raise InputError(f"{file}: must hold positions of images, whole numbers from 0 to {images - 1:,}")
    given = index.astype(np.int64)
    return given[split.image_of] if len(given) == images else given


def _read_array(file: Path) -> NDArray[np.generic]:
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{file}: cannot be read as a plain array ({error}). Files with pickled objects are refused: save the "
            "numbers alone, numpy.save(file, index.astype('int64'))."
        ) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file}: holds several arrays; one index is needed")
    return array
