"""How like written captions are to true ones, one reference each; and what they are like among themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.noise.similarity import Floats, unit_rows

LONGEST = 4
SIGMA = 6.0
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class CaptionFigures:
    """Figures of n written captions.

    Attributes:
        cider_d: mean CIDEr-D x 100, idf from the references; not comparable with published ones, whose references are
            five a picture and whose idf comes from COCO.
        bleu: corpus BLEU-4 in [0, 100], lower case (sacrebleu).
        chrf: corpus chrF2 in [0, 100] (sacrebleu).
        cosine: mean cosine of text embeddings with the true caption, in [-1, 1].
        recall_at_1, recall_at_10: share of captions whose true one is among the 1, 10 nearest of all true ones.
        distinct_ratio: different captions / captions.
        length: mean number of words.
        new_words: share of written words that occur in no training caption.
    """

    cider_d: float
    bleu: float
    chrf: float
    cosine: float
    recall_at_1: float
    recall_at_10: float
    distinct_ratio: float
    length: float
    new_words: float


def check_metrics() -> None:
    """Before anything is measured.

    Raises:
        InputError: sacrebleu is not installed.
    """
    if find_spec("sacrebleu") is None:
        raise InputError("bench captions needs sacrebleu: pip install 'curate[bench]'")


def caption_figures(
    written: Sequence[str], true: Sequence[str], written_text: Floats, true_text: Floats, known: Iterable[str]
) -> CaptionFigures:
    """All figures.

    Args:
        written, true: captions of the same pictures.
        written_text, true_text: their embeddings, float32 [n, d].
        known: the training captions.
    """
    bleu, chrf = _sacrebleu(written, true)
    rank = true_ranks(written_text, true_text)
    said = [word for caption in written for word in caption_words(caption)]
    vocabulary = {word for caption in set(known) for word in caption_words(caption)}
    return CaptionFigures(
        cider_d=100 * float(cider_d(written, true).mean()),
        bleu=bleu,
        chrf=chrf,
        cosine=float((unit_rows(written_text) * unit_rows(true_text)).sum(axis=1).mean()),
        recall_at_1=float((rank < 1).mean()),
        recall_at_10=float((rank < 10).mean()),
        distinct_ratio=len({caption.casefold() for caption in written}) / len(written),
        length=len(said) / len(written),
        new_words=sum(word not in vocabulary for word in said) / max(len(said), 1),
    )


def caption_words(caption: str) -> list[str]:
    """Lower-case words, marks left out."""
    return _WORD.findall(caption.casefold())


def true_ranks(written_text: Floats, true_text: Floats) -> NDArray[np.int64]:
    """How many other true captions are nearer to a written one than its own; ties count half. int64 [n]. O(n^2 d)."""
    similar = unit_rows(written_text) @ unit_rows(true_text).T
    own = np.diagonal(similar)[:, None]
    nearer: NDArray[np.int64] = (similar > own).sum(axis=1) + ((similar == own).sum(axis=1) - 1) // 2
    return nearer


def cider_d(written: Sequence[str], true: Sequence[str]) -> NDArray[np.float64]:
    """CIDEr-D of every caption (Vedantam et al., CVPR 2015, equations 1 to 4 and section 7), float64 [n] in [0, 10].

    With g_n the tf-idf vector of a caption's n-grams, n = 1..4, idf over the true captions:
    CIDEr-D = 10/4 sum_n exp(-(l_c - l_s)^2 / (2 6^2)) min(g_n(c), g_n(s)) . g_n(s) / (|g_n(c)| |g_n(s)|), where l are
    numbers of words. One reference each, without stemming.
    """
    references = [_ngrams(caption) for caption in true]
    occurs = Counter(gram for grams in references for gram in grams)
    pairs = zip(map(_ngrams, written), references, strict=True)
    return np.array([_cider_d(mine, theirs, occurs, len(true)) for mine, theirs in pairs])


Ngram = tuple[str, ...]


def _ngrams(caption: str) -> Counter[Ngram]:
    words = caption_words(caption)
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST + 1) for start in range(len(words) - n + 1)
    )


def _cider_d(written: Counter[Ngram], true: Counter[Ngram], occurs: Counter[Ngram], captions: int) -> float:
    def weighted(grams: Counter[Ngram], n: int) -> dict[Ngram, float]:
        return {
            gram: count * float(np.log(captions / max(occurs[gram], 1)))
            for gram, count in grams.items()
            if len(gram) == n
        }

    lengths = [sum(count for gram, count in grams.items() if len(gram) == 1) for grams in (written, true)]
    penalty = float(np.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2)))
    total = 0.0
    for n in range(1, LONGEST + 1):
        mine, theirs = weighted(written, n), weighted(true, n)
        norms = np.sqrt(sum(v * v for v in mine.values()) * sum(v * v for v in theirs.values()))
        if norms > 0:
            total += sum(min(v, theirs[gram]) * theirs[gram] for gram, v in mine.items() if gram in theirs) / norms
    return 10 / LONGEST * penalty * float(total)


def _sacrebleu(written: Sequence[str], true: Sequence[str]) -> tuple[float, float]:
    from sacrebleu.metrics import BLEU, CHRF

    bleu = BLEU(lowercase=True).corpus_score(list(written), [list(true)])
    chrf = CHRF(lowercase=True).corpus_score(list(written), [list(true)])
    return float(bleu.score), float(chrf.score)
