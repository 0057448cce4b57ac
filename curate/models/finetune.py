"""Trains open_clip towers on the trusted part of a corpus: the losses of the papers, checkpoints, one or many workers.

The loss is that of the global batch on every worker: features are gathered with their gradients, so that how many
workers share a batch changes nothing but the rounding.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.errors import CurateError
from curate.models import losses
from curate.models.finetune_options import FinetuneOptions
from curate.models.lora import add_lora, merge_lora
from curate.noise.heads import LossName

log = logging.getLogger(__name__)

# AdamW as CLIP was trained (Radford et al., ICML 2021, table 19) and NPC fine-tunes it.
BETAS = (0.9, 0.98)
EPSILON = 1e-6
WARM_UP_SHARE = 0.1
MOST_LOGIT_SCALE = math.log(100)
# NPC's memory bank: pairs whose posterior of being clean is above .9.
CERTAIN_BELOW = 0.1
_STEP, _LOSS = "step", "losses"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Hints:
    """What the annotations say of each pair of a batch.

    Attributes:
        noise_prob, smoothing, weight, margin_image, margin_text: columns of that name, float32 [n].
        picture, caption: hashes; equal ones are no negatives of each other, int64 [n].
    """

    noise_prob: Floats
    smoothing: Floats
    weight: Floats
    margin_image: Floats
    margin_text: Floats
    picture: NDArray[np.int64]
    caption: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp]) -> Hints:
        """Some of the rows."""
        return Hints(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, pieces: Sequence[Hints]) -> Hints:
        """The rows of all pieces, in order."""
        return cls(*(np.concatenate([getattr(each, field.name) for each in pieces]) for field in fields(cls)))

    def tensors(self, device: torch.device) -> dict[str, Tensor]:
        """By name, on a device."""
        return {field.name: torch.from_numpy(getattr(self, field.name)).to(device) for field in fields(self)}


@dataclass(frozen=True)
class TrainingBatch:
    """One worker's share of a step.

    Attributes:
        pixels: RGB, uint8 [n, side, side, 3].
        tokens: int64 [n, context].
        hints: of the pairs.
    """

    pixels: Tensor
    tokens: Tensor
    hints: Hints


class Checkpoints(Protocol):
    """Where the state of a training is kept between two lives of a worker."""

    def load(self) -> bytes | None:
        """What `save` was last given, None before the first time."""
        ...

    def save(self, state: bytes) -> None:
        """Keep the state; whole or not at all."""
        ...


@dataclass(frozen=True)
class Trained:
    """Towers after training.

    Attributes:
        weights: the model's state dict, float32; LoRA merged.
        epoch_losses: mean loss of every epoch.
    """

    weights: Mapping[str, Tensor]
    epoch_losses: tuple[float, ...]


def autocast_for(precision: str) -> torch.dtype | None:
    """What `finetune` is to compute in where a plan chose fp32, bf16 or fp16: weights stay in float32."""
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


BatchesFrom: TypeAlias = Callable[[int, int], Iterable[TrainingBatch]]
"""Of an epoch, from one of its steps on."""


def finetune(
    model: Any,
    normalise: Callable[[Tensor], Tensor],
    batches: BatchesFrom,
    steps_per_epoch: int,
    options: FinetuneOptions,
    checkpoints: Checkpoints | None,
    autocast: torch.dtype | None = None,
) -> Trained:
    """Train; go on from the checkpoint where there is one.

    With one worker on a CPU and a fixed number of threads, the weights are the same bytes however often it was
    interrupted: the state holds all that the next step depends on, and every step draws from a generator of its own.

    Args:
        model: an open_clip CLIP in float32, on the device it is to be trained on; changed in place.
        normalise: pixels as `TrainingBatch` has them, on the model's device, to what the model takes.
        batches: batches of an epoch from a step on, the same ones every time.
        steps_per_epoch: how many there are.
        options: how.
        checkpoints: where the state goes; only the first worker writes. None: it begins anew and leaves nothing.
        autocast: lower precision for the forward pass (mixed precision); None: float32 throughout.

    Raises:
        CurateError: the loss is not finite; or the checkpoint is of another training.
    """
    training = _Training(model, normalise, steps_per_epoch * options.epochs, options, autocast)
    training.restore(None if checkpoints is None else checkpoints.load())
    first = training.step
    for epoch in range(first // steps_per_epoch, options.epochs):
        start = training.step - epoch * steps_per_epoch
        log.info("epoch %d of %d, %d steps each", epoch + 1, options.epochs, steps_per_epoch)
        for batch in batches(epoch, start):
            training.take_step(batch)
            finished = training.step == training.total
            due = finished or training.step % options.checkpoint_steps == 0
            if checkpoints is not None and due and _is_first_worker():
                checkpoints.save(training.state())
                log.info("step %d of %d, loss %.3f", training.step, training.total, training.losses[-1])
    if options.trainable == "lora":
        merge_lora(model)
    weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return Trained(weights, training.epoch_losses(steps_per_epoch))


class _Training:
    """A model, its optimiser and how far they have come."""

    def __init__(
        self,
        model: Any,
        normalise: Callable[[Tensor], Tensor],
        total: int,
        options: FinetuneOptions,
        autocast: torch.dtype | None,
    ) -> None:
        self.model, self.normalise, self.total = model, normalise, total
        self.options, self.autocast = options, autocast
        self.step = 0
        self.losses: list[float] = []
        if options.trainable == "lora":
            add_lora(model, options.lora_rank, torch.Generator().manual_seed(options.seed))
        else:
            model.requires_grad_(True)
        model.train()
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.device = next(iter(self.trained.values())).device
        self.optimiser = torch.optim.AdamW(self._groups(), lr=options.learning_rate, betas=BETAS, eps=EPSILON)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=autocast is torch.float16)
        self.forward: Callable[[Tensor, Tensor], Any] = _shared_out(model)

    def _groups(self) -> list[dict[str, Any]]:
        matrices = [weight for weight in self.trained.values() if weight.ndim >= 2]
        others = [weight for weight in self.trained.values() if weight.ndim < 2]
        decay = self.options.weight_decay
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def take_step(self, batch: TrainingBatch) -> None:
        """One step of the optimiser on one batch."""
        torch.manual_seed((self.options.seed << 32) + self.step)
        rate = learning_rate(self.step, self.total, self.options.learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            pixels = self.normalise(batch.pixels.to(self.device))
            image, text, scale = self.forward(pixels, batch.tokens.to(self.device))[:3]
        hints = {name: _gathered(hint) for name, hint in batch.hints.tensors(self.device).items()}
        image, text = (_gathered_with_gradient(rows.float()) for rows in (image, text))
        loss = batch_loss(self.options.loss, image, text, scale, hints, self.options.distribution_gap)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CurateError(
                f"training: the loss of step {self.step} is {value}. Set a lower learning_rate under refine:, or "
                "precision: fp32 under encoder: where it is another."
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(list(self.trained.values()), self.options.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
        self.losses.append(value)
        self.step += 1

    def epoch_losses(self, steps: int) -> tuple[float, ...]:
        return tuple(float(np.mean(self.losses[start : start + steps])) for start in range(0, len(self.losses), steps))

    def state(self) -> bytes:
        """All that the next step depends on, as one safetensors file: nothing in it can be executed."""
        from safetensors.torch import save

        tensors = {f"weight.{name}": weight.detach() for name, weight in self.trained.items()}
        tensors |= {f"buffer.{name}": buffer for name, buffer in self.model.named_buffers()}
        for name, weight in self.trained.items():
            tensors |= {f"optimiser.{key}.{name}": value for key, value in self.optimiser.state[weight].items()}
        facts = {_STEP: self.step, _LOSS: self.losses, "scaler": self.scaler.state_dict()}
        copies = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        state: bytes = save(copies, metadata={"curate": json.dumps(facts)})
        return state

    def restore(self, state: bytes | None) -> None:
        """The inverse of `state`."""
        if state is None:
            return
        tensors, facts = _opened(state)
        try:
            with torch.no_grad():
                for name, weight in self.trained.items():
                    weight.copy_(tensors[f"weight.{name}"])
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(tensors[f"buffer.{name}"])
            for name, weight in self.trained.items():
                self.optimiser.state[weight] = _of_weight(tensors, name)
        except (KeyError, RuntimeError) as error:
            raise CurateError(f"refine: the checkpoint does not fit the model: {error}") from error
        self.step, self.losses = facts[_STEP], facts[_LOSS]
        if facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])


def _of_weight(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensors[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}


def _opened(state: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(state)
        header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["curate"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CurateError(f"refine: the checkpoint cannot be read: {error}") from error


def learning_rate(step: int, total: int, highest: float) -> float:
    """Linear up over the first tenth of the steps, then half a cosine down to nothing."""
    warm_up = max(1, round(WARM_UP_SHARE * total))
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def batch_loss(
    loss: LossName,
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    hints: Mapping[str, Tensor],
    distribution_gap: float = 0.0,
) -> Tensor:
    """The chosen loss of a batch, a scalar.

    Args:
        loss: which.
        image, text: unit rows, float [n, d].
        scale: 1 / temperature.
        hints: `Hints` as tensors.
        distribution_gap: weight of dsdmr's term of that name, >= 0.
    """
    similarity = image @ text.T
    same = (hints["picture"][:, None] == hints["picture"]) | (hints["caption"][:, None] == hints["caption"])
    if loss == "dsdmr":
        kept = hints["noise_prob"] < 0.5
        ranking = losses.dsdmr(similarity, hints["margin_image"], hints["margin_text"], kept, same)
        if not distribution_gap:
            return ranking
        return ranking + distribution_gap * losses.distribution_gap(similarity.diagonal(), hints["noise_prob"])
    logits = scale * similarity
    if loss == "nitc":
        return losses.noise_adaptive_itc(logits, hints["smoothing"], same)
    if loss == "npc":
        entries = _memory_entries(image.detach(), text.detach(), hints["noise_prob"], same)
        if len(entries):
            return losses.npc(logits, hints["weight"], logits[entries][:, entries], entries, same=same)
        return (hints["weight"] * losses.itc_losses(logits, same)).mean()
    return losses.info_nce(logits, same)


def _memory_entries(image: Tensor, text: Tensor, noise_prob: Tensor, same: Tensor) -> Tensor:
    """NPC's memory bank within a batch: of each pair, the certainly clean ones nearest by image and by caption.

    Published, the bank is the whole clean set and entries are loaded beside each pair, which makes a step cost twice
    as much and more.
    """
    certain = noise_prob < CERTAIN_BELOW
    barred = ~certain[None, :] | same
    entries = []
    for side in (image, text):
        cosines = (side @ side.T).masked_fill(barred, -torch.inf)
        best = cosines.max(dim=1)
        entries.append(best.indices[torch.isfinite(best.values)])
    return torch.cat(entries)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _is_first_worker() -> bool:
    return not _distributed() or torch.distributed.get_rank() == 0


def _shared_out(model: Any) -> Callable[[Tensor, Tensor], Any]:
    if not _distributed():
        return model  # type: ignore[no-any-return]
    devices = [next(model.parameters()).device.index] if next(model.parameters()).is_cuda else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def _gathered(rows: Tensor) -> Tensor:
    """The rows of all workers, in their order."""
    if not _distributed():
        return rows
    pieces = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(pieces, rows)
    return torch.cat(pieces)


def _gathered_with_gradient(rows: Tensor) -> Tensor:
    if not _distributed():
        return rows
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows))  # type: ignore[no-untyped-call]
