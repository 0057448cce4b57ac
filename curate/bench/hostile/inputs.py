"""What a hostile input is: bytes of strangers, and what curate promises about them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from curate.schema import Status

Group = Literal["picture", "caption", "tar", "table", "pipeline"]
GROUPS: tuple[Group, ...] = ("picture", "caption", "tar", "table", "pipeline")

UNDECODABLE = frozenset({Status.CORRUPT_IMAGE})
"""Statuses of what is no picture any more."""
MAYBE_DECODABLE = frozenset({Status.OK, Status.CORRUPT_IMAGE, Status.IMAGE_TOO_LARGE})
"""Statuses of a real picture with changed bytes: which one is right is what Pillow says of the file alone."""


@dataclass(frozen=True)
class HostilePair:
    """One row of a shard.

    Attributes:
        members: extension and content of its files.
        statuses: it must come out with one of these.
        caption: the caption that the row must have, text or bytes that are not UTF-8; None: null.
        corners: RGB colours of the upright picture's quarters (top left, top right, bottom left, bottom right), if
            they are promised.
    """

    members: tuple[tuple[str, bytes], ...]
    statuses: frozenset[Status] = frozenset({Status.OK})
    caption: str | bytes | None = None
    corners: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True)
class ExpectedRow:
    """A row that a file must give: its key, and the statuses of which it must have one."""

    key: str
    statuses: frozenset[Status]


@dataclass(frozen=True)
class HostileFile:
    """A whole file of the input.

    Attributes:
        suffix: of its name; says the format.
        content: its bytes.
        rows: exactly the rows that it must give, in order; None: any rows, as long as they are the same in every cut.
        errors: whether it must leave shard errors; None: it may.
        refused: whether listing or reading it must be an InputError that says what is wrong with it as a whole.
    """

    suffix: str
    content: bytes
    rows: tuple[ExpectedRow, ...] | None = ()
    errors: bool | None = None
    refused: bool = False


@dataclass(frozen=True)
class HostilePipeline:
    """The text of a pipeline file that must be refused. `{canary}` stands for a file that must not come to be."""

    text: str


Hostile: TypeAlias = HostilePair | HostileFile | HostilePipeline


@dataclass(frozen=True)
class Damage:
    """A kind of damage.

    Attributes:
        name: short, unique.
        group: where it lies.
        promise: what becomes of it, in a sentence.
        build: draws one input of the kind.
        weight: how often it is drawn beside others of its group.
    """

    name: str
    group: Group
    promise: str
    build: Callable[[random.Random], Hostile] = field(repr=False)
    weight: float = 1.0
