"""The embed step of a plan."""

from __future__ import annotations

import dataclasses
from typing import Any

from curate.config import InputConfig, PipelineConfig
from curate.manifest import Manifest
from curate.models.encoder import EncoderSpec
from curate.plan.options import embed_decode_options, worker_encoder_options
from curate.plan.step import EMBED, RowStep, row_step
from curate.sources.base import Source
from curate.stages.decode import Decode
from curate.stages.embed import Embed
from curate.steps import EmbedLimits, EmbedWork
from curate.store import DoneIndex


def plan_embed(
    config: PipelineConfig, source: Source, spec: EncoderSpec, manifest: Manifest, done: DoneIndex
) -> RowStep:
    """The step that reads the pairs and embeds them: every other hangs on it."""
    facts = embed_facts(config, spec)
    if config.input.keep:
        facts["keep"] = config.input.keep
    facts |= _limit_facts(config.input)
    work = EmbedWork(
        source, embed_decode_options(config, spec), worker_encoder_options(config), spec, embed_limits(config.input)
    )
    return row_step(EMBED, work, contents_of(manifest), facts, done)


def embed_facts(config: PipelineConfig, spec: EncoderSpec) -> dict[str, Any]:
    """What embeddings depend on beside their pairs."""
    return {
        "encoder": spec.to_json(),
        "decode": {"mode": config.stages.embed.decode, "max_image_pixels": config.input.max_image_pixels},
        "versions": {"decode": Decode.version, "embed": Embed.version},
    }


def embed_limits(given: InputConfig) -> EmbedLimits:
    """What the step may spend on one pair."""
    return EmbedLimits(given.max_decode_seconds, given.max_caption_characters)


def _limit_facts(given: InputConfig) -> dict[str, Any]:
    """Limits that are not as usual: with the usual ones a run from before there were any is still valid."""
    names = ("max_image_bytes", "max_caption_characters", "max_decode_seconds")
    limits = {name: getattr(given, name) for name in names}
    unusual = {name: limit for name, limit in limits.items() if limit != InputConfig.model_fields[name].default}
    return {"limits": unusual} if unusual else {}


def contents_of(manifest: Manifest) -> dict[int, Any]:
    """What tells each part from any other."""
    parts = {number: dataclasses.asdict(part) for number, part in manifest.parts.items()}
    for number, content in manifest.downloaded.items():
        parts[number]["downloaded"] = content
    return parts
