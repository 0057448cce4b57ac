"""`curate bench paper`: a published data set under published noise, annotated, trained on, and tested as published."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curate.bench.noise import Record, versions_and_machine
from curate.bench.paper.embeddings import EmbeddedDataset, Part
from curate.bench.paper.noise_index import Protocol, draw_noise, read_noise
from curate.bench.paper.published import Subset
from curate.bench.paper.retrieval import AT, Recalls, fold_recalls, recalls
from curate.bench.paper.splits import DatasetName, Images, PaperDataset
from curate.bench.paper.training import Embedded, Hints, Project, Train
from curate.bench.truth import figures
from curate.errors import InputError
from curate.noise.fit import MOST_COPIES, NoiseOptions, NoiseSample, fit_noise
from curate.noise.model import copy_numbers, identities
from curate.noise.similarity import Bools, Floats

KEPT_BELOW = 0.5
"""The papers' filters keep what is likelier to be clean."""
_SCORED_AT_ONCE = 20_000


@dataclass(frozen=True)
class Noising:
    """Where the mismatches of the training part come from.

    Attributes:
        protocol: by which published rule they are drawn.
        file: a published index instead, which has its own rate.
    """

    protocol: Protocol = "decl"
    file: Path | None = None

    def given(self, dataset: PaperDataset, part: Part, rate: float, seed: int) -> Images:
        """Which image each training caption is given.

        Raises:
            InputError: the rate is out of range, or the file does not fit the data set or its order.
        """
        if self.file is None:
            return draw_noise(part.split, rate, self.protocol, seed)
        if dataset.order == "karpathy":
            raise InputError(
                f"{self.file}: a published index counts in the order of SCAN's lists; put train_caps.txt, "
                "train_ids.txt and those of dev and test beside the JSON (docs/paper.md)"
            )
        return read_noise(self.file, part.split)


@dataclass(frozen=True)
class PaperBench:
    """What is measured with.

    Attributes:
        noise: options of the noise fit.
        fit_rows: most pairs that it is fitted on.
        smoothing: lambda of NLIP's label smoothing.
        train: what is trained on the annotated pairs.
    """

    noise: NoiseOptions
    fit_rows: int
    smoothing: float
    train: Train


def bench_paper(
    dataset: PaperDataset,
    embedded: EmbeddedDataset,
    bench: PaperBench,
    noising: Noising,
    rates: Sequence[float],
    seeds: int,
) -> Iterator[Record]:
    """Records of every rate, seed, method, part of the test and metric, as soon as they are known.

    Methods: `zero_shot`, the towers as they are (those trained together only); `raw`, trained on all pairs as they
    are given; `ours`, trained on pairs with noise_prob < .5, each smoothed by its own; `oracle`, trained on the pairs
    that were not mismatched. Where nothing is left to train on, a method has no recalls.

    Raises:
        InputError: see `Noising.given`; or too few pairs.
    """
    for rate in rates:
        for seed in range(seeds):
            yield from _Cell(dataset, embedded, bench, noising, rate, seed).records()


class _Cell:
    """One rate under one seed."""

    def __init__(
        self,
        dataset: PaperDataset,
        embedded: EmbeddedDataset,
        bench: PaperBench,
        noising: Noising,
        rate: float,
        seed: int,
    ) -> None:
        self.name, self.embedded, self.bench, self.seed = dataset.name, embedded, bench, seed
        part = embedded.train
        self.given = noising.given(dataset, part, rate, seed)
        self.mismatched: Bools = self.given != part.split.image_of
        self.training = Embedded(part.embedded.image, part.embedded.text, self.given)
        kind = noising.protocol if noising.file is None else noising.file.name
        self.identity = {"bench": "paper", "corpus": dataset.name, "kind": kind, "rate": rate, "seed": seed}

    def records(self) -> Iterator[Record]:
        """See `bench_paper`."""
        if self.embedded.joint_space:
            yield from self._tested("zero_shot", lambda image, text: (image, text))
        yield from self._trained("raw", np.ones(len(self.given), dtype=bool), np.zeros(len(self.given), np.float32))
        started = time.monotonic()
        noise_prob, rank = self._annotate()
        yield self._record("ours", "train", "noise_seconds", time.monotonic() - started, "s")
        yield from self._filtered(noise_prob, rank)
        smoothing = np.float32(self.bench.smoothing) * noise_prob
        yield from self._trained("ours", noise_prob < KEPT_BELOW, smoothing)
        if self.mismatched.any():
            yield from self._trained("oracle", ~self.mismatched, np.zeros(len(self.given), np.float32))

    def _annotate(self) -> tuple[Floats, Floats]:
        """noise_prob and noise_rank of the pairs as they are given; the fit's sample is drawn as `curate run` does."""
        part = self.embedded.train
        pictures = [part.image_sha256[image] for image in self.given]
        captions, image, text = part.split.captions, self.training.image, self.training.text
        chosen = _drawn(identities(pictures, captions, self.seed), self.bench.fit_rows)
        sample = NoiseSample(
            [pictures[row] for row in chosen],
            [captions[row] for row in chosen],
            image[self.given[chosen]],
            text[chosen],
            self.embedded.joint_space,
        )
        model = fit_noise(sample, self.bench.noise, self.seed)
        scores = [
            model.score(pictures[start:end], captions[start:end], image[self.given[start:end]], text[start:end])
            for start in range(0, len(captions), _SCORED_AT_ONCE)
            for end in (start + _SCORED_AT_ONCE,)
        ]
        return (
            np.concatenate([score.noise_prob for score in scores]),
            np.concatenate([score.noise_rank for score in scores]),
        )

    def _filtered(self, noise_prob: Floats, rank: Floats) -> Iterator[Record]:
        """How well mismatches are told from clean pairs; where there are none, only what is lost."""
        kept = noise_prob < KEPT_BELOW
        clean = ~self.mismatched
        yield self._record("ours", "train", "noise_share_true", float(self.mismatched.mean()), "share")
        yield self._record("ours", "train", "recall_clean", float(kept[clean].mean()), "share")
        if self.mismatched.any():
            found = figures(noise_prob.astype(np.float64), self.mismatched, rank.astype(np.float64))
            yield self._record("ours", "train", "auroc", found.auroc, "share")
            yield self._record("ours", "train", "residual_noise", 1 - found.precision_clean, "share")

    def _trained(self, method: str, kept: Bools, smoothing: Floats) -> Iterator[Record]:
        rows = np.nonzero(kept)[0]
        yield self._record(method, "train", "trained_pairs", len(rows), "pairs")
        if not len(rows):
            return
        hints = Hints(rows, smoothing[rows].astype(np.float32))
        started = time.monotonic()
        project = self.bench.train(self.training, hints, self.embedded.dev.embedded, self.seed)
        yield self._record(method, "train", "train_seconds", time.monotonic() - started, "s")
        yield from self._tested(method, project)

    def _tested(self, method: str, project: Project) -> Iterator[Record]:
        test = self.embedded.test.embedded
        image, text = project(test.image, test.text)
        for subset in subsets(self.name):
            measure = fold_recalls if subset == "1k" else recalls
            yield from self._recalled(method, subset, measure(image, text, test.image_of))

    def _recalled(self, method: str, subset: Subset, found: Recalls) -> Iterator[Record]:
        for direction, values in (("image_to_text", found.to_text), ("text_to_image", found.to_image)):
            for at, value in zip(AT, values, strict=True):
                yield self._record(method, subset, f"{direction}_recall_at_{at}", value, "percent")
        yield self._record(method, subset, "recall_sum", found.total, "percent")

    def _record(self, method: str, subset: str, metric: str, value: float, unit: str) -> Record:
        return {**self.identity, "method": method, "subset": subset, "metric": metric, "value": value, "unit": unit}


def paper_environment(dataset: PaperDataset, embedded: EmbeddedDataset, encoder: str) -> Record:
    """The first record: what was read, versions and machine."""
    return {
        "bench": "paper",
        "metric": "environment",
        "corpus": dataset.name,
        "order": dataset.order,
        "pairs": len(embedded.train.split.captions),
        "test_images": len(embedded.test.split.images),
        "images_left_out": embedded.left_out,
        "encoder": encoder,
        "joint_space": embedded.joint_space,
        **versions_and_machine(),
    }


def subsets(name: DatasetName) -> tuple[Subset, ...]:
    """COCO is reported on folds of a thousand test images and on all."""
    return ("1k", "5k") if name == "coco" else ("all",)


def _drawn(keys: NDArray[np.uint64], most: int) -> NDArray[np.intp]:
    """The pairs with the smallest hashes, equal ones only so often, as `curate run` draws them."""
    order = np.argsort(keys, kind="stable")
    chosen: NDArray[np.intp] = order[copy_numbers(keys[order]) < MOST_COPIES][:most]
    return chosen
