"""Which step's noise_prob counts, and what it depends on."""

from __future__ import annotations

from typing import Any

from curate.config import PipelineConfig
from curate.plan.step import NOISE_FIT, REFINE_FIT, FitStep
from curate.stages.noise import Noise
from curate.stages.refine import Refine


def beliefs_of(config: PipelineConfig, noise_fit: FitStep | None, refined: list[str]) -> list[Any] | None:
    """What decides noise_prob, not labels and hints; None: there is no noise step."""
    if noise_fit is None:
        return None
    last = [*refined, Refine.version] if refined else []
    return [noise_fit.fingerprint, Noise.version, _stratum(config), *last]


def believed_step(config: PipelineConfig) -> str | None:
    """The step whose noise_prob counts; None: there is none."""
    if config.stages.refine is not None:
        return REFINE_FIT
    return None if config.stages.noise is None else NOISE_FIT


def _stratum(config: PipelineConfig) -> str | None:
    return None if config.stages.noise is None else config.stages.noise.mixture.by
