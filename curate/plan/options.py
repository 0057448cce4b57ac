"""The config as the library takes it: options of sources, models, fits and stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from curate.completion.policy import CaptionColumns, Policy
from curate.concepts.fit import ConceptOptions
from curate.concepts.vocabulary import Vocabulary, read_vocabulary
from curate.config import CaptionConfig, CocaConfig, ConceptsConfig, NoiseConfig, PipelineConfig, RefineConfig
from curate.models.coca import CocaOptions
from curate.models.encoder import EncoderOptions
from curate.models.finetune_options import FinetuneOptions
from curate.models.numerics import ModelSpec
from curate.models.weights import with_absolute_paths
from curate.noise.fit import NoiseOptions
from curate.noise.heads import HeadOptions
from curate.noise.refine import RefineOptions
from curate.sources.options import ColumnNames, SourceLimits, SourceOptions
from curate.stages.decode import DecodeOptions
from curate.stages.noise import NoiseColumns


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
        limits=SourceLimits(given.max_image_bytes, given.max_caption_characters, given.max_members),
    )


def encoder_options(config: PipelineConfig) -> EncoderOptions:
    """The encoder's options as the library takes them."""
    return EncoderOptions(**config.encoder.model_dump())


def worker_encoder_options(config: PipelineConfig) -> EncoderOptions:
    """The same for a worker, which may have been started in another folder: paths are absolute."""
    return EncoderOptions(**with_absolute_paths(config.encoder.model_dump()))


def coca_options(coca: CocaConfig) -> CocaOptions:
    """The checkpoint's options as the library takes them."""
    return CocaOptions(**coca.model_dump())


def decode_options(config: PipelineConfig, spec: ModelSpec) -> DecodeOptions:
    """Pictures as a model takes them."""
    return DecodeOptions(
        size=spec.image_size,
        resize_mode=spec.resize_mode,
        interpolation=spec.interpolation,
        max_pixels=config.input.max_image_pixels,
        fill_color=spec.fill_color,
    )


def embed_decode_options(config: PipelineConfig, spec: ModelSpec) -> DecodeOptions:
    """Pictures as the towers take them, in the decode mode of the stage embed."""
    return dataclasses.replace(decode_options(config, spec), mode=config.stages.embed.decode)


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


def noise_columns(noise: NoiseConfig) -> NoiseColumns:
    """How the stage turns probabilities into labels and hints."""
    return NoiseColumns(
        clean_below=noise.clean_below,
        noisy_above=noise.noisy_above,
        smoothing=noise.smoothing,
        margin_image=noise.margin_image,
        margin_text=noise.margin_text,
    )


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


def caption_columns(caption: CaptionConfig) -> CaptionColumns:
    """Which captions are completed and how, as the library takes it."""
    policy = Policy(mode=caption.mode, accept_quantile=caption.accept_quantile, margin=caption.margin)
    return CaptionColumns(caption.when, caption.decoder, policy)
