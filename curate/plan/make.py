"""Config + manifest -> Plan: which steps run on which parts, what is done, what it needs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from curate.config import PipelineConfig
from curate.errors import InputError
from curate.manifest import Indexer, Manifest, ManifestChange, update_manifest
from curate.models.encoder import EncoderSpec
from curate.plan.annotations import plan_annotations
from curate.plan.beliefs import beliefs_of
from curate.plan.caption import plan_caption
from curate.plan.concepts import plan_concepts, plan_concepts_fit, take_concepts_fit
from curate.plan.download import downloaded, plan_download
from curate.plan.embed import plan_embed
from curate.plan.noise import plan_duplicates, plan_noise, plan_noise_fit, take_noise_fit
from curate.plan.options import source_options
from curate.plan.python import PythonStage, imports_of, plan_python, provided, python_stages
from curate.plan.refine import plan_refine, plan_refine_fit, plan_tower_rounds, take_refine_fit
from curate.plan.specs import remembered_encoder
from curate.plan.step import FitStep, RowStep, Step, TrainStep, annotating
from curate.run_format import check_format
from curate.sources import open_source
from curate.sources.base import Source
from curate.sources.options import SourceLimits, SourceOptions
from curate.sources.urls import DOWNLOAD, UrlsSource
from curate.steps import PartTask
from curate.store import DoneIndex, RunStore, fingerprint

_NO_TOWERS_FROM = (
    "--fits-from: weights that refinement trained are not taken from another run. Name them as the encoder instead, "
    "encoder.pretrained: RUN/artifacts/refine-1/weights.safetensors, and leave out the stage refine."
)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        config: the pipeline.
        store: the run directory.
        source: reads the input.
        spec: the towers.
        manifest: the input as parts.
        change: how the input differs from the last run's.
        steps: in the order they are carried out.
        index: which column files are there.
        own: stages of the user's own.
        fits_from: run directory whose fits are used as they are.
    """

    config: PipelineConfig
    store: RunStore
    source: Source
    spec: EncoderSpec
    manifest: Manifest
    change: ManifestChange
    steps: tuple[Step, ...]
    index: DoneIndex
    own: tuple[PythonStage, ...]
    fits_from: str | None

    @property
    def imported(self) -> tuple[str, ...]:
        """Modules of the user's own that were imported, and from where; for a person."""
        return tuple(imports_of(self.own))

    @property
    def download(self) -> RowStep | None:
        """The step that downloads the pictures, if the input is a table of their addresses."""
        first = self.steps[0]
        return first if isinstance(first, RowStep) and first.name == DOWNLOAD else None

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


def output_url(config: PipelineConfig, limit: int | None) -> str:
    """The run directory; a trial run has its own, so that it never touches the real one."""
    return config.output if limit is None else f"{config.output.rstrip('/')}-limit-{limit}"


def make_plan(
    config: PipelineConfig,
    index: Indexer,
    limit: int | None = None,
    fits_from: str | None = None,
    retry_failed: bool = False,
    store: RunStore | None = None,
) -> Plan:
    """Look at input, run directory and encoder, and decide what is to do. Imports stages of the user's own.

    Args:
        config: the pipeline.
        index: reads shards that are new or changed; a runner's.
        limit: a trial run on the first so many pairs, rounded up to whole parts.
        fits_from: a finished run whose fits are used as they are; this very run directory may be named.
        retry_failed: fetch once more what could not be downloaded.
        store: the run directory, if it is open already.

    Raises:
        InputError: the input matches nothing, the encoder cannot be had, a stage of the user's own cannot be used,
            `fits_from` has no fits for it, or nothing is downloaded that could be tried again.
        CurateError: weights or the run directory cannot be reached, or a newer version of curate made a run.
    """
    if retry_failed and config.input.format != "urls":
        raise InputError(
            f"--retry-failed: input.format is {config.input.format}, so nothing is downloaded; leave it out."
        )
    own = python_stages(config)
    store = store or RunStore(output_url(config, limit))
    check_format(store)
    if fits_from is not None:
        check_format(RunStore(fits_from))
    options = source_options(config, limit)
    source = open_source(options, store.address)
    cutting = _cutting(options)
    shards = source.list_shards()
    spec = remembered_encoder(config, store)
    manifest, change = update_manifest(store, source, shards, cutting, index, limit)
    if not manifest.parts:
        raise InputError(_no_pairs(config, manifest))
    done = DoneIndex(store)
    plan = Plan(config, store, source, spec, manifest, change, (), done, tuple(own), fits_from)
    return _with_steps(plan, retry_failed)


def after_download(plan: Plan) -> Plan:
    """The plan anew when its download step is done: what was downloaded decides what else is to do."""
    return _with_steps(plan, retry_failed=False)


def with_manifest(plan: Plan, manifest: Manifest) -> Plan:
    """The same pipeline over other parts, which its source need not be able to read if their pairs are embedded."""
    return _with_steps(dataclasses.replace(plan, manifest=manifest), retry_failed=False)


def _with_steps(plan: Plan, retry_failed: bool) -> Plan:
    if not isinstance(plan.source, UrlsSource):
        return dataclasses.replace(plan, steps=_steps(plan))
    download = plan_download(
        plan.config.input.download, plan.source, plan.store, plan.manifest, plan.index, retry_failed
    )
    plan = dataclasses.replace(plan, manifest=downloaded(plan.manifest, download, plan.index))
    return dataclasses.replace(plan, steps=(download, *_steps(plan)))


def _no_pairs(config: PipelineConfig, manifest: Manifest) -> str:
    first = "; ".join(f"{error.shard}: {error.error}" for error in manifest.errors[:3])
    return (
        f"input.path: {', '.join(config.input.paths)}: {len(manifest.shards)} shard(s), "
        f"but not one pair in them. {first}"
    )


def _cutting(options: SourceOptions) -> str:
    """Fingerprint of what decides where parts are cut; what is read of their pairs is the embed step's concern."""
    deciding = dataclasses.asdict(options)
    del deciding["keep"], deciding["limits"]
    # Only where they are not as usual: no run from before there were limits is to be cut anew.
    usual, limits = SourceLimits(), options.limits
    if (limits.image_bytes, limits.members) != (usual.image_bytes, usual.members):
        deciding["limits"] = {"image_bytes": limits.image_bytes, "members": limits.members}
    return fingerprint({**deciding, "path": None, "image_root": None})


def _steps(plan: Plan) -> tuple[Step, ...]:
    """The steps behind the download."""
    config, store, source, spec, manifest = plan.config, plan.store, plan.source, plan.spec, plan.manifest
    done, fits_from, own = plan.index, plan.fits_from, plan.own
    embed = plan_embed(config, source, spec, manifest, done)
    noise_fit: FitStep | None = None
    refined: list[str] = []
    steps: list[Step] = [embed]
    if config.stages.noise is not None:
        noise_fit = (
            plan_noise_fit(config, config.stages.noise, spec, store, embed)
            if fits_from is None
            else take_noise_fit(fits_from, config.stages.noise, spec, store)
        )
        noise = plan_noise(config.stages.noise, store, embed, noise_fit, done)
        steps += [noise_fit, noise, plan_duplicates(config.seed, embed, noise_fit, done)]
        if config.stages.refine is not None and config.stages.refine.trainable != "heads":
            if fits_from is not None:
                raise InputError(_NO_TOWERS_FROM)
            rounds = plan_tower_rounds(config, source, spec, manifest, store, embed, noise, done)
            refined = [step.fingerprint for step in rounds if isinstance(step, TrainStep)]
            steps += rounds
        elif config.stages.refine is not None:
            refine_fit = (
                plan_refine_fit(config, config.stages.noise, config.stages.refine, spec, store, noise_fit)
                if fits_from is None
                else take_refine_fit(fits_from, config.stages.noise, config.stages.refine, spec, store, noise_fit)
            )
            refined = [refine_fit.fingerprint]
            steps += [refine_fit, plan_refine(config.stages.noise, store, noise, refine_fit, done)]
    if config.stages.concepts is not None:
        fit = (
            plan_concepts_fit(
                config, config.stages.concepts, spec, store, embed, beliefs_of(config, noise_fit, refined)
            )
            if fits_from is None
            else take_concepts_fit(fits_from, config, config.stages.concepts, spec, store)
        )
        concepts = plan_concepts(config.stages.concepts, store, embed, fit, done)
        steps += [fit, concepts]
        if config.stages.caption is not None and noise_fit is not None:
            before = tuple(each for each in annotating(steps) if isinstance(each, RowStep) and each is not embed)
            beliefs = beliefs_of(config, noise_fit, refined)
            steps += plan_caption(config, config.stages.caption, source, spec, store, before, beliefs, done, fits_from)
    steps += plan_python(own, store, source, embed, annotating(steps), done)
    return (*steps, plan_annotations(store, annotating(steps), embed, provided(own), done))
