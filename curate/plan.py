"""Config + manifest -> Plan: which steps run on which parts, what is done, what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curate.config import NoiseConfig, PipelineConfig
from curate.errors import InputError
from curate.manifest import Indexer, Manifest, ManifestChange, update_manifest
from curate.models.encoder import EncoderOptions, EncoderSpec, resolve_encoder
from curate.noise.fit import NoiseOptions
from curate.schema import SCHEMA_VERSION
from curate.sources import open_source
from curate.sources.base import Source
from curate.sources.options import ColumnNames, SourceOptions
from curate.stages.decode import Decode, DecodeOptions
from curate.stages.embed import Embed
from curate.stages.noise import Noise
from curate.steps import AnnotateWork, EmbedWork, NoiseWork, PartTask, PartWork, read_artifact_facts
from curate.store import DoneIndex, RunStore, fingerprint

ENCODER_FILE = "_state/encoder.json"
# Raise it when annotation files would differ for the same columns of the steps before.
ANNOTATE_VERSION = 1
# Raise it when the same sample would give another noise model.
NOISE_FIT_VERSION = 1


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
    """

    name: str
    work: PartWork
    fingerprints: dict[int, str]
    facts: dict[str, Any]
    done: frozenset[int]
    fit: str | None = None


@dataclass(frozen=True)
class FitStep:
    """A step that reads embeddings of a bounded sample and leaves artifacts.

    Attributes:
        name: name of the artifacts' folder.
        options: how to fit.
        fit_rows: most pairs to fit on.
        fingerprint: the wanted fingerprint of the artifacts.
        done: whether they are there.
    """

    name: str
    options: NoiseOptions
    fit_rows: int
    fingerprint: str
    done: bool


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    config: PipelineConfig
    store: RunStore
    source: Source
    spec: EncoderSpec
    manifest: Manifest
    change: ManifestChange
    steps: tuple[RowStep | FitStep, ...]
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


def output_url(config: PipelineConfig, limit: int | None) -> str:
    """The run directory; a trial run has its own, so that it never touches the real one."""
    return config.output if limit is None else f"{config.output.rstrip('/')}-limit-{limit}"


def make_plan(config: PipelineConfig, index: Indexer, limit: int | None = None) -> Plan:
    """Look at input, run directory and encoder, and decide what is to do.

    Args:
        config: the pipeline.
        index: reads shards that are new or changed; a runner's.
        limit: a trial run on the first so many pairs, rounded up to whole parts.

    Raises:
        InputError: the input matches nothing, or the encoder cannot be had.
        CurateError: weights or the run directory cannot be reached.
    """
    store = RunStore(output_url(config, limit))
    options = _source_options(config, limit)
    source = open_source(options)
    cutting = fingerprint({**dataclasses.asdict(options), "path": None, "image_root": None})
    shards = source.list_shards()
    spec = _encoder_spec(config, store)
    manifest, change = update_manifest(store, source, shards, cutting, index, limit)
    if not manifest.parts:
        raise InputError(_no_pairs(config, manifest))
    done = DoneIndex(store)
    return Plan(
        config, store, source, spec, manifest, change, _steps(config, store, source, spec, manifest, done), done
    )


def _no_pairs(config: PipelineConfig, manifest: Manifest) -> str:
    first = "; ".join(f"{error.shard}: {error.error}" for error in manifest.errors[:3])
    return (
        f"input.path: {', '.join(config.input.paths)}: {len(manifest.shards)} shard(s), "
        f"but not one pair in them. {first}"
    )


def _source_options(config: PipelineConfig, limit: int | None) -> SourceOptions:
    given = config.input
    part_rows = given.part_rows if limit is None else min(given.part_rows, limit)
    return SourceOptions(
        format=given.format,
        path=given.paths,
        part_rows=part_rows,
        columns=ColumnNames(given.columns.image, given.columns.caption, given.columns.key),
        caption_json_key=given.caption_json_key,
        image_root=given.image_root,
    )


def encoder_options(config: PipelineConfig) -> EncoderOptions:
    """The encoder's options as the library takes them."""
    return EncoderOptions(**config.encoder.model_dump())


def _encoder_spec(config: PipelineConfig, store: RunStore) -> EncoderSpec:
    """The encoder as resolved by an earlier run if nothing about it changed: resolving may load the model."""
    asked = {"options": config.encoder.model_dump(), "files": _file_stamps(config)}
    known = store.read_json(ENCODER_FILE)
    if known is not None and known["asked"] == asked:
        spec = EncoderSpec.from_json(known["spec"])
        if all(version(name) == found for name, found in spec.libraries.items()):
            return spec
    spec = resolve_encoder(encoder_options(config))
    store.write_json(ENCODER_FILE, {"asked": asked, "spec": spec.to_json()})
    return spec


def _file_stamps(config: PipelineConfig) -> list[str]:
    files = [Path(name) for name in (config.encoder.model, config.encoder.pretrained) if name]
    return [f"{file.stat().st_size}-{file.stat().st_mtime_ns}" for file in files if file.is_file()]


def _steps(
    config: PipelineConfig, store: RunStore, source: Source, spec: EncoderSpec, manifest: Manifest, done: DoneIndex
) -> tuple[RowStep | FitStep, ...]:
    embed = _embed_step(config, source, spec, manifest, done)
    steps: list[RowStep | FitStep] = [embed]
    if config.stages.noise is not None:
        fit = _noise_fit(config, config.stages.noise, spec, store, embed)
        steps += [fit, _noise_step(config.stages.noise, config.seed, store, embed, fit, done)]
    rows = [step for step in steps if isinstance(step, RowStep)]
    return (*steps, _annotate_step(store, rows, done))


def _row_step(
    name: str, work: PartWork, identity: dict[int, Any], facts: dict[str, Any], done: DoneIndex, fit: str | None = None
) -> RowStep:
    common = {"step": name, "schema_version": SCHEMA_VERSION, **facts}
    wanted = {number: fingerprint({**common, "from": value}) for number, value in identity.items()}
    finished = frozenset(number for number, value in wanted.items() if done.fingerprint(name, number) == value)
    return RowStep(name, work, wanted, common, finished, fit)


def _embed_step(
    config: PipelineConfig, source: Source, spec: EncoderSpec, manifest: Manifest, done: DoneIndex
) -> RowStep:
    decode = DecodeOptions(
        size=spec.image_size,
        resize_mode=spec.resize_mode,
        interpolation=spec.interpolation,
        max_pixels=config.input.max_image_pixels,
        fill_color=spec.fill_color,
    )
    facts = {
        "encoder": spec.to_json(),
        "decode": {"mode": "exact", "max_image_pixels": decode.max_pixels},
        "versions": {"decode": Decode.version, "embed": Embed.version},
    }
    identity = {number: dataclasses.asdict(part) for number, part in manifest.parts.items()}
    work = EmbedWork(source, decode, encoder_options(config), spec)
    return _row_step("embed", work, identity, facts, done)


def _noise_fit(
    config: PipelineConfig, noise: NoiseConfig, spec: EncoderSpec, store: RunStore, embed: RowStep
) -> FitStep:
    options = NoiseOptions(folds=noise.folds, rounds=noise.rounds, mixture=noise.mixture, epochs=noise.itc_epochs)
    wanted = fingerprint(
        {
            "fit": "noise",
            "version": NOISE_FIT_VERSION,
            "options": dataclasses.asdict(options),
            "fit_rows": noise.fit_rows,
            "seed": config.seed,
            "joint_space": spec.joint_space,
            "libraries": {name: version(name) for name in ("numpy", "scikit-learn", "torch")},
            "from": list(embed.fingerprints.values()),
        }
    )
    found = read_artifact_facts(store, "noise")
    done = found is not None and found["fingerprint"] == wanted
    return FitStep("noise", options, noise.fit_rows, wanted, done)


def _noise_step(
    noise: NoiseConfig, seed: int, store: RunStore, embed: RowStep, fit: FitStep, done: DoneIndex
) -> RowStep:
    thresholds = {"clean_below": noise.clean_below, "noisy_above": noise.noisy_above}
    facts = {
        "noise": {**dataclasses.asdict(fit.options), "fit_rows": fit.fit_rows, "seed": seed, **thresholds},
        "fit": fit.fingerprint,
        "versions": {"noise": Noise.version},
    }
    work = NoiseWork(store.url, fit.name, noise.clean_below, noise.noisy_above)
    return _row_step("noise", work, dict(embed.fingerprints), facts, done, fit.name)


def _annotate_step(store: RunStore, rows: Sequence[RowStep], done: DoneIndex) -> RowStep:
    facts: dict[str, Any] = {"versions": {}}
    for step in rows:
        versions = {**facts["versions"], **step.facts["versions"]}
        facts = {**facts, **step.facts, "versions": versions}
    facts = {**facts, "versions": {**facts["versions"], "annotations": ANNOTATE_VERSION}}
    facts.pop("step", None)
    numbers = rows[0].fingerprints
    identity = {number: [step.fingerprints[number] for step in rows] for number in numbers}
    work = AnnotateWork(store.url, tuple(step.name for step in rows))
    return _row_step("annotations", work, identity, facts, done)
