"""How well any caption agrees with a picture, by the views of the fold that never saw the picture.

Only the cosines of the views are used: what is made of them with banks of neighbours' captions would praise every
copy of a neighbour's caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.noise.agreement import SIGNALS
from curate.noise.features import Features
from curate.noise.model import Folds, NoiseModel
from curate.noise.similarity import Floats, centred_unit_rows, map_rows, unit_rows

Rows = NDArray[np.intp]
# Views by their place after the joint ones: CCA, ridge regression to text and to image. Neighbour regression is left
# out: it says how alike a caption is to neighbours' captions.
_LEARNED = (0, 1, 2)


@dataclass(frozen=True)
class Agreement:
    """Agreement of pictures with captions, in standard deviations of shuffled pairs: 0 is a typical gross mismatch.

    Attributes:
        model: fitted noise model; its folds, views and null statistics are used.
    """

    model: NoiseModel

    def images(self, image: Floats) -> Features:
        """Features of pictures without captions; float32 [n, dv]."""
        empty = np.zeros((len(image), self.model.fitted.reducer.text_mean.shape[0]), dtype=np.float32)
        return self.model.fitted.reducer(image, empty)

    def __call__(self, fold: Folds, images: Features, rows: Rows, text: Floats) -> Floats:
        """Mean over the views of their standardised cosines, float32 [m]. O(m views (dt l)).

        Args:
            fold: of every picture, int8 [n].
            images: features of the pictures.
            rows: which picture each caption is held against, [m].
            text: caption embeddings, float32 [m, dt].
        """
        scores = np.empty(len(rows), dtype=np.float32)
        with threadpool_limits(1):
            captions = map_rows(lambda part: centred_unit_rows(part, self.model.fitted.reducer.text_mean), text)
            for number in range(len(self.model.fitted.folds)):
                chosen = np.nonzero(fold[rows] == number)[0]
                if len(chosen):
                    pictures, place = np.unique(rows[chosen], return_inverse=True)
                    scores[chosen] = self._in_fold(
                        number, images.take(pictures), place, captions[chosen], unit_rows(text[chosen])
                    )
        return scores

    def _in_fold(self, number: int, images: Features, place: Rows, text: Floats, caption: Floats) -> Floats:
        fold, total = self.model.fitted.folds[number], np.zeros(len(place), dtype=np.float32)
        views, first = fold.views(self.model.fitted.sample), self.model.columns.joint_views
        chosen = (*range(first), *(first + view for view in _LEARNED))
        for view in chosen:
            seen = _mapped(views[view].image, images)
            said = _mapped(views[view].text, _captions_only(text, caption))
            column = len(SIGNALS) * view
            cosine = (seen[place] * said).sum(axis=1)
            total += (cosine - fold.null_mean[column]) / fold.null_sd[column]
        return total / np.float32(len(chosen))


def _captions_only(text: Floats, caption: Floats) -> Features:
    nothing = np.zeros((len(text), 0), dtype=np.float32)
    return Features(nothing, nothing, text, nothing, caption, nothing)


def _mapped(side: object, features: Features) -> Floats:
    """One side of a view over padded chunks, so that a row's result does not depend on the rows beside it."""
    from curate.noise.similarity import padded, padded_chunks

    pieces: Sequence[Floats] = [
        side(features.take(part).map(padded))[: part.stop - part.start]  # type: ignore[operator]
        for part in padded_chunks(len(features.text))
    ]
    return np.concatenate(pieces)
