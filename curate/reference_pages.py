"""Generates docs/reference/ from the models and the schemas: `python -m curate.reference_pages docs/reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from curate.config import STAGE_NAMES, PipelineConfig, StagesConfig
from curate.schema import (
    ANNOTATION_SCHEMA,
    COLUMN_DESCRIPTIONS,
    DIRECTION,
    SIGNAL_DESCRIPTIONS,
    SIGNALS_TYPE,
    STATUS_DESCRIPTIONS,
)

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true, false", type(None): "null"}


def reference_pages() -> dict[str, str]:
    """Text of every page of the reference by name."""
    return {"pipeline.md": _pipeline_page(), "columns.md": _columns_page()}


def write_reference_pages(folder: Path) -> None:
    """Write every page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in reference_pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _pipeline_page() -> str:
    parts = [
        "# Every key of pipeline.yaml",
        "This page is generated from the models in `curate/config.py`. Editors complete and check the keys if the "
        "file's first line is `# yaml-language-server: $schema=../schemas/pipeline.v1.json`. Any key can be set for "
        "one run: `curate run pipeline.yaml --set stages.noise.folds=3`. `curate validate pipeline.yaml` says all "
        "that is wrong with a file at once.",
        _table(("key", "", "default", "what it is"), _top_rows()),
        f"`stages:` is a list, in this order: {', '.join(f'`{name}`' for name in STAGE_NAMES)}. A stage stands there "
        "by its name alone (`- concepts`), or with options (`- concepts: {top_k: 5}`).",
    ]
    for name, field in PipelineConfig.model_fields.items():
        model = _model_of(field.annotation)
        if model is not None and model is not StagesConfig:
            parts += _section(name, model)
    for name, field in StagesConfig.model_fields.items():
        model = _model_of(field.annotation)
        if model is not None:
            parts += _section(f"stages.{name}", model, field.description)
    return "\n\n".join(parts) + "\n"


def _top_rows() -> Iterator[Sequence[str]]:
    for name, field in PipelineConfig.model_fields.items():
        if _model_of(field.annotation) is None:
            yield _row(name, field)


def _section(path: str, model: type[BaseModel], description: str | None = None) -> list[str]:
    """The heading, the table of a model's own keys, and after it the sections of the models in it."""
    parts = [f"## {path}", description or (model.__doc__ or "").strip().splitlines()[0]]
    rows = [_row(name, field) for name, field in model.model_fields.items() if _model_of(field.annotation) is None]
    if rows:
        parts.append(_table(("key", "", "default", "what it is"), rows))
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is not None:
            parts += _section(f"{path}.{name}", inner, field.description)
    return parts


def _model_of(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _row(name: str, field: FieldInfo) -> Sequence[str]:
    return f"`{name}`", _kind(field), _default(field), field.description or ""


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(limit, bound):g}"
        for limit in field.metadata
        for bound, sign in _BOUNDS.items()
        if getattr(limit, bound, None) is not None
    ]
    return ", ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_words(kind) for kind in inner)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_words(inner[0])}"
    return _WORDS[annotation]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "must be given"
    if isinstance(default, list):
        return ", ".join(f"`{value}`" for value in default) or "none"
    return "`null`" if default is None else f"`{default}`"


def _columns_page() -> str:
    columns = ((f"`{field.name}`", _arrow(field), COLUMN_DESCRIPTIONS[field.name]) for field in ANNOTATION_SCHEMA)
    signals = ((f"`{field.name}`", _direction(field), SIGNAL_DESCRIPTIONS[field.name]) for field in SIGNALS_TYPE)
    statuses = ((f"`{status.value}`", text) for status, text in STATUS_DESCRIPTIONS.items())
    parts = [
        "# Every column and every status",
        "One row of `annotations/part-*.parquet` is one pair of the input, in input order. This page is generated "
        "from `curate/schema.py`; the same for programs is `schemas/annotations.v1.json`. Each file's schema metadata "
        "holds, under the key `curate`, what its scores were made with: models, hashes, versions, seed.",
        "## Columns",
        _table(("column", "Arrow type", "what it is"), columns),
        "## signals",
        "Members of the struct column `signals`. Formulae, failures and measurements: [noise.md](../noise.md).",
        _table(("signal", "direction", "what it is"), signals),
        "## status",
        "A pair that cannot be used keeps its place, with one of these, an `error` in words, and nulls.",
        _table(("status", "what it means"), statuses),
    ]
    return "\n\n".join(parts) + "\n"


def _arrow(field: pa.Field) -> str:
    return "struct, [below](#signals)" if pa.types.is_struct(field.type) else f"`{field.type}`"


def _direction(field: pa.Field) -> str:
    metadata = field.metadata or {}
    return str(metadata.get(DIRECTION, b"").decode())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    write_reference_pages(Path(sys.argv[1]))
