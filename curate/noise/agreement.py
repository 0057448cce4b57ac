"""How well image and caption of a pair agree in a view, seen against a bank of pairs that nobody has trained on.

A cosine alone is not comparable between pairs: some images and captions are close to everything (hubs), some to
nothing. Seven signals say the same thing in the light of different neighbours; fusion learns what each is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curate.noise.features import Features
from curate.noise.grouping import SAME_IMAGE_DISTANCE, near
from curate.noise.similarity import NEAR_TEXT_COSINE, Bools, Floats, half, largest, top_mean
from curate.noise.views import View

Positions = NDArray[np.intp]

NEIGHBOURS = 10
SIGNALS = ("similarity", "csls_image", "csls_text", "z_image", "z_text", "over_near_texts", "over_near_images")
CSLS = (SIGNALS.index("csls_image"), SIGNALS.index("csls_text"))
_SMALLEST_VARIANCE = np.float32(1e-8)


@dataclass(frozen=True)
class Projected:
    """Pairs in the space of one view: unit rows, float32 [n, m]; image . text is the similarity."""

    image: Floats
    text: Floats

    stored_in_half: ClassVar[bool] = True

    def similarity(self) -> Floats:
        """Cosine of every pair's own image and text, float32 [n]."""
        cosine: Floats = (self.image * self.text).sum(axis=1)
        return cosine

    def rounded(self) -> Projected:
        """The same with values that half precision holds exactly, which is how banks are stored."""
        return Projected(half(self.image), half(self.text))


def project(view: View, features: Features) -> Projected:
    """Features of pairs into the space of a view."""
    return Projected(view.image(features), view.text(features))


@dataclass(frozen=True)
class Surroundings:
    """Where images and captions stand among the pairs of a bank, whatever the view; an image and a caption each.

    Attributes:
        image_twin: whether the bank pair has (nearly) the same picture, bool [n, b].
        same_picture: whether it has the very same one, bool [n, b].
        text_twin: whether it has (nearly) the same caption (cosine > .98), bool [n, b].
        near_images: the bank's 10 most similar pictures that are no twins, [n, 10].
        near_texts: the bank's 10 most similar captions that are no twins, [n, 10].
    """

    image_twin: Bools
    same_picture: Bools
    text_twin: Bools
    near_images: Positions
    near_texts: Positions

    def of_mismatches(self, image_rows: Positions, text_rows: Positions) -> Surroundings:
        """Those of pairs made of the images of some pairs and the captions of others.

        Where a picture has several captions, the bank must not hold the picture that the caption really belongs to: it
        would make the caption seem better matched elsewhere than that of a mismatch found in the corpus, whose own
        picture mostly lies in another fold (share of noise of 500 pairs of CLIP embeddings with five captions each:
        .32 instead of .39 for .40).
        """
        return Surroundings(
            image_twin=self.image_twin[image_rows] | self.same_picture[text_rows],
            same_picture=self.same_picture[image_rows],
            text_twin=self.text_twin[text_rows],
            near_images=self.near_images[image_rows],
            near_texts=self.near_texts[text_rows],
        )


def surroundings(features: Features, bank: Features) -> Surroundings:
    """See `Surroundings`. O(n b (q + dt + s))."""
    image_twin = near(features.sketch, bank.sketch)
    text_twin = features.caption @ bank.caption.T > NEAR_TEXT_COSINE
    return Surroundings(
        image_twin=image_twin,
        same_picture=near(features.sketch, bank.sketch, SAME_IMAGE_DISTANCE),
        text_twin=text_twin,
        near_images=_nearest(features.image_unit @ bank.image_unit.T, image_twin),
        near_texts=_nearest(features.text @ bank.text.T, text_twin),
    )


def _nearest(cosines: Floats, twin: Bools) -> Positions:
    cosines[twin] = -np.inf
    return largest(cosines, NEIGHBOURS)


def agreement(own: Floats, to_texts: Floats, to_images: Floats, around: Surroundings) -> Floats:
    """Seven signals of pairs in one view, float32 [n, 7] in the order of SIGNALS, all higher is cleaner.

    With d the pair's cosine, R its image's cosines with the bank's texts and C its caption's with the bank's images,
    twins left out: d; d less the mean of the 10 largest of R, of C (CSLS: Conneau et al., ICLR 2018, section 2.3, its
    two halves apart); d in standard deviations of R, of C; d less the mean of R over the 10 captions most like the
    pair's own, and of C over the 10 pictures most like the pair's own. O(n b).

    Args:
        own: d, float32 [n].
        to_texts, to_images: R and C with twins still in, float32 [n, b]; they are overwritten.
        around: the same rows and bank.
    """
    over_texts = own - _mean_over(to_texts, around.near_texts, around.text_twin)
    over_images = own - _mean_over(to_images, around.near_images, around.image_twin)
    twin = around.image_twin | around.text_twin
    others = np.maximum((~twin).sum(axis=1), 1).astype(np.float32)
    z_image, z_text = (_standing(own, cosines, twin, others) for cosines in (to_texts, to_images))
    for cosines in (to_texts, to_images):
        cosines[twin] = -np.inf
    csls_image, csls_text = (own - top_mean(cosines, NEIGHBOURS) for cosines in (to_texts, to_images))
    return np.column_stack([own, csls_image, csls_text, z_image, z_text, over_texts, over_images])


def _mean_over(cosines: Floats, nearest: Positions, twin: Bools) -> Floats:
    """Twins stand among the nearest only where there are too few others; 0 where there are none."""
    others = ~np.take_along_axis(twin, nearest, axis=1)
    total = np.where(others, np.take_along_axis(cosines, nearest, axis=1), np.float32(0)).sum(axis=1)
    mean: Floats = total / np.maximum(others.sum(axis=1), 1).astype(np.float32)
    return mean


def _standing(own: Floats, cosines: Floats, twin: Bools, others: Floats) -> Floats:
    kept = np.where(twin, np.float32(0), cosines)
    mean = kept.sum(axis=1) / others
    variance = (kept * kept).sum(axis=1) / others - mean * mean
    standing: Floats = (own - mean) / np.sqrt(np.maximum(variance, _SMALLEST_VARIANCE))
    return standing
