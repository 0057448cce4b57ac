"""Which columns a step's files must have, by what they say of the version that made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.completion.policy import CAPTION_VERSION
from curate.plan.annotations import ANNOTATE_VERSION
from curate.plan.download import DOWNLOAD_VERSION
from curate.plan.noise import DUPLICATES_VERSION
from curate.plan.step import CAPTION_FIT, CONCEPTS_FIT, DUPLICATES, EMBED, NOISE_FIT, REFINE_FIT
from curate.schema import (
    ANNOTATION_SCHEMA,
    CAPTION_SCHEMA,
    CONCEPTS_SCHEMA,
    DOWNLOAD_SCHEMA,
    DUPLICATES_SCHEMA,
    NOISE_SCHEMA,
    REFINE_SCHEMA,
    SCHEMA_VERSION,
    SOURCE_SCHEMA,
)
from curate.sources.urls import DOWNLOAD
from curate.stages.concepts import Concepts
from curate.stages.decode import Decode
from curate.stages.embed import Embed
from curate.stages.noise import Noise
from curate.stages.refine import Refine
from curate.summary import ANNOTATIONS

_SIZE = [ANNOTATION_SCHEMA.field(name) for name in ("width", "height", "image_sha256")]
_IDENTITY = [column for column in SOURCE_SCHEMA if column.name != "image"]
_COLUMNS = {
    DOWNLOAD: DOWNLOAD_SCHEMA,
    EMBED: pa.schema([*_IDENTITY, *_SIZE, *Embed.provides]),
    NOISE_FIT: NOISE_SCHEMA,
    DUPLICATES: DUPLICATES_SCHEMA,
    REFINE_FIT: REFINE_SCHEMA,
    CONCEPTS_FIT: CONCEPTS_SCHEMA,
    CAPTION_FIT: CAPTION_SCHEMA,
    ANNOTATIONS: ANNOTATION_SCHEMA,
}
_CURRENT = {
    DOWNLOAD: DOWNLOAD_VERSION,
    "decode": Decode.version,
    EMBED: Embed.version,
    NOISE_FIT: Noise.version,
    DUPLICATES: DUPLICATES_VERSION,
    REFINE_FIT: Refine.version,
    CONCEPTS_FIT: Concepts.version,
    CAPTION_FIT: CAPTION_VERSION,
    ANNOTATIONS: ANNOTATE_VERSION,
}


def is_current(facts: Mapping[str, Any]) -> bool:
    """Whether everything behind a file with these facts was made by this version's stages."""
    return all(version == _CURRENT.get(name, version) for name, version in facts.get("versions", {}).items())


def column_problem(step: str, schema: pa.Schema, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the columns of a step's file; None: nothing. An earlier version may have fewer.

    Args:
        step: of the run.
        schema: of the file.
        facts: what it says of how it was made.
    """
    if facts.get("schema_version", 1) > SCHEMA_VERSION:
        return f"is of schema version {facts['schema_version']}, newer than this curate's {SCHEMA_VERSION}"
    wanted = _wanted(step, facts)
    found = {column.name: _told(column.type) for column in schema}
    strange = [f"{name} (unknown)" for name in found if name not in wanted]
    wrong = [
        f"{name} ({found[name]} for {wanted[name]})" for name in found if found[name] != wanted.get(name, found[name])
    ]
    missing = [f"{name} (missing)" for name in wanted if name not in found and is_current(facts)]
    if not (strange or wrong or missing):
        return None
    return f"has not the columns of {step}: {', '.join([*strange, *wrong, *missing])}"


def _told(kind: pa.DataType) -> str:
    # Parquet has a name of its own for what a list holds.
    return str(kind).replace("list<element: ", "list<item: ")


def _wanted(step: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """Names and types of columns."""
    if step not in _COLUMNS and step in facts:
        return dict(facts[step]["provides"])
    if step.startswith(f"{REFINE_FIT}-"):
        schema = Embed.provides if step.endswith(f"-{EMBED}") else NOISE_SCHEMA
    else:
        schema = _COLUMNS[step]
    own = {} if step != ANNOTATIONS else _of_own_stages(facts)
    return {column.name: _told(column.type) for column in schema} | own


def _of_own_stages(facts: Mapping[str, Any]) -> dict[str, str]:
    found = [facts[name]["provides"] for name in facts.get("versions", {}) if name.startswith("python-")]
    return {name: kind for each in found for name, kind in each.items()}
