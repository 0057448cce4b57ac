"""Stages of the user's own, as a plan has them: what they read is checked, and where it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.config import PipelineConfig, PythonConfig, StagesConfig
from curate.errors import InputError
from curate.plan.step import (
    CAPTION_FIT,
    CONCEPTS_FIT,
    DUPLICATES,
    EMBED,
    NOISE_FIT,
    REFINE_FIT,
    DuplicatesStep,
    RowStep,
    fingerprint_of,
    row_step,
)
from curate.schema import (
    ANNOTATION_SCHEMA,
    CAPTION_SCHEMA,
    CONCEPTS_SCHEMA,
    DUPLICATES_SCHEMA,
    NOISE_SCHEMA,
    REFINE_SCHEMA,
    SOURCE_SCHEMA,
)
from curate.sources.base import Source
from curate.stages.embed import Embed
from curate.stages.python import IMAGE, LoadedStage, load_stage
from curate.steps import PythonWork
from curate.store import DoneIndex, RunStore, StepColumns

_EMBED_COLUMNS = (
    *(name for name in SOURCE_SCHEMA.names if name != IMAGE),
    *("width", "height", "image_sha256"),
    *Embed.provides.names,
)
# Of two steps with the same column the later one counts, as in the annotations.
_COLUMNS = {
    EMBED: _EMBED_COLUMNS,
    NOISE_FIT: NOISE_SCHEMA.names,
    DUPLICATES: DUPLICATES_SCHEMA.names,
    REFINE_FIT: REFINE_SCHEMA.names,
    CONCEPTS_FIT: CONCEPTS_SCHEMA.names,
    CAPTION_FIT: CAPTION_SCHEMA.names,
}
_STAGE_OF = {DUPLICATES: "noise"}
_OURS = {*ANNOTATION_SCHEMA.names, *_EMBED_COLUMNS, IMAGE, "pixels"}


@dataclass(frozen=True)
class PythonStage:
    """A stage of the user's own that fits its place.

    Attributes:
        step: name of its step.
        loaded: the stage.
        columns: those that it requires, by the step that they come from.
    """

    step: str
    loaded: LoadedStage
    columns: tuple[StepColumns, ...]


def python_stages(config: PipelineConfig) -> list[PythonStage]:
    """Import the stages of the user's own that a pipeline names, and check what they require and provide.

    Raises:
        InputError: one line for each that cannot be used: where it stands, and why.
    """
    home = column_homes(_steps_of(config.stages))
    stages: list[PythonStage] = []
    problems: list[str] = []
    for given in config.stages.python:
        try:
            stage = _fitting(given, home, [each.step for each in stages])
        except InputError as error:
            where = f"{given.place}: " if given.place else ""
            problems.append(f"{where}python: {given.stage}: {error}")
        else:
            stages.append(stage)
            home |= dict.fromkeys(stage.loaded.provides.names, stage.step)
    if problems:
        raise InputError("\n".join(problems))
    return stages


def column_homes(steps: Sequence[str]) -> dict[str, str]:
    """The step that each column comes from, of these steps of curate's own: of two with one name the later counts."""
    return {name: step for step in _COLUMNS if step in steps for name in _COLUMNS[step]}


def _steps_of(stages: StagesConfig) -> list[str]:
    """Steps whose columns there are, in order."""
    return [step for step in _COLUMNS if getattr(stages, _STAGE_OF.get(step, step)) is not None]


def _fitting(given: PythonConfig, home: dict[str, str], taken: Sequence[str]) -> PythonStage:
    loaded = load_stage(given.stage, given.options)
    for name in loaded.provides.names:
        if name in _OURS:
            raise InputError(f"provides '{name}', which is a column of curate's own; choose another name")
        if name in home:
            raise InputError(f"provides '{name}', which {home[name]} provides already; choose another name")
    columns: dict[str, list[str]] = {}
    for name in loaded.requires:
        if name not in home:
            raise InputError(f"requires '{name}', {_why_missing(name, home)}")
        columns.setdefault(home[name], []).append(name)
    return PythonStage(_step_name(loaded.name, taken), loaded, tuple(columns.items()))


def _why_missing(name: str, home: dict[str, str]) -> str:
    for step, names in _COLUMNS.items():
        if name in names:
            return f"which the stage {_STAGE_OF.get(step, step)} makes; add that stage before it"
    if name == IMAGE:
        return "which is no column; set needs_pictures = True to be given the bytes of pictures"
    close = difflib.get_close_matches(name, home, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(home)}"
    return f"which no stage before it makes; {hint}"


def _step_name(name: str, taken: Sequence[str]) -> str:
    step = f"python-{name}"
    used = sum(each == step or each.startswith(f"{step}-") for each in taken)
    return f"{step}-{used + 1}" if used else step


def plan_python(
    stages: Sequence[PythonStage],
    store: RunStore,
    source: Source,
    embed: RowStep,
    before: Sequence[RowStep | DuplicatesStep],
    done: DoneIndex,
) -> list[RowStep]:
    """A step for each of these stages; it depends on the steps whose columns it requires, and on its source."""
    steps = {step.name: step for step in before}
    made: list[RowStep] = []
    for stage in stages:
        read = [embed, *(steps[name] for name, _ in stage.columns if name != embed.name)]
        identity = {number: [fingerprint_of(step, number) for step in read] for number in embed.fingerprints}
        pictures = source if stage.loaded.needs_pictures else None
        work = PythonWork(store.address, stage.loaded.reference, stage.columns, pictures)
        made.append(row_step(stage.step, work, identity, _facts(stage), done))
        steps[stage.step] = made[-1]
    return made


def _facts(stage: PythonStage) -> dict[str, Any]:
    loaded = stage.loaded
    return {
        stage.step: {
            "stage": loaded.reference.stage,
            "options": dict(loaded.reference.options),
            "source_sha256": loaded.reference.sha256,
            "requires": list(loaded.requires),
            "provides": {field.name: str(field.type) for field in loaded.provides},
            "needs_pictures": loaded.needs_pictures,
        },
        "versions": {stage.step: loaded.version},
    }


def provided(stages: Sequence[PythonStage]) -> pa.Schema:
    """The columns that these stages add to the annotations, in order."""
    return pa.schema([field for stage in stages for field in stage.loaded.provides])


def imports_of(stages: Sequence[PythonStage]) -> Iterator[str]:
    """What was imported for these stages, one line each, for a person."""
    for stage in stages:
        yield f"{stage.loaded.reference.stage} from {stage.loaded.file}"
