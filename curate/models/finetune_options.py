"""How towers are fine-tuned; apart from the training itself, which is made of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from curate.noise.heads import LossName

Trainable: TypeAlias = Literal["lora", "full"]


@dataclass(frozen=True)
class FinetuneOptions:
    """How towers are trained.

    Attributes:
        trainable: full: every weight; lora: low-rank differences of them.
        loss: infonce; nitc (NLIP); npc; dsdmr.
        distribution_gap: weight of dsdmr's term of that name; 0: without it.
        epochs: passes over the trusted pairs.
        batch_size: pairs in one step, over all workers.
        learning_rate: the highest; a tenth of the steps warm up to it, a cosine goes down from it.
        weight_decay: of matrices.
        clip_norm: largest norm of the gradient.
        lora_rank: of `lora`.
        checkpoint_steps: steps between two checkpoints.
        seed: of LoRA's start and of every step.
    """

    trainable: Trainable = "full"
    loss: LossName = "nitc"
    distribution_gap: float = 0.0
    epochs: int = 1
    batch_size: int = 256
    learning_rate: float = 1e-5
    weight_decay: float = 0.2
    clip_norm: float = 1.0
    lora_rank: int = 8
    checkpoint_steps: int = 200
    seed: int = 0
