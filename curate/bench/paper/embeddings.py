"""A published data set under frozen towers: every image and every caption once, resumed where it was left off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.bench.paper.splits import PaperDataset, Split
from curate.bench.paper.training import Embedded
from curate.columns import embedding_matrix
from curate.config import InputConfig, PipelineConfig
from curate.errors import InputError
from curate.execution import Runner, execute
from curate.models.encoder import load_encoder
from curate.noise.similarity import Bools, Floats
from curate.plan import Plan, encoder_options
from curate.progress import PartReport, Progress, StepReport, StepStart
from curate.schema import Status
from curate.store import RunStore, fingerprint, part_file

IMAGE_LIST = "images.jsonl"
CAPTIONS_STEP = "captions"
CAPTIONS_PER_FILE = 10_000
_SHOWN = 3


@dataclass(frozen=True)
class Part:
    """One part of the data set.

    Attributes:
        split: images that could be used, and their captions.
        image_sha256: checksum of every image.
        embedded: both under the towers, in the split's order.
    """

    split: Split
    image_sha256: tuple[str, ...]
    embedded: Embedded


@dataclass(frozen=True)
class EmbeddedDataset:
    """All parts.

    Attributes:
        train, dev, test: see `Part`.
        joint_space: whether the towers were trained together.
        left_out: images that cannot be decoded; 0 but for CC152K.
    """

    train: Part
    dev: Part
    test: Part
    joint_space: bool
    left_out: int


def image_pipeline(dataset: PaperDataset, config: PipelineConfig) -> PipelineConfig:
    """List the images in the run directory, and the pipeline that embeds them: one row for each file.

    Raises:
        InputError: the run directory is not on this machine.
    """
    store = RunStore(config.output)
    if store.local_root is None:
        raise InputError(f"--work {config.output}: must be a folder of this machine")
    files = _files(dataset)
    lines = [json.dumps({"key": str(row), "image": str(file.resolve()), "caption": "image"}) for row, file in files]
    store.write_bytes(IMAGE_LIST, ("\n".join(lines) + "\n").encode())
    listed = InputConfig(format="jsonl", path=str(Path(store.local_root) / IMAGE_LIST))
    given = listed.model_copy(update={"max_image_pixels": config.input.max_image_pixels})
    return config.model_copy(update={"input": given})


def _files(dataset: PaperDataset) -> list[tuple[int, Path]]:
    splits = (dataset.train, dataset.dev, dataset.test)
    return list(enumerate(dict.fromkeys(file for split in splits for file in split.images)))


def embed_dataset(dataset: PaperDataset, plan: Plan, runner: Runner, progress: Progress) -> EmbeddedDataset:
    """Embed what is not embedded yet. Memory: all embeddings.

    Args:
        dataset: its lists.
        plan: of the `image_pipeline`.
        runner, progress: see `execute`; captions are a step of their own.

    Raises:
        InputError: an image cannot be decoded, or for CC152K not one of a part.
    """
    execute(plan, runner, progress)
    columns = ["key", "status", "error", "image_sha256", "image_embedding"]
    table = pa.concat_tables(
        [plan.store.read_table(part_file("embed", number), columns) for number in plan.manifest.parts]
    )
    table = table.take(pa.array(np.argsort(table.column("key").to_numpy().astype(np.int64))))
    usable = np.array([status == Status.OK.value for status in table.column("status").to_pylist()])
    files = [file for _, file in _files(dataset)]
    if dataset.name != "cc152k" and not usable.all():
        raise InputError(_broken(files, usable, table.column("error").to_pylist()))
    images = _Images(
        {file: row for row, file in enumerate(files)},
        usable,
        embedding_matrix(table.column("image_embedding").filter(pa.array(usable))),
        table.column("image_sha256").to_pylist(),
    )
    texts = _embed_captions(dataset, plan, progress)
    parts = {
        name: _part(split, name, images, texts)
        for name, split in (("train", dataset.train), ("dev", dataset.dev), ("test", dataset.test))
    }
    return EmbeddedDataset(**parts, joint_space=plan.spec.joint_space, left_out=int((~usable).sum()))


def _broken(files: Sequence[Path], usable: Bools, errors: Sequence[str | None]) -> str:
    rows = np.nonzero(~usable)[0]
    shown = "; ".join(f"{files[row]}: {errors[row]}" for row in rows[:_SHOWN])
    return f"{len(rows):,} of {len(files):,} images cannot be used, and the protocol needs all. {shown}"


@dataclass(frozen=True)
class _Images:
    """All images: file -> row; which rows are usable; the usable ones' embeddings; all checksums."""

    row: dict[Path, int]
    usable: Bools
    embedding: Floats
    sha256: Sequence[str]


def _part(split: Split, name: str, images: _Images, texts: dict[str, Floats]) -> Part:
    rows = np.array([images.row[file] for file in split.images])
    kept = split.take_images(np.nonzero(images.usable[rows])[0])
    if not kept.captions:
        raise InputError(f"{name}: not one of its {len(rows):,} images can be decoded")
    rows = rows[images.usable[rows]]
    place = np.cumsum(images.usable) - 1
    image = images.embedding[place[rows]].astype(np.float32)
    text = np.stack([texts[caption] for caption in kept.captions]).astype(np.float32)
    return Part(kept, tuple(images.sha256[row] for row in rows), Embedded(image, text, kept.image_of))


def _embed_captions(dataset: PaperDataset, plan: Plan, progress: Progress) -> dict[str, Floats]:
    """Every caption once -> its embedding, float16 [dt]; files of 10,000, each made only if it is not there."""
    parts = (dataset.train, dataset.dev, dataset.test)
    captions = list(dict.fromkeys(caption for split in parts for caption in split.captions))
    chunks = [captions[start : start + CAPTIONS_PER_FILE] for start in range(0, len(captions), CAPTIONS_PER_FILE)]
    wanted = [_caption_fingerprint(plan, chunk) for chunk in chunks]
    missing = [number for number, mark in enumerate(wanted) if not _is_there(plan.store, number, mark)]
    to_do = sum(len(chunks[number]) for number in missing)
    start = StepStart(
        CAPTIONS_STEP,
        rows=len(captions),
        rows_done=len(captions) - to_do,
        parts=len(chunks),
        parts_done=len(chunks) - len(missing),
    )
    progress.step_started(start)
    started = time.monotonic()
    encoder = load_encoder(encoder_options(plan.config), plan.spec) if missing else None
    for number in missing:
        assert encoder is not None
        rows = list(encoder.encode_texts(chunks[number]))
        table = pa.table({"embedding": pa.array(rows, pa.list_(pa.float16(), plan.spec.text_dim))})
        plan.store.write_table(part_file(CAPTIONS_STEP, number), table, {"fingerprint": wanted[number]})
        progress.part_done(CAPTIONS_STEP, PartReport(number, len(chunks[number])))
    progress.step_done(StepReport(CAPTIONS_STEP, time.monotonic() - started, to_do))
    found: dict[str, Floats] = {}
    for number, chunk in enumerate(chunks):
        table = plan.store.read_table(part_file(CAPTIONS_STEP, number))
        found.update(zip(chunk, embedding_matrix(table.column("embedding")), strict=True))
    return found


def _caption_fingerprint(plan: Plan, captions: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
    return fingerprint({"encoder": plan.spec.to_json(), "captions": digest})


def _is_there(store: RunStore, number: int, wanted: str) -> bool:
    name = part_file(CAPTIONS_STEP, number)
    facts = store.read_facts(name) if store.exists(name) else None
    return facts is not None and facts["fingerprint"] == wanted
