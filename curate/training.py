"""Fine-tuning on a corpus: which pairs, in which order, from the shards to the batches, and where the weights go.

Parts are dealt to the workers and put into groups once; every epoch shuffles the groups and the pairs within each.
What an epoch's batches are follows from the seed alone, so that a training goes on where it was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import pixel_matrix
from curate.errors import CurateError
from curate.models.encoder import EncoderOptions, EncoderSpec
from curate.models.finetune_options import FinetuneOptions
from curate.pictures import read_pictures
from curate.schema import Status
from curate.sources.base import Part, Shard, Source
from curate.stages.decode import DecodeOptions
from curate.store import RunStore

if TYPE_CHECKING:
    from curate.models.finetune import Hints, Trained, TrainingBatch
    from curate.models.towers import TrainableTowers

WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
GROUP_PAIRS = 4096
"""Pairs that are decoded at once and shuffled among each other: 600 MB of pixels at 224 x 224."""

_HINTS = ("noise_prob", "smoothing", "weight", "margin_image", "margin_text")
_GROUPS_STREAM, _ORDER_STREAM, _PAIRS_STREAM = 1, 2, 3

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class TrainWork:
    """Train towers on the trusted pairs of a run and leave their weights.

    Attributes:
        source, parts, shards: the corpus.
        run: the run directory; its embed step and the step `hints` are complete.
        hints: name of the step that left noise_prob and the hints.
        folder: where weights and checkpoints go, in the run directory.
        options, spec: the towers to start from.
        decode: how pixels are made.
        how: of the training.
        trusted_below: pairs with a noise_prob below it are learned from.
        fingerprint: of all that the weights depend on; a checkpoint of another training is not gone on from.
    """

    source: Source
    parts: Mapping[int, Part]
    shards: Mapping[str, Shard]
    run: str
    hints: str
    folder: str
    options: EncoderOptions
    spec: EncoderSpec
    decode: DecodeOptions
    how: FinetuneOptions
    trusted_below: float
    fingerprint: str

    def train(self, worker: int = 0, workers: int = 1) -> None:
        """This worker's share of the training; the first one leaves the weights in the run directory.

        Raises:
            CurateError: too few pairs are trusted, or the training fails.
        """
        import torch

        from curate.models.finetune import autocast_for, finetune

        torch.set_num_threads(self.spec.threads)
        towers = self._towers()
        groups = self._groups(workers)
        share = self.how.batch_size // workers
        share = min(share, min(_largest(mine) for mine in groups))
        if share < 2:
            raise CurateError(
                f"refine: only {sum(group.pairs for mine in groups for group in mine)} pairs have a noise_prob below "
                f"{self.trusted_below:g}, too few to train {workers} worker(s) on. Raise refine.trusted_below."
            )
        steps = min(sum(group.pairs // share for group in mine) for mine in groups)
        batches = _Batches(self, towers, groups[worker], worker, share, steps)
        kept = _StoredCheckpoints(RunStore(self.run), f"{self.folder}/{CHECKPOINT_FILE}", self.fingerprint)
        precision = autocast_for(self.spec.precision)
        trained = finetune(towers.model, towers.normalise, batches.of_epoch, steps, self.how, kept, precision)
        if worker == 0:
            self._leave(trained, share * workers, steps)

    def _towers(self) -> TrainableTowers:
        from curate.models.towers import build_trainable_towers
        from curate.models.weights import locate

        return build_trainable_towers(locate(self.options.model, self.options.pretrained), self.spec.device)

    def _groups(self, workers: int) -> list[list[_Group]]:
        """The groups of every worker; nobody's depend on how far anybody has come."""
        numbers = np.random.default_rng([self.how.seed, _GROUPS_STREAM]).permutation(sorted(self.parts))
        counts = {int(number): len(self.trusted_rows(int(number))) for number in numbers}
        return [_grouped([int(number) for number in numbers[worker::workers]], counts) for worker in range(workers)]

    def trusted_rows(self, number: int) -> Rows:
        """Which pairs of a part are learned from."""
        table = self._columns(number, ["status"], ["noise_prob"])
        usable = pc.equal(table.column("status"), Status.OK.value)
        trusted = pc.less(table.column("noise_prob"), pa.scalar(self.trusted_below, pa.float32()))
        kept = pc.fill_null(pc.and_(usable, trusted), fill_value=False)
        return np.nonzero(kept.to_numpy())[0]

    def _columns(self, number: int, of_embed: Sequence[str], of_hints: Sequence[str]) -> pa.Table:
        return RunStore(self.run).read_columns(number, [("embed", of_embed), (self.hints, of_hints)])

    def pairs_of(self, number: int) -> _Pairs:
        """Trusted pairs of a part with their pixels."""
        rows = self.trusted_rows(number)
        known = self._columns(number, ["caption", "image_sha256"], _HINTS).take(pa.array(rows))
        part = self.parts[number]
        pixels = read_pictures(self.source, self.shards[part.shard], part, self.decode, rows)
        return _Pairs(
            pixels=pixel_matrix(pixels, self.decode.size),
            captions=tuple(known.column("caption").to_pylist()),
            hints=_hints(known),
        )

    def _leave(self, trained: Trained, batch_size: int, steps: int) -> None:
        from safetensors.torch import save

        store = RunStore(self.run)
        store.write_bytes(f"{self.folder}/{WEIGHTS_FILE}", save(dict(trained.weights)))
        facts = {"epoch_losses": trained.epoch_losses, "pairs_per_step": batch_size, "steps_per_epoch": steps}
        store.write_json(f"{self.folder}/{TRAINING_FILE}", facts)
        store.delete(f"{self.folder}/{CHECKPOINT_FILE}")


@dataclass(frozen=True)
class _Group:
    """Parts whose pairs are shuffled together."""

    parts: tuple[int, ...]
    pairs: int


@dataclass(frozen=True)
class _Pairs:
    """Pairs to train on: pixels uint8 [n, side, side, 3], n captions and their hints."""

    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]
    hints: Hints


def _grouped(numbers: Sequence[int], counts: Mapping[int, int]) -> list[_Group]:
    groups: list[_Group] = []
    waiting: list[int] = []
    for number in numbers:
        waiting.append(number)
        pairs = sum(counts[each] for each in waiting)
        if pairs >= GROUP_PAIRS:
            groups.append(_Group(tuple(waiting), pairs))
            waiting = []
    if waiting:
        groups.append(_Group(tuple(waiting), sum(counts[each] for each in waiting)))
    return groups


def _largest(groups: Sequence[_Group]) -> int:
    return max((group.pairs for group in groups), default=0)


def _hints(table: pa.Table) -> Hints:
    from curate.models.finetune import Hints

    return Hints(
        **{name: table.column(name).to_numpy().astype(np.float32) for name in _HINTS},
        picture=_hashed(table.column("image_sha256").to_pylist()),
        caption=_hashed(table.column("caption").to_pylist()),
    )


def _hashed(texts: Sequence[str]) -> NDArray[np.int64]:
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.dtype("<i8")).astype(np.int64)


@dataclass(frozen=True)
class _Batches:
    """Cuts a worker's groups into batches."""

    work: TrainWork
    towers: TrainableTowers
    groups: Sequence[_Group]
    worker: int
    size: int
    steps: int

    def of_epoch(self, epoch: int, start: int) -> Iterator[TrainingBatch]:
        """Batches of an epoch from one of its steps on; what lies before is not even read."""
        seed = self.work.how.seed
        order = np.random.default_rng([seed, _ORDER_STREAM, epoch, self.worker]).permutation(len(self.groups))
        wanted: list[tuple[int, int]] = []
        passed = 0
        for place in order.tolist():
            here = self.groups[place].pairs // self.size
            if passed + here > start and passed < self.steps:
                wanted.append((place, max(0, start - passed)))
            passed += here
        left = self.steps - start
        for batch in self._of_groups(epoch, wanted):
            if not left:
                return
            left -= 1
            yield batch

    def _of_groups(self, epoch: int, wanted: Sequence[tuple[int, int]]) -> Iterator[TrainingBatch]:
        """While one group is trained on, the next is read."""
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(os.cpu_count() or 1) as readers:
            coming = [ahead.submit(self._read, readers, place) for place, _ in wanted[:1]]
            for number, (place, skipped) in enumerate(wanted):
                pairs = coming.pop().result()
                coming = [ahead.submit(self._read, readers, later) for later, _ in wanted[number + 1 : number + 2]]
                rng = np.random.default_rng([self.work.how.seed, _PAIRS_STREAM, epoch, self.worker, place])
                shuffled = rng.permutation(len(pairs.captions))
                for step in range(skipped, len(shuffled) // self.size):
                    yield self._batch(pairs, shuffled[step * self.size : (step + 1) * self.size])

    def _read(self, readers: ThreadPoolExecutor, place: int) -> _Pairs:
        from curate.models.finetune import Hints

        read = list(readers.map(self.work.pairs_of, self.groups[place].parts))
        hints = [each.hints for each in read]
        return _Pairs(
            pixels=np.concatenate([each.pixels for each in read]),
            captions=tuple(caption for each in read for caption in each.captions),
            hints=Hints.joined(hints),
        )

    def _batch(self, pairs: _Pairs, rows: Rows) -> TrainingBatch:
        import torch

        from curate.models.finetune import TrainingBatch

        tokens = self.towers.tokenizer([pairs.captions[row] for row in rows.tolist()])
        return TrainingBatch(torch.from_numpy(pairs.pixels[rows]), tokens, pairs.hints.take(rows))


@dataclass(frozen=True)
class _StoredCheckpoints:
    """A checkpoint in the run directory; one of another training counts as none."""

    store: RunStore
    name: str
    fingerprint: str

    def load(self) -> bytes | None:
        """See `Checkpoints`."""
        if not self.store.exists(self.name):
            return None
        fingerprint, _, state = self.store.read_bytes(self.name).partition(b"\n")
        return state if fingerprint == self.fingerprint.encode() else None

    def save(self, state: bytes) -> None:
        """See `Checkpoints`."""
        self.store.write_bytes(self.name, self.fingerprint.encode() + b"\n" + state)


def read_training(store: RunStore, folder: str) -> dict[str, Any]:
    """What the training of a folder left beside the weights: mean losses, steps."""
    facts: dict[str, Any] = json.loads(store.read_bytes(f"{folder}/{TRAINING_FILE}"))
    return facts
