"""Config + manifest -> Plan: which steps run on which parts, what is done, what it needs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from curate.completion.policy import CAPTION_VERSION, CaptionColumns, DecoderName, Policy
from curate.concepts.fit import ConceptOptions
from curate.concepts.model import EXACT_NAMES
from curate.concepts.vocabulary import Vocabulary, read_vocabulary
from curate.config import CaptionConfig, CocaConfig, ConceptsConfig, NoiseConfig, PipelineConfig, RefineConfig
from curate.errors import InputError
from curate.manifest import Indexer, Manifest, ManifestChange, update_manifest
from curate.models.coca import CocaOptions, resolve_coca
from curate.models.encoder import EncoderOptions, EncoderSpec, resolve_encoder
from curate.models.finetune_options import FinetuneOptions
from curate.models.numerics import ModelSpec
from curate.noise.fit import NoiseOptions
from curate.noise.heads import HeadOptions
from curate.noise.refine import RefineOptions
from curate.noise.signals import evidence_of
from curate.schema import SCHEMA_VERSION
from curate.sources import open_source
from curate.sources.base import Source
from curate.sources.options import ColumnNames, SourceOptions
from curate.stages.concepts import ConceptColumns, Concepts
from curate.stages.decode import Decode, DecodeOptions
from curate.stages.embed import Embed
from curate.stages.noise import Noise, NoiseColumns
from curate.stages.refine import Refine
from curate.steps import (
    AnnotateWork,
    CaptionWork,
    CocaWork,
    ConceptsWork,
    EmbedWork,
    NoiseWork,
    PartTask,
    PartWork,
    RefinedEmbedWork,
    RefinedTowersWork,
    RefineWork,
    artifact_folder,
    is_settled,
    read_artifact_facts,
)
from curate.store import DoneIndex, RunStore, fingerprint
from curate.training import WEIGHTS_FILE, TrainWork

ENCODER_FILE = "_state/encoder.json"
COCA_FILE = "_state/coca.json"
# Raise it when annotation files would differ for the same columns of the steps before.
ANNOTATE_VERSION = 5
# Raise it when the same sample would give another noise model.
NOISE_FIT_VERSION = 6
# Raise it when the same sample and noise model would give other rounds of refinement.
REFINE_FIT_VERSION = 1
# Raise it when the same sample would give another concept model.
CONCEPTS_FIT_VERSION = 2
# Raise it when the same sample would give another captioner.
CAPTION_FIT_VERSION = 3
# Raise it when the same pairs would be marked otherwise.
DUPLICATES_VERSION = 1
# Raise it when the same training would leave other weights.
TRAIN_VERSION = 1
EMBED = "embed"
NOISE_FIT = "noise"
REFINE_FIT = "refine"
CONCEPTS_FIT = "concepts"
CAPTION_FIT = "caption"
DUPLICATES = "duplicates"


@dataclass(frozen=True)
class RowStep:
    """A step that leaves one column file per part.

    Attributes:
        name: folder of the column files.
        work: carries out one part.
        fingerprints: the wanted fingerprint of every part's file.
        facts: provenance for the files' schema metadata.
        done: numbers of the parts whose file is there with the wanted fingerprint.
        fit: name of the fit that must be complete before.
        round: the training whose round of refinement it belongs to; its columns are in no annotation.
    """

    name: str
    work: PartWork
    fingerprints: dict[int, str]
    facts: dict[str, Any]
    done: frozenset[int]
    fit: str | None = None
    round: str | None = None


@dataclass(frozen=True)
class NoiseFitWork:
    """How a noise model is fitted.

    Attributes:
        options: of the fit.
        by: kept field whose values are strata.
        embed: the step whose embeddings count.
        joint_space: whether its towers were trained together.
    """

    options: NoiseOptions
    by: str | None
    embed: str
    joint_space: bool


@dataclass(frozen=True)
class RefineFitWork:
    """How the rounds of refinement go.

    Attributes:
        noise: how the model that they go on from was fitted.
        options: of the rounds.
    """

    noise: NoiseFitWork
    options: RefineOptions


@dataclass(frozen=True)
class ConceptsFitWork:
    """How a concept model is fitted.

    Attributes:
        options: of the fit.
        vocabulary: names that were given; None: they are mined.
        believed: the step whose noise_prob weighs pairs, noise or refine; None: there is none.
    """

    options: ConceptOptions
    vocabulary: Vocabulary | None
    believed: str | None


@dataclass(frozen=True)
class CaptionFitWork:
    """How a captioner is fitted.

    Attributes:
        decoder: what is to write.
        trusted_below: pairs with a lower noise_prob are learned from.
        accept_quantile: of their agreement, which an accepted caption reaches.
        believed: the step whose noise_prob counts, noise or refine.
    """

    decoder: DecoderName
    trusted_below: float
    accept_quantile: float
    believed: str


FitWork: TypeAlias = NoiseFitWork | RefineFitWork | ConceptsFitWork | CaptionFitWork


@dataclass(frozen=True)
class FitStep:
    """A step that reads embeddings of a bounded sample and leaves artifacts, or takes them from another run.

    Attributes:
        name: name of the artifacts' folder.
        work: what to fit, and how.
        fit_rows: most pairs to fit on.
        fingerprint: the wanted fingerprint of the artifacts.
        done: whether they are there.
        fitted: provenance: options, bound of the sample and seed, of the run that fitted them.
        taken_from: run directory that already holds them; None: they are fitted here.
        round: the training whose round of refinement it belongs to.
    """

    name: str
    work: FitWork
    fit_rows: int
    fingerprint: str
    done: bool
    fitted: dict[str, Any]
    taken_from: str | None = None
    round: str | None = None


@dataclass(frozen=True)
class TrainStep:
    """A step that trains the towers on the trusted pairs and leaves their weights, unless labels have settled.

    Attributes:
        name: name of the artifacts' folder.
        work: the training.
        fingerprint: the wanted fingerprint of the artifacts.
        done: whether they are there.
        before: the training of the round before; None: this is the first.
        compared: noise steps of the two rounds before, whose noise_prob says whether labels have settled.
        settled: smallest share of pairs that must have entered or left the trusted ones.
    """

    name: str
    work: TrainWork
    fingerprint: str
    done: bool
    before: str | None
    compared: tuple[str, str] | None
    settled: float


@dataclass(frozen=True)
class DuplicatesStep:
    """A step that compares all pairs of the corpus and leaves one column file per part.

    Attributes:
        name: folder of the column files.
        fit: name of the fit whose picture fingerprints are compared.
        fingerprint: the wanted fingerprint of every part's file: each depends on all parts.
        facts: provenance for the files' schema metadata.
        done: whether all files are there with the wanted fingerprint.
        seed: of the order in which pictures lead clusters.
    """

    name: str
    fit: str
    fingerprint: str
    facts: dict[str, Any]
    done: bool
    seed: int


Step: TypeAlias = RowStep | FitStep | TrainStep | DuplicatesStep


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    config: PipelineConfig
    store: RunStore
    source: Source
    spec: EncoderSpec
    manifest: Manifest
    change: ManifestChange
    steps: tuple[Step, ...]
    index: DoneIndex

    def tasks(self, step: RowStep) -> list[PartTask]:
        """The parts of a step that are still to do."""
        return [
            PartTask(
                step.name,
                number,
                part,
                self.manifest.shards[part.shard],
                {**step.facts, "fingerprint": step.fingerprints[number]},
            )
            for number, part in self.manifest.parts.items()
            if number not in step.done
        ]


_NO_TOWERS_FROM = (
    "--fits-from: weights that refinement trained are not taken from another run. Name them as the encoder instead, "
    "encoder.pretrained: RUN/artifacts/refine-1/weights.safetensors, and leave out the stage refine."
)


def output_url(config: PipelineConfig, limit: int | None) -> str:
    """The run directory; a trial run has its own, so that it never touches the real one."""
    return config.output if limit is None else f"{config.output.rstrip('/')}-limit-{limit}"


def make_plan(config: PipelineConfig, index: Indexer, limit: int | None = None, fits_from: str | None = None) -> Plan:
    """Look at input, run directory and encoder, and decide what is to do.

    Args:
        config: the pipeline.
        index: reads shards that are new or changed; a runner's.
        limit: a trial run on the first so many pairs, rounded up to whole parts.
        fits_from: a finished run whose fits are used as they are; this very run directory may be named.

    Raises:
        InputError: the input matches nothing, the encoder cannot be had, or `fits_from` has no fits for it.
        CurateError: weights or the run directory cannot be reached.
    """
    store = RunStore(output_url(config, limit))
    options = source_options(config, limit)
    source = open_source(options)
    cutting = _cutting(options)
    shards = source.list_shards()
    spec = _encoder_spec(config, store)
    manifest, change = update_manifest(store, source, shards, cutting, index, limit)
    if not manifest.parts:
        raise InputError(_no_pairs(config, manifest))
    done = DoneIndex(store)
    steps = _steps(config, store, source, spec, manifest, done, fits_from)
    return Plan(config, store, source, spec, manifest, change, steps, done)


def _no_pairs(config: PipelineConfig, manifest: Manifest) -> str:
    first = "; ".join(f"{error.shard}: {error.error}" for error in manifest.errors[:3])
    return (
        f"input.path: {', '.join(config.input.paths)}: {len(manifest.shards)} shard(s), "
        f"but not one pair in them. {first}"
    )


def _cutting(options: SourceOptions) -> str:
    """Fingerprint of what decides where parts are cut; what is read of their pairs is the embed step's concern."""
    deciding = dataclasses.asdict(options)
    del deciding["keep"]
    return fingerprint({**deciding, "path": None, "image_root": None})


def source_options(config: PipelineConfig, limit: int | None = None) -> SourceOptions:
    """The input as the library takes it; a trial run cuts smaller parts."""
    given = config.input
    part_rows = given.part_rows if limit is None else min(given.part_rows, limit)
    return SourceOptions(
        format=given.format,
        path=given.paths,
        part_rows=part_rows,
        columns=ColumnNames(given.columns.image, given.columns.caption, given.columns.key),
        caption_json_key=given.caption_json_key,
        image_root=given.image_root,
        keep=tuple(given.keep),
    )


def encoder_options(config: PipelineConfig) -> EncoderOptions:
    """The encoder's options as the library takes them."""
    return EncoderOptions(**config.encoder.model_dump())


def _encoder_spec(config: PipelineConfig, store: RunStore) -> EncoderSpec:
    asked, options = config.encoder, encoder_options(config)
    return _remembered(store, ENCODER_FILE, EncoderSpec, asked.model_dump(), lambda: resolve_encoder(options))


def coca_options(coca: CocaConfig) -> CocaOptions:
    """The checkpoint's options as the library takes them."""
    return CocaOptions(**coca.model_dump())


def _coca_spec(coca: CocaConfig, store: RunStore, device: str) -> ModelSpec:
    asked, options = {**coca.model_dump(), "device": device}, coca_options(coca)
    return _remembered(store, COCA_FILE, ModelSpec, asked, lambda: resolve_coca(options, device))


_Spec = TypeVar("_Spec", bound=ModelSpec)


def _remembered(
    store: RunStore, file: str, kind: type[_Spec], options: dict[str, Any], resolve: Callable[[], _Spec]
) -> _Spec:
    """The spec as an earlier run resolved it if nothing about it changed: resolving may load the model."""
    asked = {"options": options, "files": _file_stamps(options["model"], options["pretrained"])}
    known = store.read_json(file)
    if known is not None and known["asked"] == asked:
        spec = kind.from_json(known["spec"])
        if all(version(name) == found for name, found in spec.libraries.items()):
            return spec
    spec = resolve()
    store.write_json(file, {"asked": asked, "spec": spec.to_json()})
    return spec


def _file_stamps(*names: str | None) -> list[str]:
    files = [Path(name) for name in names if name]
    return [f"{file.stat().st_size}-{file.stat().st_mtime_ns}" for file in files if file.is_file()]


def _steps(
    config: PipelineConfig,
    store: RunStore,
    source: Source,
    spec: EncoderSpec,
    manifest: Manifest,
    done: DoneIndex,
    fits_from: str | None,
) -> tuple[Step, ...]:
    embed = _embed_step(config, source, spec, manifest, done)
    noise_fit: FitStep | None = None
    refined: list[str] = []
    steps: list[Step] = [embed]
    if config.stages.noise is not None:
        noise_fit = (
            _noise_fit(config, config.stages.noise, spec, store, embed)
            if fits_from is None
            else _noise_fit_from(fits_from, config.stages.noise, spec, store)
        )
        noise = _noise_step(config.stages.noise, store, embed, noise_fit, done)
        steps += [noise_fit, noise, _duplicates_step(config.seed, embed, noise_fit, done)]
        if config.stages.refine is not None and config.stages.refine.trainable != "heads":
            if fits_from is not None:
                raise InputError(_NO_TOWERS_FROM)
            rounds = _tower_rounds(config, source, spec, manifest, store, embed, noise, done)
            refined = [step.fingerprint for step in rounds if isinstance(step, TrainStep)]
            steps += rounds
        elif config.stages.refine is not None:
            refine_fit = (
                _refine_fit(config, config.stages.noise, config.stages.refine, spec, store, noise_fit)
                if fits_from is None
                else _refine_fit_from(fits_from, config.stages.noise, config.stages.refine, spec, store, noise_fit)
            )
            refined = [refine_fit.fingerprint]
            steps += [refine_fit, _refine_step(config.stages.noise, store, noise, refine_fit, done)]
    if config.stages.concepts is not None:
        fit = (
            _concepts_fit(config, config.stages.concepts, spec, store, embed, _beliefs(config, noise_fit, refined))
            if fits_from is None
            else _concepts_fit_from(fits_from, config, config.stages.concepts, spec, store)
        )
        concepts = _concepts_step(config.stages.concepts, store, embed, fit, done)
        steps += [fit, concepts]
        if config.stages.caption is not None and noise_fit is not None:
            before = tuple(each for each in _annotating(steps) if isinstance(each, RowStep) and each is not embed)
            beliefs = _beliefs(config, noise_fit, refined)
            steps += _caption_steps(
                config, config.stages.caption, source, spec, store, before, beliefs, done, fits_from
            )
    return (*steps, _annotate_step(store, _annotating(steps), embed, done))


def _annotating(steps: Sequence[Step]) -> list[RowStep | DuplicatesStep]:
    """The steps whose columns annotations may have: none of those within a round."""
    kinds = [step for step in steps if isinstance(step, RowStep | DuplicatesStep)]
    return [step for step in kinds if isinstance(step, DuplicatesStep) or step.round is None]


def _row_step(
    name: str,
    work: PartWork,
    identity: dict[int, Any],
    facts: dict[str, Any],
    done: DoneIndex,
    fit: str | None = None,
    training: str | None = None,
) -> RowStep:
    common = {"step": name, "schema_version": SCHEMA_VERSION, **facts}
    wanted = {number: fingerprint({**common, "from": value}) for number, value in identity.items()}
    finished = frozenset(number for number, value in wanted.items() if done.fingerprint(name, number) == value)
    return RowStep(name, work, wanted, common, finished, fit, training)


def _embed_step(
    config: PipelineConfig, source: Source, spec: EncoderSpec, manifest: Manifest, done: DoneIndex
) -> RowStep:
    facts = _embed_facts(config, spec)
    if config.input.keep:
        facts["keep"] = config.input.keep
    work = EmbedWork(source, decode_options(config, spec), encoder_options(config), spec)
    return _row_step(EMBED, work, _contents(manifest), facts, done)


def _embed_facts(config: PipelineConfig, spec: EncoderSpec) -> dict[str, Any]:
    """What embeddings depend on beside their pairs."""
    return {
        "encoder": spec.to_json(),
        "decode": {"mode": "exact", "max_image_pixels": config.input.max_image_pixels},
        "versions": {"decode": Decode.version, "embed": Embed.version},
    }


def _contents(manifest: Manifest) -> dict[int, Any]:
    """What tells each part from any other."""
    return {number: dataclasses.asdict(part) for number, part in manifest.parts.items()}


def decode_options(config: PipelineConfig, spec: ModelSpec) -> DecodeOptions:
    """Pictures as a model takes them."""
    return DecodeOptions(
        size=spec.image_size,
        resize_mode=spec.resize_mode,
        interpolation=spec.interpolation,
        max_pixels=config.input.max_image_pixels,
        fill_color=spec.fill_color,
    )


def _noise_fit(
    config: PipelineConfig,
    noise: NoiseConfig,
    spec: EncoderSpec,
    store: RunStore,
    embed: RowStep,
    name: str = NOISE_FIT,
    training: str | None = None,
) -> FitStep:
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
    return FitStep(name, work, noise.fit_rows, wanted, _is_fitted(store, name, wanted), fitted, round=training)


def noise_options(noise: NoiseConfig) -> NoiseOptions:
    """The fit's options as the library takes them."""
    return NoiseOptions(
        signals=noise.signals if isinstance(noise.signals, str) else tuple(noise.signals),
        folds=noise.folds,
        rounds=noise.rounds,
        mixture=noise.mixture.kind,
        stratum_pairs=noise.mixture.min_pairs,
        epochs=noise.itc_epochs,
    )


def _is_fitted(store: RunStore, fit: str, wanted: str) -> bool:
    found = read_artifact_facts(store, fit)
    return found is not None and found["fingerprint"] == wanted


def _fit_from(run: str, name: str, work: FitWork, fit_rows: int, spec: EncoderSpec, store: RunStore) -> FitStep:
    """The fit of another run, taken as it is: the same towers, other pairs.

    Raises:
        InputError: there is none, or it is for other towers.
    """
    facts = read_artifact_facts(RunStore(run), name)
    if facts is None or not {"encoder", "fitted"} <= facts.keys():
        raise InputError(f"--fits-from {run}: no finished {name} fit there. Is it the directory of a finished run?")
    mine, theirs = scoring_identity(spec), facts["encoder"]
    if mine != theirs:
        other = ", ".join(
            f"{key}: {theirs.get(key)}, here {mine[key]}" for key in mine if theirs.get(key) != mine[key]
        )
        raise InputError(
            f"--fits-from {run}: its models are for other embeddings ({other}). Use the same encoder: there and here."
        )
    wanted = facts["fingerprint"]
    done = _is_fitted(store, name, wanted)
    return FitStep(name, work, fit_rows, wanted, done, facts["fitted"], taken_from=run)


def _noise_fit_from(run: str, noise: NoiseConfig, spec: EncoderSpec, store: RunStore) -> FitStep:
    work = NoiseFitWork(noise_options(noise), noise.mixture.by, EMBED, spec.joint_space)
    fit = _fit_from(run, NOISE_FIT, work, noise.fit_rows, spec, store)
    by = fit.fitted.get("by")
    if by != noise.mixture.by:
        raise InputError(
            f"--fits-from {run}: its posteriors are by {by or 'nothing'}, here mixture.by is "
            f"{noise.mixture.by or 'not set'}. Set the same field, or fit anew without --fits-from."
        )
    return fit


def _refine_fit(
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
    return FitStep(REFINE_FIT, work, noise.fit_rows, wanted, _is_fitted(store, REFINE_FIT, wanted), fitted)


def _refine_work(noise: NoiseConfig, refine: RefineConfig, spec: EncoderSpec) -> RefineFitWork:
    fitted = NoiseFitWork(noise_options(noise), noise.mixture.by, EMBED, spec.joint_space)
    return RefineFitWork(fitted, refine_options(noise, refine))


def refine_options(noise: NoiseConfig, refine: RefineConfig) -> RefineOptions:
    """The rounds' options as the library takes them; scales of the losses are those of the columns for trainers."""
    heads = HeadOptions(
        loss=refine.loss,
        epochs=refine.epochs,
        batch=refine.batch_size,
        learning_rate=refine.learning_rate,
        temperature=refine.temperature,
        smoothing=noise.smoothing,
        margin_image=noise.margin_image,
        margin_text=noise.margin_text,
        distribution_gap=refine.distribution_gap,
    )
    return RefineOptions(heads, refine.rounds, refine.settled, refine.trusted_below)


def _refine_fit_from(
    run: str, noise: NoiseConfig, refine: RefineConfig, spec: EncoderSpec, store: RunStore, noise_fit: FitStep
) -> FitStep:
    fit = _fit_from(run, REFINE_FIT, _refine_work(noise, refine, spec), noise.fit_rows, spec, store)
    if fit.fitted.get("noise_fit") != noise_fit.fingerprint:
        raise InputError(f"--fits-from {run}: its refine fit is older than its noise fit. Let that run finish first.")
    return fit


def _tower_rounds(
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
        fit = _noise_fit(config, of_noise, joint, store, embedded, f"{name}-noise", name)
        row_step = _noise_step(of_noise, store, embedded, fit, done, f"{name}-noise", name)
        trainings.append(training)
        scored.append(row_step)
        steps += [training] if training.done and is_settled(store, name) else [training, embedded, fit, row_step]
    rounds = tuple((training.name, step.name) for training, step in zip(trainings, scored[1:], strict=True))
    facts = {"refine": refine.model_dump(exclude={"checkpoint_steps"}), "versions": {"refine": Refine.version}}
    identity = {number: [step.fingerprints[number] for step in scored] for number in noise.fingerprints}
    work = RefinedTowersWork(store.url, rounds)
    return [*steps, _row_step(REFINE_FIT, work, identity, facts, done)]


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
    how, decode = finetune_options(refine, config.seed), decode_options(config, spec)
    hints = scored[-1]
    facts = {
        "fit": name,
        "version": TRAIN_VERSION,
        "how": {**dataclasses.asdict(how), "checkpoint_steps": None},
        "trusted_below": refine.trusted_below,
        "settled": refine.settled,
        "encoder": spec.to_json(),
        "decode": dataclasses.asdict(decode),
        "from": list(hints.fingerprints.values()),
    }
    wanted = fingerprint(facts)
    work = TrainWork(
        source=source,
        parts=manifest.parts,
        shards=manifest.shards,
        run=store.url,
        hints=hints.name,
        folder=artifact_folder(name),
        options=encoder_options(config),
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
        done=_is_fitted(store, name, wanted),
        before=trainings[-1].name if trainings else None,
        compared=(scored[-2].name, scored[-1].name) if trainings else None,
        settled=refine.settled,
    )


def finetune_options(refine: RefineConfig, seed: int) -> FinetuneOptions:
    """The training's options as the library takes them."""
    assert refine.trainable != "heads"
    return FinetuneOptions(
        trainable=refine.trainable,
        loss=refine.loss,
        distribution_gap=refine.distribution_gap,
        epochs=refine.epochs,
        batch_size=refine.batch_size,
        learning_rate=refine.learning_rate,
        lora_rank=refine.lora_rank,
        checkpoint_steps=refine.checkpoint_steps,
        seed=seed,
    )


def _refined_embed_step(
    config: PipelineConfig,
    source: Source,
    spec: EncoderSpec,
    manifest: Manifest,
    store: RunStore,
    training: TrainStep,
    done: DoneIndex,
) -> RowStep:
    facts = {**_embed_facts(config, spec), "trained": training.fingerprint}
    weights = f"{artifact_folder(training.name)}/{WEIGHTS_FILE}"
    decode, options = decode_options(config, spec), encoder_options(config)
    work = RefinedEmbedWork(source, decode, options, spec, run=store.url, weights=weights)
    name = f"{training.name}-embed"
    return _row_step(name, work, _contents(manifest), facts, done, training.name, training.name)


def _refine_step(noise: NoiseConfig, store: RunStore, before: RowStep, fit: FitStep, done: DoneIndex) -> RowStep:
    how = noise_columns(noise)
    facts = {"refine": fit.fitted, "refine_fit": fit.fingerprint, "versions": {"refine": Refine.version}}
    work = RefineWork(store.url, fit.name, NOISE_FIT, how, noise.mixture.by)
    return _row_step("refine", work, dict(before.fingerprints), facts, done, fit.name)


def _beliefs(config: PipelineConfig, noise_fit: FitStep | None, refined: list[str]) -> list[Any] | None:
    """What decides noise_prob, not labels and hints; None: there is no noise step."""
    if noise_fit is None:
        return None
    last = [*refined, Refine.version] if refined else []
    return [noise_fit.fingerprint, Noise.version, _stratum(config), *last]


def _believed(config: PipelineConfig) -> str | None:
    """The step whose noise_prob counts; None: there is none."""
    if config.stages.refine is not None:
        return REFINE_FIT
    return None if config.stages.noise is None else NOISE_FIT


def _concepts_fit(
    config: PipelineConfig,
    concepts: ConceptsConfig,
    spec: EncoderSpec,
    store: RunStore,
    embed: RowStep,
    beliefs: list[Any] | None,
) -> FitStep:
    """Fit on embeddings and, where there is a noise step, on its probabilities: not on labels and hints.

    Raises:
        InputError: the vocabulary cannot be read.
    """
    work = _concepts_work(config, concepts)
    vocabulary = work.vocabulary
    fitted = {
        **dataclasses.asdict(work.options),
        "templates": list(work.options.templates),
        "vocabulary": "corpus" if vocabulary is None else hashlib.sha256(vocabulary.to_csv()).hexdigest(),
        "names_given": 0 if vocabulary is None else len(vocabulary),
        "fit_rows": concepts.fit_rows,
        "seed": config.seed,
    }
    wanted = fingerprint(
        {
            "fit": CONCEPTS_FIT,
            "version": CONCEPTS_FIT_VERSION,
            "fitted": fitted,
            "joint_space": spec.joint_space,
            "libraries": {name: version(name) for name in ("hanta", "numpy")},
            "noise": beliefs,
            "from": list(embed.fingerprints.values()),
        }
    )
    return FitStep(CONCEPTS_FIT, work, concepts.fit_rows, wanted, _is_fitted(store, CONCEPTS_FIT, wanted), fitted)


def _stratum(config: PipelineConfig) -> str | None:
    return None if config.stages.noise is None else config.stages.noise.mixture.by


def _concepts_work(config: PipelineConfig, concepts: ConceptsConfig) -> ConceptsFitWork:
    options = concept_options(concepts, config.stages.noise)
    return ConceptsFitWork(options, given_vocabulary(concepts), _believed(config))


def _concepts_fit_from(
    run: str, config: PipelineConfig, concepts: ConceptsConfig, spec: EncoderSpec, store: RunStore
) -> FitStep:
    return _fit_from(run, CONCEPTS_FIT, _concepts_work(config, concepts), concepts.fit_rows, spec, store)


def given_vocabulary(concepts: ConceptsConfig) -> Vocabulary | None:
    """The names of the file that the config names; None: they are to be mined.

    Raises:
        InputError: the file cannot be read.
    """
    return None if concepts.vocabulary == "corpus" else read_vocabulary(Path(concepts.vocabulary))


def concept_options(concepts: ConceptsConfig, noise: NoiseConfig | None) -> ConceptOptions:
    """The fit's options as the library takes them; folds are those of the noise fit, where there is one."""
    return ConceptOptions(
        min_documents=concepts.min_documents,
        trusted_below=concepts.trusted_below,
        templates=tuple(concepts.prompts),
        folds=ConceptOptions.folds if noise is None else noise.folds,
    )


def scoring_identity(spec: EncoderSpec) -> dict[str, Any]:
    """What two encoders must share for the models of one to score the embeddings of the other."""
    held = spec.to_json()
    shared = ("model", "weights_sha256", "config_sha256", "resize_mode", "interpolation")
    return {name: held[name] for name in shared}


def _noise_step(
    noise: NoiseConfig,
    store: RunStore,
    embed: RowStep,
    fit: FitStep,
    done: DoneIndex,
    name: str = NOISE_FIT,
    training: str | None = None,
) -> RowStep:
    how = noise_columns(noise)
    facts = {
        "noise": {**fit.fitted, **dataclasses.asdict(how)},
        "fit": fit.fingerprint,
        "versions": {"noise": Noise.version},
    }
    work = NoiseWork(store.url, fit.name, how, noise.mixture.by, embed.name)
    return _row_step(name, work, dict(embed.fingerprints), facts, done, fit.name, training)


def noise_columns(noise: NoiseConfig) -> NoiseColumns:
    """How the stage turns probabilities into labels and hints."""
    return NoiseColumns(
        clean_below=noise.clean_below,
        noisy_above=noise.noisy_above,
        smoothing=noise.smoothing,
        margin_image=noise.margin_image,
        margin_text=noise.margin_text,
    )


def _concepts_step(
    concepts: ConceptsConfig, store: RunStore, embed: RowStep, fit: FitStep, done: DoneIndex
) -> RowStep:
    how = ConceptColumns(concepts.top_k, concepts.scorer)
    # Names that are mined all stand in trusted captions: they are never sought through an index.
    searched_by = {"faiss-cpu": version("faiss-cpu")} if fit.fitted.get("names_given", 0) > EXACT_NAMES else {}
    facts = {
        "concepts": {**fit.fitted, **dataclasses.asdict(how), **searched_by},
        "concepts_fit": fit.fingerprint,
        "versions": {"concepts": Concepts.version},
    }
    work = ConceptsWork(store.url, fit.name, how)
    return _row_step("concepts", work, dict(embed.fingerprints), facts, done, fit.name)


def caption_columns(caption: CaptionConfig) -> CaptionColumns:
    """Which captions are completed and how, as the library takes it."""
    policy = Policy(mode=caption.mode, accept_quantile=caption.accept_quantile, margin=caption.margin)
    return CaptionColumns(caption.when, caption.decoder, policy)


def _caption_steps(
    config: PipelineConfig,
    caption: CaptionConfig,
    source: Source,
    spec: EncoderSpec,
    store: RunStore,
    before: tuple[RowStep, ...],
    beliefs: list[Any] | None,
    done: DoneIndex,
    fits_from: str | None,
) -> list[Step]:
    """The captioner's fit and the step that completes captions, which reads what the steps `before` say."""
    columns = caption_columns(caption)
    believed = _believed(config) or NOISE_FIT
    work = CaptionFitWork(caption.decoder, caption.trusted_below, caption.accept_quantile, believed)
    if fits_from is not None:
        fit = _fit_from(fits_from, CAPTION_FIT, work, caption.fit_rows, spec, store)
    else:
        fitted = {**dataclasses.asdict(work), "fit_rows": caption.fit_rows, "seed": config.seed}
        del fitted["believed"]
        wanted = fingerprint(
            {
                "fit": CAPTION_FIT,
                "version": CAPTION_FIT_VERSION,
                "fitted": fitted,
                "libraries": {name: version(name) for name in ("numpy", "torch")},
                "noise": beliefs,
                "from": list(before[-1].fingerprints.values()),
            }
        )
        fit = FitStep(CAPTION_FIT, work, caption.fit_rows, wanted, _is_fitted(store, CAPTION_FIT, wanted), fitted)
    facts: dict[str, Any] = {
        "caption": {**fit.fitted, **dataclasses.asdict(columns)},
        "caption_fit": fit.fingerprint,
        "versions": {"caption": CAPTION_VERSION},
    }
    coca = None
    if caption.decoder == "coca":
        coca = _coca_work(config, caption.coca, source, spec.device, store)
        facts["coca"] = coca.facts()
    identity = {number: [step.fingerprints[number] for step in before] for number in before[0].fingerprints}
    how = CaptionWork(store.url, fit.name, NOISE_FIT, believed, columns, encoder_options(config), spec, coca)
    return [fit, _row_step("caption", how, identity, facts, done, fit.name)]


def _coca_work(config: PipelineConfig, coca: CocaConfig, source: Source, device: str, store: RunStore) -> CocaWork:
    spec = _coca_spec(coca, store, device)
    return CocaWork(source, decode_options(config, spec), coca_options(coca), spec)


def _duplicates_step(seed: int, embed: RowStep, fit: FitStep, done: DoneIndex) -> DuplicatesStep:
    facts = {
        "step": DUPLICATES,
        "schema_version": SCHEMA_VERSION,
        "duplicates": {"seed": seed},
        "versions": {"duplicates": DUPLICATES_VERSION},
    }
    wanted = fingerprint({**facts, "fit": fit.fingerprint, "from": list(embed.fingerprints.values())})
    finished = all(done.fingerprint(DUPLICATES, number) == wanted for number in embed.fingerprints)
    return DuplicatesStep(DUPLICATES, fit.name, wanted, facts, finished, seed)


def _annotate_step(
    store: RunStore, columns: Sequence[RowStep | DuplicatesStep], embed: RowStep, done: DoneIndex
) -> RowStep:
    facts: dict[str, Any] = {"versions": {}}
    for step in columns:
        versions = {**facts["versions"], **step.facts["versions"]}
        facts = {**facts, **step.facts, "versions": versions}
    facts = {**facts, "versions": {**facts["versions"], "annotations": ANNOTATE_VERSION}}
    facts.pop("step", None)
    identity = {number: [_fingerprint_of(step, number) for step in columns] for number in embed.fingerprints}
    work = AnnotateWork(store.url, tuple(step.name for step in columns))
    return _row_step("annotations", work, identity, facts, done)


def _fingerprint_of(step: RowStep | DuplicatesStep, number: int) -> str:
    return step.fingerprint if isinstance(step, DuplicatesStep) else step.fingerprints[number]
