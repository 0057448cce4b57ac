"""Image and text towers: pixels and captions in, unit-norm embeddings out, the same bytes every time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError, InputError
from curate.models import numerics
from curate.models.numerics import PRECISIONS, ModelSpec
from curate.models.torch_pair import require_torch_pair
from curate.models.towers import (
    ImageTower,
    TextTower,
    TokenIds,
    Towers,
    build_towers,
    offline_text_tower,
)
from curate.models.weights import ENCODER, OFFLINE, ModelFiles, locate

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CPU_BATCH_SIZE = 16
"""Measured, EfficientNet-Lite0 on one core: 60 images/s at 16, 41 at 64, whose activations fall out of the cache."""
GPU_BATCH_SIZE = 512
MEAN_COSINE = 0.999
LEAST_COSINE = 0.99
"""A faster precision is used only if the embeddings of a probe keep these cosines to fp32, on average and each."""

TOKENS_PER_ROW = 16
"""A padded batch of captions has batch_size * 16 tokens in every bucket, so that a part-filled one wastes little."""

_PROBE_CAPTIONS = ("a dog", "a red bicycle leaning on a white wall in the old town", "chart of sales, 1998 - 2004 (%)")


@dataclass(frozen=True)
class EncoderOptions:
    """What the user asks for.

    Attributes:
        model: open_clip name ("ViT-B-32"), path of an open_clip JSON config, or "offline".
        pretrained: open_clip tag ("laion2b_s34b_b79k") or path of a local checkpoint (.pt, .safetensors).
        precision: auto, fp32, bf16 or fp16.
        device: auto, cpu or cuda.
        batch_size: rows in one padded forward pass; None for 16 on a CPU, 512 on a GPU.
    """

    model: str = OFFLINE
    pretrained: str | None = None
    precision: str = "auto"
    device: str = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise InputError(f"encoder.precision: {self.precision}: must be auto, {', '.join(PRECISIONS)}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"encoder.device: {self.device}: must be auto, cpu or cuda")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"encoder.batch_size: {self.batch_size}: must be at least 1")


@dataclass(frozen=True)
class EncoderSpec(ModelSpec):
    """The numerics of an encoder, chosen once when planning; every worker honours it or says that it cannot.

    Attributes:
        image_dim, text_dim: width of the embeddings.
        joint_space: the towers were trained together, so a cosine between them means something.
        context_length: most tokens of a caption that the text tower reads.
        batch_size: rows in one padded forward pass of the image tower; see TOKENS_PER_ROW for captions.
    """

    image_dim: int
    text_dim: int
    joint_space: bool
    context_length: int
    batch_size: int


def resolve_encoder(options: EncoderOptions) -> EncoderSpec:
    """Choose device, precision and batch shape, and find out all that can be known only from the model.

    Runs in the driver and loads the model there, on the CPU. Weights named by a tag are fetched.

    Raises:
        InputError: the options name something that does not exist or cannot be had on this machine.
        CurateError: the weights cannot be fetched, or torch and torchvision do not work together.
    """
    require_torch_pair()
    import torch

    threads_before = torch.get_num_threads()
    try:
        return _resolve(options)
    finally:
        torch.set_num_threads(threads_before)


def load_encoder(options: EncoderOptions, spec: EncoderSpec, trained: Path | None = None) -> Encoder:
    """Load the towers in a worker.

    Args:
        options: where the model and its weights are, as given to `resolve_encoder`.
        spec: what `resolve_encoder` made of them.
        trained: weights that training made of the planned ones, which they stand in for.

    Raises:
        CurateError: this worker cannot honour the spec: no such device or precision, other libraries or weights.
    """
    require_torch_pair()
    numerics.check_worker(spec, ENCODER)
    files = locate(options.model, options.pretrained)
    numerics.check_files(spec, files)
    if trained is not None:
        files = dataclasses.replace(files, weights=(trained,))
    return Encoder(build_towers(files, spec.precision, spec.device), spec)


def caption_embedder() -> Callable[[list[str]], NDArray[np.float32]]:
    """The offline text tower (MiniLM) alone, on the CPU.

    Returns:
        A function from n captions to float32 [n, 384], unit norm.

    Raises:
        InputError: the extra `curate[offline]` is not installed.
    """
    require_torch_pair()
    tower = offline_text_tower(locate(OFFLINE, None), "fp32", "cpu")

    def embed(captions: list[str]) -> NDArray[np.float32]:
        import torch

        torch.set_num_threads(1)
        return _TextBatches(tower, "cpu", CPU_BATCH_SIZE)(captions)

    return embed


class Encoder:
    """Both towers, ready to use from several threads at once.

    A row's embedding depends on the row and on the spec alone: every forward pass has one of a few fixed shapes,
    filled up with rows that are thrown away.
    """

    def __init__(self, towers: Towers, spec: EncoderSpec) -> None:
        self.spec = spec
        self._images = _ImageBatches(towers.image, spec.device, spec.batch_size)
        self._texts = _TextBatches(towers.text, spec.device, spec.batch_size)

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Embed images.

        Args:
            pixels: uint8 [n, image_size, image_size, 3], RGB.

        Returns:
            float16 [n, image_dim], L2-normalised, for joint and for separately trained towers alike.

        Raises:
            CurateError: the precision cannot hold the features, or the GPU's memory not even one row.
        """
        side = self.spec.image_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise CurateError(f"pixels must be uint8 [n, {side}, {side}, 3], not {pixels.dtype} {list(pixels.shape)}")
        self._use_planned_threads()
        return self._finished(self._images(pixels), self.spec.image_dim)

    def encode_texts(self, captions: Sequence[str]) -> NDArray[np.float16]:
        """Embed captions; equal captions are computed once.

        Returns:
            float16 [n, text_dim], L2-normalised, for joint and for separately trained towers alike.

        Raises:
            CurateError: the precision cannot hold the features, or the GPU's memory not even one row.
        """
        self._use_planned_threads()
        return self._finished(self._texts(captions), self.spec.text_dim)

    def _use_planned_threads(self) -> None:
        import torch

        # OpenMP's thread count belongs to the calling thread: a new one starts with all cores.
        torch.set_num_threads(self.spec.threads)

    def _finished(self, embeddings: NDArray[np.float32], dim: int) -> NDArray[np.float16]:
        if embeddings.shape[1:] != (dim,):
            raise CurateError(f"the tower gave embeddings of width {embeddings.shape[1]}, planned {dim}")
        if not np.isfinite(embeddings).all():
            raise CurateError(
                f"{self.spec.model} overflows in {self.spec.precision}. Set encoder.precision: bf16 or fp32."
            )
        return embeddings.astype(np.float16)


# Batches of a fixed shape.


class _ImageBatches:
    """Runs an image tower over any number of rows."""

    def __init__(self, tower: ImageTower, device: str, rows: int) -> None:
        self._tower = tower
        self._forward = _FixedShape(device, rows)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [n, h, w, 3] -> float32 [n, dim], unit norm."""
        if len(pixels) == 0:
            return np.zeros((0, self._tower.dim), dtype=np.float32)
        return self._forward(self._tower, pixels)


class _TextBatches:
    """Runs a text tower over any number of captions, equal ones once, those of similar length together."""

    def __init__(self, tower: TextTower, device: str, rows: int) -> None:
        self._tower = tower
        self._forward = {
            length: _FixedShape(device, max(1, rows * TOKENS_PER_ROW // length)) for length in tower.lengths
        }

    def __call__(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """n captions -> float32 [n, dim], unit norm."""
        index = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        tokens = self._tower.tokenize(list(index)) if index else []
        counts = np.array([len(ids) for ids in tokens], dtype=np.int64)
        embeddings = np.zeros((len(index), self._tower.dim), dtype=np.float32)
        shorter = 0
        for length, forward in self._forward.items():
            members = np.flatnonzero((counts > shorter) & (counts <= length))
            shorter = length
            if len(members):
                padded = _padded([tokens[member] for member in members], length)
                embeddings[members] = forward(self._tower, padded, counts[members])
        return embeddings[[index[caption] for caption in captions]]


def _padded(rows: list[TokenIds], length: int) -> TokenIds:
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    return padded


class _FixedShape:
    """Cuts rows into batches of one size, fills up the last, halves the size when a GPU's memory does not hold it."""

    def __init__(self, device: str, rows: int) -> None:
        self._rows = rows
        self._send: _SendToGpu | _StayOnCpu = _SendToGpu() if device == "cuda" else _StayOnCpu()

    def __call__(self, tower: Callable[..., torch.Tensor], *columns: NDArray[Any]) -> NDArray[np.float32]:
        """Columns of n > 0 rows -> float32 [n, dim], unit norm.

        Raises:
            CurateError: the GPU's memory does not hold one row.
        """
        import torch

        outputs: list[torch.Tensor] = []
        start = 0
        sent: _Batch | None = None
        with torch.inference_mode():
            while start < len(columns[0]):
                sent = sent or self._sent(columns, start)
                # Tensors of a failed pass live as long as its exception: memory is freed behind the `except`.
                too_large: int | None = None
                try:
                    features = self._features(tower, sent)
                    # The next batch crosses the bus while the GPU works on this one.
                    following = start + sent.rows
                    ahead = self._sent(columns, following) if following < len(columns[0]) else None
                except torch.cuda.OutOfMemoryError as error:
                    if sent.rows == 1:
                        raise CurateError(
                            "the GPU's memory does not hold the encoder and one row; use a smaller model, or "
                            "encoder.device: cpu"
                        ) from error
                    too_large = sent.rows
                if too_large is not None:
                    sent = None
                    self._halve(too_large)
                    continue
                outputs.append(features)
                start, sent = following, ahead
            return torch.cat(outputs).cpu().numpy()

    def _sent(self, columns: Sequence[NDArray[Any]], start: int) -> _Batch:
        rows = self._rows
        pieces = [column[start : start + rows] for column in columns]
        return _Batch(self._send([_filled(piece, rows) for piece in pieces]), rows, len(pieces[0]))

    def _features(self, tower: Callable[..., torch.Tensor], batch: _Batch) -> torch.Tensor:
        from torch.nn.functional import normalize

        self._send.arrived(batch.columns)
        return normalize(tower(*batch.columns)[: batch.kept].float(), dim=-1)

    def _halve(self, rows: int) -> None:
        import torch

        self._rows = min(self._rows, rows // 2)
        torch.cuda.empty_cache()
        log.warning(
            "GPU memory does not hold a batch of %d rows; going on with %d. Embeddings may differ in the last bit "
            "from those of other workers: set encoder.batch_size lower to have all workers do the same.",
            rows,
            rows // 2,
        )


@dataclass(frozen=True)
class _Batch:
    """Tensors of `rows` rows on the tower's device, of which the first `kept` count."""

    columns: list[torch.Tensor]
    rows: int
    kept: int


def _tensor(column: NDArray[Any]) -> torch.Tensor:
    import torch

    # Arrow memory is read-only, which torch warns about.
    return torch.from_numpy(column if column.flags.writeable else column.copy())


class _StayOnCpu:
    """Batches for towers on the CPU."""

    def __call__(self, columns: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        return [_tensor(column) for column in columns]

    def arrived(self, columns: Sequence[torch.Tensor]) -> None:
        """They are there at once."""


class _SendToGpu:
    """Batches for towers on a GPU: copied on a stream of their own, from pinned memory, as bytes."""

    def __init__(self) -> None:
        import torch

        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, columns: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        import torch

        with torch.cuda.stream(self._stream):
            return [_tensor(column).pin_memory().to("cuda", non_blocking=True) for column in columns]

    def arrived(self, columns: Sequence[torch.Tensor]) -> None:
        """What is computed from here on waits for the copies, whose memory is not given away before it is done."""
        import torch

        computing = torch.cuda.current_stream()
        computing.wait_stream(self._stream)
        for column in columns:
            column.record_stream(computing)


def _filled(column: NDArray[Any], rows: int) -> NDArray[Any]:
    """The column with its last row repeated until there are `rows`."""
    missing = rows - len(column)
    return np.concatenate([column, np.repeat(column[-1:], missing, axis=0)]) if missing else column


# Choosing the numerics.


def _resolve(options: EncoderOptions) -> EncoderSpec:
    device = numerics.choose_device(options.device)
    numerics.check_precision(options.precision, device, ENCODER)
    files = locate(options.model, options.pretrained)
    towers = build_towers(files, "fp32", "cpu")
    fp32 = EncoderSpec(
        **vars(numerics.spec_of(files, towers.preprocess, device, "fp32")),
        image_dim=towers.image.dim,
        text_dim=towers.text.dim,
        joint_space=towers.joint_space,
        context_length=towers.text.lengths[-1],
        batch_size=options.batch_size or (CPU_BATCH_SIZE if device == "cpu" else GPU_BATCH_SIZE),
    )
    return dataclasses.replace(fp32, precision=_choose_precision(options.precision, fp32, files, towers))


def _choose_precision(asked: str, fp32: EncoderSpec, files: ModelFiles, towers: Towers) -> str:
    if asked != "auto":
        return asked
    if fp32.device == "cuda":
        return "fp16"
    return "bf16" if numerics.cpu_has_bf16() and _agrees("bf16", fp32, files, towers) else "fp32"


def _agrees(precision: str, fp32: EncoderSpec, files: ModelFiles, towers: Towers) -> bool:
    """Whether a precision keeps the embeddings of a fixed probe close enough to fp32's, on the CPU."""
    log.info("comparing %s in %s with fp32 on a probe", fp32.model, precision)
    lower = Encoder(build_towers(files, precision, "cpu"), dataclasses.replace(fp32, precision=precision))
    full = Encoder(towers, fp32)
    images = _probe_images(fp32.image_size)
    cosines = {
        "images": _cosines(lower.encode_images(images), full.encode_images(images)),
        "texts": _cosines(lower.encode_texts(_PROBE_CAPTIONS), full.encode_texts(_PROBE_CAPTIONS)),
    }
    for what, found in cosines.items():
        log.info(
            "%s in %s: %s of a probe have cosines to fp32 of %.5f on average, %.5f at least; %.3f and %.3f are needed",
            fp32.model,
            precision,
            what,
            found.mean(),
            found.min(),
            MEAN_COSINE,
            LEAST_COSINE,
        )
    return all(close_enough(found) for found in cosines.values())


def close_enough(cosines: NDArray[np.float64]) -> bool:
    """Whether embeddings with these cosines to fp32's may stand in for them."""
    return bool(cosines.mean() >= MEAN_COSINE and cosines.min() >= LEAST_COSINE)


def _probe_images(side: int) -> NDArray[np.uint8]:
    """Eight pictures of coloured blocks, coarse to fine: uint8 [8, side, side, 3]."""
    random = np.random.default_rng(0)
    images = np.zeros((8, side, side, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        blocks = 2 + 4 * number
        colours = random.integers(0, 256, (blocks, blocks, 3), dtype=np.uint8)
        cell = np.arange(side) * blocks // side
        image[:] = colours[cell][:, cell]
    return images


def _cosines(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    cosines: NDArray[np.float64] = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return cosines
