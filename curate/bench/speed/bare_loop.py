"""Row `bare_loop`: pictures are decoded once into memory, then the towers alone run over them, as fast as they can."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.decode import decoded
from curate.bench.speed.workload import Workload
from curate.models.encoder import Encoder, EncoderOptions, EncoderSpec, resolve_encoder
from curate.models.towers import Towers, build_towers
from curate.models.weights import locate


@dataclass(frozen=True)
class Setup:
    """A way to use the cores: so many workers at once, each with so many torch threads and rows in a batch."""

    workers: int
    threads: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.workers} workers x {self.threads} threads, batches of {self.batch_size}"


def setups(device: str, cores: int) -> list[Setup]:
    """What is tried, the fastest of which is the limit."""
    if device == "cuda":
        return [Setup(1, 1, batch) for batch in (256, 512, 1024)]
    apart = [Setup(cores, 1, batch) for batch in (16, 32, 64)]
    return [*apart, *(Setup(1, cores, batch) for batch in (32, 128))]


@dataclass(frozen=True)
class Piece:
    """As many pairs as the runners hand to the towers at once."""

    pixels: NDArray[np.uint8]
    captions: Sequence[str]


class BareLoop:
    """Towers in memory, used in any setup."""

    def __init__(self, work: Workload) -> None:
        self.options = EncoderOptions(model=work.model, pretrained=work.checkpoint, device=work.device)
        self.spec: EncoderSpec = resolve_encoder(self.options)
        files = locate(self.options.model, self.options.pretrained)
        self._towers: Towers = build_towers(files, self.spec.precision, self.spec.device)

    def seconds(self, pieces: Sequence[Piece], setup: Setup) -> float:
        """Time for all pieces, both towers."""
        spec = dataclasses.replace(self.spec, batch_size=setup.batch_size, threads=setup.threads)
        encoder = Encoder(self._towers, spec)

        def both(piece: Piece) -> None:
            encoder.encode_images(piece.pixels)
            encoder.encode_texts(piece.captions)

        started = time.monotonic()
        with ThreadPoolExecutor(setup.workers) as pool:
            list(pool.map(both, pieces))
        return time.monotonic() - started

    def fastest(self, pieces: Sequence[Piece]) -> Setup:
        """The setup that is fastest on a few pieces, after one piece to warm up."""

        def tried(setup: Setup) -> float:
            self.seconds(pieces[:1], setup)
            return self.seconds(pieces, setup)

        return min(setups(self.spec.device, len(os.sched_getaffinity(0))), key=tried)


def cut(pixels: NDArray[np.uint8], captions: Sequence[str], rows: int) -> list[Piece]:
    """Pieces of so many pairs."""
    return [Piece(pixels[at : at + rows], captions[at : at + rows]) for at in range(0, len(captions), rows)]


def bare_loop_child(work: Workload) -> ChildCommand:
    """All images of the workload per measurement."""
    return module_child("bare_loop", "curate.bench.speed.bare_loop", work.to_json())


def _make(given: dict[str, Any]) -> Measure:
    work = Workload(**given)
    loop = BareLoop(work)
    images, captions = work.pairs()
    pieces = cut(decoded(images, loop.spec.image_size), captions, work.part_rows)
    setup = loop.fastest(pieces[: len(os.sched_getaffinity(0))])

    def measure() -> Answer:
        seconds = loop.seconds(pieces, setup)
        return {"images": len(captions), "seconds": seconds, "how": f"{loop.spec.precision}, {setup}"}

    return measure


if __name__ == "__main__":
    serve(_make)
