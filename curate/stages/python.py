"""Row stages of the user's own: what they declare, and what is checked of each table that they make."""

from __future__ import annotations

import inspect
import keyword
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.errors import CurateError, InputError
from curate.user_code import ImportedModule, import_user_module, short_trace

IMAGE = "image"


class Stage(ABC):
    """A row stage of your own: it turns columns of a run into new columns of the same rows.

    A pipeline names it, `- python: my_module:MyStage`, or with options, which are the arguments of its `__init__`:
    `- python: {stage: my_module:MyStage, options: {side: 200}}`.

    Every pair is given, in input order, also those without a caption or a readable picture: what cannot be said of a
    pair is null. How many rows a batch has is not promised, so a row's values must depend on that row alone. Several
    threads may call one stage at once: what it keeps must not change after `prepare`.

    Attributes:
        requires: columns that it reads: those of the annotations, `image_embedding`, `text_embedding` (lists of
            float16), and what stages of your own before it provide.
        provides: columns that it makes: a pa.schema of new names, nullable fields of booleans, integers, floats
            (32 or 64 bits), strings, and lists and structs of these.
        version: goes into the fingerprint beside options and source of the module; raise it when what the module
            imports has changed and the stage gives other values.
        needs_pictures: whether batches have a column `image` (large_binary) with the picture's bytes as they came,
            read again from the input; null where there is none that can be decoded within input.max_image_pixels.
    """

    requires: tuple[str, ...] = ()
    provides: pa.Schema
    version: int = 1
    needs_pictures: bool = False

    def prepare(self) -> None:  # noqa: B027 - most stages have nothing to load
        """Load what is heavy, such as a model: called once per worker, before the first batch."""

    @abstractmethod
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`, in the same order."""


@dataclass(frozen=True)
class StageReference:
    """Where a stage of the user's own is, and with which source and options it was planned. Travels to workers.

    Attributes:
        stage: "module:Class".
        options: arguments of its `__init__`.
        sha256: of the module's source, hex.
        folder: where the module is, if it is not in sys.path.
    """

    stage: str
    options: Mapping[str, Any]
    sha256: str
    folder: str


@dataclass(frozen=True)
class LoadedStage:
    """A stage of the user's own whose declaration is well-formed.

    Attributes:
        stage: the stage; `prepare` was not called yet.
        reference: to load it again.
        file: of its module, for a person.
        requires, provides, version, needs_pictures: see `Stage`.
    """

    stage: Stage
    reference: StageReference
    file: str
    requires: tuple[str, ...]
    provides: pa.Schema
    version: int
    needs_pictures: bool

    @property
    def name(self) -> str:
        """Name of its class."""
        return self.reference.stage.partition(":")[2]


def load_stage(stage: str, options: Mapping[str, Any], folder: str | None = None) -> LoadedStage:
    """Import a stage's module, which executes it, and make the stage.

    Args:
        stage: "module:Class".
        options: arguments of its `__init__`.
        folder: where the module may be beside sys.path; None: the current directory.

    Raises:
        InputError: it cannot be imported or made, or does not declare what a stage declares. The message does not
            name the stage.
    """
    module, _, name = stage.partition(":")
    found = import_user_module(module, folder)
    made = _made(_stage_class(found, name), options, str(found.file))
    loaded = LoadedStage(
        stage=made,
        reference=StageReference(stage, options, found.sha256, found.folder),
        file=str(found.file),
        requires=_requires(made),
        provides=_provides(made),
        version=_version(made),
        needs_pictures=_needs_pictures(made),
    )
    if not loaded.requires and not loaded.needs_pictures:
        raise InputError("requires nothing: name columns, or set needs_pictures = True")
    return loaded


def reload_stage(reference: StageReference) -> LoadedStage:
    """The stage as it was planned, in a worker.

    Raises:
        CurateError: this worker cannot import it, or has another source of it.
    """
    try:
        loaded = load_stage(reference.stage, reference.options, reference.folder)
    except InputError as error:
        raise CurateError(
            f"python: {reference.stage}: {error}. Every worker needs the module: put it in a shared folder, or "
            "install it on all machines."
        ) from None
    if loaded.reference.sha256 != reference.sha256:
        raise CurateError(
            f"python: {reference.stage}: {loaded.file} is not the source that this run was planned with. Was it "
            "edited meanwhile? Run again."
        )
    return loaded


def _stage_class(found: ImportedModule, name: str) -> type[Stage]:
    declared = vars(found.module).get(name)
    if declared is None:
        there = [key for key, value in vars(found.module).items() if _is_stage(value)]
        raise InputError(f"{found.file} has no '{name}'; stages in it: {', '.join(there) or 'none'}")
    if not _is_stage(declared):
        raise InputError(f"'{name}' in {found.file} is no stage: write `class {name}(curate.Stage):`")
    if inspect.isabstract(declared):
        raise InputError(f"'{name}' in {found.file} has no __call__(self, batch)")
    stage: type[Stage] = declared
    return stage


def _is_stage(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Stage) and value is not Stage


def _made(kind: type[Stage], options: Mapping[str, Any], file: str) -> Stage:
    signature = inspect.signature(kind)
    try:
        signature.bind(**options)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise InputError(f"options: {error}; it takes {takes}") from None
    try:
        return kind(**options)
    except Exception as error:  # noqa: BLE001 - code of the user's own may raise anything
        raise InputError(f"options: {kind.__name__} refuses them: {short_trace(error, file)}") from None


def _requires(stage: Stage) -> tuple[str, ...]:
    names = stage.requires
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"requires must be a tuple of column names, but is {names!r}")
    if len(set(names)) < len(names):
        raise InputError("requires names a column twice")
    return tuple(names)


def _provides(stage: Stage) -> pa.Schema:
    declared = getattr(stage, "provides", None)
    if not isinstance(declared, pa.Schema) or not len(declared):
        raise InputError(f"provides must be a pa.schema([...]) with at least one field, but is {declared!r}")
    if len(set(declared.names)) < len(declared):
        raise InputError("provides names a column twice")
    for field in declared:
        if not field.name.isidentifier() or keyword.iskeyword(field.name):
            raise InputError(f"provides: '{field.name}' is no name for a column; use letters, digits and _")
        if not field.nullable:
            raise InputError(f"provides: {field.name} must be nullable: a pair of which nothing can be said has null")
        if not _is_plain(field.type):
            raise InputError(
                f"provides: {field.name} is {field.type}; types are bool, integers, float32, float64, string, and "
                "lists and structs of these"
            )
    return declared


def _is_plain(kind: pa.DataType) -> bool:
    """Whether every form of export can hold it."""
    if pa.types.is_list(kind):
        return _is_plain(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_plain(kind.field(place).type) for place in range(kind.num_fields))
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_string)
    return any(matches(kind) for matches in plain)


def _version(stage: Stage) -> int:
    version = stage.version
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(f"version must be an integer, but is {version!r}")
    return version


def _needs_pictures(stage: Stage) -> bool:
    if not isinstance(stage.needs_pictures, bool):
        raise InputError(f"needs_pictures must be True or False, but is {stage.needs_pictures!r}")
    return stage.needs_pictures


def prepare_stage(loaded: LoadedStage) -> None:
    """Let the stage load what is heavy.

    Raises:
        CurateError: it raised an exception.
    """
    try:
        loaded.stage.prepare()
    except Exception as error:
        raise CurateError(f"{loaded.name}.prepare raised {short_trace(error, loaded.file)}") from error


def call_stage(loaded: LoadedStage, batch: pa.Table) -> pa.Table:
    """Columns of `provides` for the rows of `batch`.

    Raises:
        CurateError: the stage raised an exception, or returned something else than it declares.
    """
    try:
        made = loaded.stage(batch)
    except Exception as error:
        raise CurateError(f"{loaded.name} raised {short_trace(error, loaded.file)}") from error
    if not isinstance(made, pa.Table):
        raise CurateError(f"{loaded.name} must return a pyarrow.Table, but returned {type(made).__name__}")
    if made.num_rows != batch.num_rows:
        raise CurateError(f"{loaded.name} was given {batch.num_rows} rows and returned {made.num_rows}")
    promised = loaded.provides
    if sorted(made.column_names) != sorted(promised.names):
        raise CurateError(
            f"{loaded.name} promises the columns {', '.join(promised.names)}, but returned "
            f"{', '.join(made.column_names) or 'none'}"
        )
    made = made.select(promised.names)
    for field, column in zip(promised, made.columns, strict=True):
        if not column.type.equals(field.type):
            raise CurateError(
                f"{loaded.name} promises {field.name} as {field.type}, but returned {column.type}: give pa.array the "
                f"type, or cast"
            )
    return pa.Table.from_arrays(made.columns, schema=promised)
