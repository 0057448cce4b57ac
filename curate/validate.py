"""`curate validate`: all that is wrong with a pipeline and can be known before it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.config import STAGE_NAMES, PipelineConfig, ReadConfig, YamlPath, in_order, read_config
from curate.errors import CurateError, InputError
from curate.models.encoder import resolve_encoder
from curate.models.weights import has_tag
from curate.noise.signals import evidence_of
from curate.plan import encoder_options, given_vocabulary, noise_options, source_options
from curate.plan.python import PythonStage, imports_of, python_stages
from curate.sources import open_source
from curate.sources.base import Shard
from curate.sources.stores import LocalStore, open_store
from curate.store import RunStore


@dataclass(frozen=True)
class Valid:
    """A pipeline with which nothing is wrong that can be known before it runs.

    Attributes:
        config: the pipeline.
        shards: the files of the input.
        weights_read: whether the weights were loaded; False: open_clip knows them by name and may have to fetch them.
        imported: modules of the user's own that were imported, and from where; for a person.
    """

    config: PipelineConfig
    shards: tuple[Shard, ...]
    weights_read: bool
    imported: tuple[str, ...]


def validate(path: Path, overrides: Sequence[str] = ()) -> Valid:
    """Check a pipeline file and what it names: input, run directory, vocabulary, weights.

    Nothing is written or fetched. Of shards only names and columns are looked at. Weights of a local checkpoint and of
    `model: offline` are loaded. Modules of stages of the user's own are imported, which executes them.

    Raises:
        InputError: with one line per problem: file, line, key, what to write instead.
    """
    read = read_config(path, overrides)
    config, problems = read.config, list(read.problems)
    if config is None:
        raise InputError("\n".join(problems))
    shards: list[Shard] = []
    named = has_tag(config.encoder.model, config.encoder.pretrained)
    checks: list[tuple[YamlPath, Callable[[], object]]] = [
        (("input",), lambda: shards.extend(open_source(source_options(config)).list_shards())),
        (("input",), lambda: _check_image_root(config.input.image_root)),
        (("output",), lambda: _check_output(config.output)),
        (("encoder",), lambda: _check_towers(config, named)),
        (("stages", "concepts"), lambda: config.stages.concepts and given_vocabulary(config.stages.concepts)),
    ]
    for section, check in checks:
        if not any(path[: len(section)] == section for path in read.wrong):
            problems += _problems_of(read, section, check)
    stages: list[PythonStage] = []
    try:
        stages += python_stages(config)
    except InputError as error:
        problems += str(error).split("\n")
    if problems:
        raise InputError("\n".join(in_order(problems)))
    return Valid(config, tuple(shards), weights_read=not named, imported=tuple(imports_of(stages)))


def _problems_of(read: ReadConfig, section: YamlPath, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except CurateError as error:
        yield f"{read.where(*(_named_key(str(error)) or _USUAL_KEY.get(section, section)))}: {error}"


_USUAL_KEY: dict[YamlPath, YamlPath] = {
    ("input",): ("input", "path"),
    ("stages", "concepts"): ("stages", "concepts", "vocabulary"),
}


def _named_key(message: str) -> YamlPath:
    """The key that a message begins with; () where it does not."""
    key = tuple(message.split(maxsplit=1)[0].rstrip(":").split("."))
    if key[0] in STAGE_NAMES:
        return ("stages", *key)
    return key if key[0] in PipelineConfig.model_fields else ()


def _check_image_root(image_root: str | None) -> None:
    if image_root is None:
        return
    store, path = open_store(image_root)
    if isinstance(store, LocalStore) and not Path(path).is_dir():
        raise InputError(f"input.image_root: {image_root}: no such folder. Image paths of the table start there.")


def _check_output(output: str) -> None:
    root = RunStore(output).local_root
    if root is None:
        return
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not there.is_dir():
        raise InputError(f"output: {output}: {there} is a file. Name a folder; it is made when it is not there.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"output: {output}: nothing may be written in {there}. Name another folder.")


def _check_towers(config: PipelineConfig, named: bool) -> None:
    """Towers that can be had, and signals that they allow. open_clip's named ones were trained together."""
    joint_space = named or resolve_encoder(encoder_options(config)).joint_space
    if config.stages.noise is not None:
        evidence_of(noise_options(config.stages.noise).signals, joint_space)
