"""Generates schemas/pipeline.v1.json and schemas/annotations.v1.json: `python -m curate.schema_files schemas`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.config import PYTHON, STAGE_NAMES, STAGE_REFERENCE, PipelineConfig
from curate.schema import (
    ANNOTATION_SCHEMA,
    COLUMN_DESCRIPTIONS,
    DIRECTION,
    SCHEMA_VERSION,
    SIGNAL_DESCRIPTIONS,
    STATUS_DESCRIPTIONS,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, for completion and errors in editors."""
    schema = PipelineConfig.model_json_schema()
    stages = schema["$defs"].pop("StagesConfig")["properties"]
    options = {name: _options_reference(stages[name]) for name in STAGE_NAMES}
    options[PYTHON] = {"anyOf": [{"type": "string", "pattern": f"^{STAGE_REFERENCE}$"}, options[PYTHON]]}
    with_options = {
        "type": "object",
        "properties": options,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    schema["properties"]["stages"] = {
        "description": "What runs, in this order: " + ", ".join(STAGE_NAMES),
        "type": "array",
        "items": {"anyOf": [{"enum": [name for name in STAGE_NAMES if name != PYTHON]}, with_options]},
    }
    return {"$schema": DRAFT, **schema, "title": "curate pipeline"}


def _options_reference(stage: dict[str, Any]) -> dict[str, Any]:
    references = [stage, stage.get("items", {}), *stage.get("anyOf", ())]
    return next({"$ref": entry["$ref"]} for entry in references if "$ref" in entry)


def annotations_schema() -> dict[str, Any]:
    """JSON Schema of one row of the annotations, with every column's Arrow type."""
    return {
        "$schema": DRAFT,
        "title": f"curate annotations, schema version {SCHEMA_VERSION}",
        "description": "One row of RUN/annotations/part-*.parquet. Provenance is in the files' schema metadata, "
        "key 'curate', as JSON.",
        "type": "object",
        "additionalProperties": {"description": "A column of a stage of the user's own, see docs/write-a-stage.md."},
        "required": ANNOTATION_SCHEMA.names,
        "properties": {field.name: _column(field, COLUMN_DESCRIPTIONS[field.name]) for field in ANNOTATION_SCHEMA},
    }


def _column(field: pa.Field, description: str) -> dict[str, Any]:
    column: dict[str, Any] = {"description": description, "arrow": str(field.type), **_json_type(field)}
    if field.metadata and DIRECTION in field.metadata:
        column["direction"] = field.metadata[DIRECTION].decode()
    if field.name == "status":
        column["enum"] = [status.value for status in STATUS_DESCRIPTIONS]
        column["values"] = {status.value: text for status, text in STATUS_DESCRIPTIONS.items()}
    if pa.types.is_struct(field.type):
        column["arrow"] = "struct"
        column["properties"] = {child.name: _column(child, SIGNAL_DESCRIPTIONS[child.name]) for child in field.type}
    return column


def _json_type(field: pa.Field) -> dict[str, Any]:
    kinds = (
        (pa.types.is_struct, "object"),
        (pa.types.is_list, "array"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_floating, "number"),
        (pa.types.is_string, "string"),
        (pa.types.is_binary, "string"),
    )
    kind = next(name for matches, name in kinds if matches(field.type))
    return {"type": [kind, "null"] if field.nullable else kind}


def schema_files() -> dict[str, str]:
    """Text of every schema file by name."""
    schemas = {"pipeline.v1.json": pipeline_schema(), "annotations.v1.json": annotations_schema()}
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def write_schema_files(folder: Path) -> None:
    """Write every schema file into a folder."""
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schema_files(Path(sys.argv[1]))
