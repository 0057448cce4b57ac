"""The noise fit, the noise step and the marking of duplicates, as a plan has them."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version

from curate.config import NoiseConfig, PipelineConfig
from curate.errors import InputError
from curate.models.encoder import EncoderSpec
from curate.noise.signals import evidence_of
from curate.plan.fits import is_fitted, take_fit
from curate.plan.options import noise_columns, noise_options
from curate.plan.step import DUPLICATES, EMBED, NOISE_FIT, DuplicatesStep, FitStep, NoiseFitWork, RowStep, row_step
from curate.schema import SCHEMA_VERSION
from curate.stages.noise import Noise
from curate.steps import NoiseWork
from curate.store import DoneIndex, RunStore, fingerprint

# Raise it when the same sample would give another noise model.
NOISE_FIT_VERSION = 6
# Raise it when the same pairs would be marked otherwise.
DUPLICATES_VERSION = 1


def plan_noise_fit(
    config: PipelineConfig,
    noise: NoiseConfig,
    spec: EncoderSpec,
    store: RunStore,
    embed: RowStep,
    name: str = NOISE_FIT,
    training: str | None = None,
) -> FitStep:
    """The fit of a noise model on the embeddings of the step `embed`; `training`: the round it belongs to.

    Raises:
        InputError: these towers do not allow the signals.
    """
    options = noise_options(noise)
    evidence_of(options.signals, spec.joint_space)
    wanted = fingerprint(
        {
            "fit": "noise",
            "version": NOISE_FIT_VERSION,
            "options": dataclasses.asdict(options),
            "fit_rows": noise.fit_rows,
            "by": noise.mixture.by,
            "seed": config.seed,
            "joint_space": spec.joint_space,
            "libraries": {name: version(name) for name in ("numpy", "scikit-learn", "torch")},
            "from": list(embed.fingerprints.values()),
        }
    )
    fitted = {**dataclasses.asdict(options), "fit_rows": noise.fit_rows, "by": noise.mixture.by, "seed": config.seed}
    work = NoiseFitWork(options, noise.mixture.by, embed.name, spec.joint_space)
    return FitStep(name, work, noise.fit_rows, wanted, is_fitted(store, name, wanted), fitted, round=training)


def take_noise_fit(run: str, noise: NoiseConfig, spec: EncoderSpec, store: RunStore) -> FitStep:
    """The noise fit of another run.

    Raises:
        InputError: there is none, it is for other towers, or its posteriors are by another field.
    """
    work = NoiseFitWork(noise_options(noise), noise.mixture.by, EMBED, spec.joint_space)
    fit = take_fit(run, NOISE_FIT, work, noise.fit_rows, spec, store)
    by = fit.fitted.get("by")
    if by != noise.mixture.by:
        raise InputError(
            f"--fits-from {run}: its posteriors are by {by or 'nothing'}, here mixture.by is "
            f"{noise.mixture.by or 'not set'}. Set the same field, or fit anew without --fits-from."
        )
    return fit


def plan_noise(
    noise: NoiseConfig,
    store: RunStore,
    embed: RowStep,
    fit: FitStep,
    done: DoneIndex,
    name: str = NOISE_FIT,
    training: str | None = None,
) -> RowStep:
    """The step that scores every pair by a noise fit; `training`: the round it belongs to."""
    how = noise_columns(noise)
    facts = {
        "noise": {**fit.fitted, **dataclasses.asdict(how)},
        "fit": fit.fingerprint,
        "versions": {"noise": Noise.version},
    }
    work = NoiseWork(store.address, fit.name, how, noise.mixture.by, embed.name)
    return row_step(name, work, dict(embed.fingerprints), facts, done, fit.name, training)


def plan_duplicates(seed: int, embed: RowStep, fit: FitStep, done: DoneIndex) -> DuplicatesStep:
    """The step that marks equal and nearly equal pictures by the picture fingerprints of the noise fit."""
    facts = {
        "step": DUPLICATES,
        "schema_version": SCHEMA_VERSION,
        "duplicates": {"seed": seed},
        "versions": {"duplicates": DUPLICATES_VERSION},
    }
    wanted = fingerprint({**facts, "fit": fit.fingerprint, "from": list(embed.fingerprints.values())})
    finished = all(done.fingerprint(DUPLICATES, number) == wanted for number in embed.fingerprints)
    return DuplicatesStep(DUPLICATES, fit.name, wanted, facts, finished, seed)
