"""Refinement as a plan has it: a fit of heads and its step, or rounds of trained towers."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

from curate.config import NoiseConfig, PipelineConfig, RefineConfig
from curate.errors import InputError
from curate.manifest import Manifest
from curate.models.encoder import EncoderSpec
from curate.plan.embed import contents_of, embed_facts, embed_limits
from curate.plan.fits import is_fitted, take_fit
from curate.plan.noise import plan_noise, plan_noise_fit
from curate.plan.options import (
    embed_decode_options,
    finetune_options,
    noise_columns,
    noise_options,
    refine_options,
    worker_encoder_options,
)
from curate.plan.step import (
    EMBED,
    NOISE_FIT,
    REFINE_FIT,
    FitStep,
    NoiseFitWork,
    RefineFitWork,
    RowStep,
    Step,
    TrainStep,
    row_step,
)
from curate.sources.base import Source
from curate.stages.decode import DecodeOptions
from curate.stages.refine import Refine
from curate.steps import RefinedEmbedWork, RefinedTowersWork, RefineWork, artifact_folder, is_settled
from curate.store import DoneIndex, RunStore, fingerprint
from curate.training import WEIGHTS_FILE, TrainWork

# Raise it when the same sample and noise model would give other rounds of refinement.
REFINE_FIT_VERSION = 1
# Raise it when the same training would leave other weights.
TRAIN_VERSION = 1


def plan_refine_fit(
    config: PipelineConfig,
    noise: NoiseConfig,
    refine: RefineConfig,
    spec: EncoderSpec,
    store: RunStore,
    noise_fit: FitStep,
) -> FitStep:
    """Fit on the pairs that the noise model was fitted on."""
    work = _refine_work(noise, refine, spec)
    fitted = {**dataclasses.asdict(work.options), "noise_fit": noise_fit.fingerprint, "seed": config.seed}
    wanted = fingerprint(
        {
            "fit": REFINE_FIT,
            "version": REFINE_FIT_VERSION,
            "fitted": fitted,
            "libraries": {name: version(name) for name in ("numpy", "scikit-learn", "torch")},
        }
    )
    return FitStep(REFINE_FIT, work, noise.fit_rows, wanted, is_fitted(store, REFINE_FIT, wanted), fitted)


def _refine_work(noise: NoiseConfig, refine: RefineConfig, spec: EncoderSpec) -> RefineFitWork:
    fitted = NoiseFitWork(noise_options(noise), noise.mixture.by, EMBED, spec.joint_space)
    return RefineFitWork(fitted, refine_options(noise, refine))


def take_refine_fit(
    run: str, noise: NoiseConfig, refine: RefineConfig, spec: EncoderSpec, store: RunStore, noise_fit: FitStep
) -> FitStep:
    """The heads of another run.

    Raises:
        InputError: there are none, or they are for other towers or another noise fit.
    """
    fit = take_fit(run, REFINE_FIT, _refine_work(noise, refine, spec), noise.fit_rows, spec, store)
    if fit.fitted.get("noise_fit") != noise_fit.fingerprint:
        raise InputError(f"--fits-from {run}: its refine fit is older than its noise fit. Let that run finish first.")
    return fit


def plan_refine(noise: NoiseConfig, store: RunStore, before: RowStep, fit: FitStep, done: DoneIndex) -> RowStep:
    """The step that scores every pair anew by refined heads."""
    how = noise_columns(noise)
    facts = {"refine": fit.fitted, "refine_fit": fit.fingerprint, "versions": {"refine": Refine.version}}
    work = RefineWork(store.address, fit.name, NOISE_FIT, how, noise.mixture.by)
    return row_step("refine", work, dict(before.fingerprints), facts, done, fit.name)


def plan_tower_rounds(
    config: PipelineConfig,
    source: Source,
    spec: EncoderSpec,
    manifest: Manifest,
    store: RunStore,
    embed: RowStep,
    noise: RowStep,
    done: DoneIndex,
) -> list[Step]:
    """Every round: train the towers, embed the corpus again, fit and score again; at the end what is believed now.

    Rounds are planned all; a training that finds labels settled is not done, nor is the rest of its round.
    """
    refine, of_noise = config.stages.refine, config.stages.noise
    assert refine is not None
    assert of_noise is not None
    joint = dataclasses.replace(spec, joint_space=True)
    steps: list[Step] = []
    trainings: list[TrainStep] = []
    scored = [noise]
    for number in range(1, refine.rounds + 1):
        name = f"{REFINE_FIT}-{number}"
        training = _train_step(name, config, refine, source, spec, manifest, store, scored, trainings)
        embedded = _refined_embed_step(config, source, spec, manifest, store, training, done)
        fit = plan_noise_fit(config, of_noise, joint, store, embedded, f"{name}-noise", name)
        scoring = plan_noise(of_noise, store, embedded, fit, done, f"{name}-noise", name)
        trainings.append(training)
        scored.append(scoring)
        steps += [training] if training.done and is_settled(store, name) else [training, embedded, fit, scoring]
    rounds = tuple((training.name, step.name) for training, step in zip(trainings, scored[1:], strict=True))
    facts = {"refine": refine.model_dump(exclude={"checkpoint_steps"}), "versions": {"refine": Refine.version}}
    identity = {number: [step.fingerprints[number] for step in scored] for number in noise.fingerprints}
    work = RefinedTowersWork(store.address, rounds)
    return [*steps, row_step(REFINE_FIT, work, identity, facts, done)]


def _train_step(
    name: str,
    config: PipelineConfig,
    refine: RefineConfig,
    source: Source,
    spec: EncoderSpec,
    manifest: Manifest,
    store: RunStore,
    scored: list[RowStep],
    trainings: list[TrainStep],
) -> TrainStep:
    """The next round's training, always from the encoder's own weights: what an early round got wrong is forgotten."""
    how, decode = finetune_options(refine, config.seed), embed_decode_options(config, spec)
    hints = scored[-1]
    facts = {
        "fit": name,
        "version": TRAIN_VERSION,
        "how": {**dataclasses.asdict(how), "checkpoint_steps": None},
        "trusted_below": refine.trusted_below,
        "settled": refine.settled,
        "encoder": spec.to_json(),
        "decode": _decode_facts(decode),
        "from": list(hints.fingerprints.values()),
    }
    wanted = fingerprint(facts)
    work = TrainWork(
        source=source,
        parts=manifest.parts,
        shards=manifest.shards,
        run=store.address,
        hints=hints.name,
        folder=artifact_folder(name),
        options=worker_encoder_options(config),
        spec=spec,
        decode=decode,
        how=how,
        trusted_below=refine.trusted_below,
        fingerprint=wanted,
    )
    return TrainStep(
        name=name,
        work=work,
        fingerprint=wanted,
        done=is_fitted(store, name, wanted),
        before=trainings[-1].name if trainings else None,
        compared=(scored[-2].name, scored[-1].name) if trainings else None,
        settled=refine.settled,
    )


def _decode_facts(decode: DecodeOptions) -> dict[str, Any]:
    """What the pictures of a training depend on; the mode is told only where it is not the one there always was."""
    facts = dataclasses.asdict(decode)
    if decode.mode == "exact":
        del facts["mode"]
    return facts


def _refined_embed_step(
    config: PipelineConfig,
    source: Source,
    spec: EncoderSpec,
    manifest: Manifest,
    store: RunStore,
    training: TrainStep,
    done: DoneIndex,
) -> RowStep:
    facts = {**embed_facts(config, spec), "trained": training.fingerprint}
    weights = f"{artifact_folder(training.name)}/{WEIGHTS_FILE}"
    decode, options = embed_decode_options(config, spec), worker_encoder_options(config)
    limits = embed_limits(config.input)
    work = RefinedEmbedWork(source, decode, options, spec, limits, run=store.address, weights=weights)
    name = f"{training.name}-embed"
    return row_step(name, work, contents_of(manifest), facts, done, training.name, training.name)
