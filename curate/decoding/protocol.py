"""How a run and its decoder process talk.

Messages go through pipes: their length as uint32, then their bytes. Images and pixels lie in memory that both map.
For every batch the run sends one message that says where they lie, and the process answers with one when all rows are
done. The shared memory begins with the number of the row in hand: it is known whatever becomes of the process.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.stages.decode import DecodeOptions, Outcome
from curate.status import Status

LENGTH = struct.Struct("<I")
READY = b"ready"
ROW_IN_HAND = struct.Struct("<Q")

_NONE = -1
_BATCH = struct.Struct("<QQQ")
_PLACE = struct.Struct("<qq")
_OUTCOME = struct.Struct("<iiBB")
_STATUSES = tuple(Status)


@dataclass(frozen=True)
class Start:
    """What a decoder process is told first.

    Attributes:
        options: how pixels are made.
        seconds: of CPU time for one image; one that takes longer ends the process.
        memory_bytes: that decoding may take beside what the process needs anyhow.
        parent: process that it must not outlive.
    """

    options: DecodeOptions
    seconds: float
    memory_bytes: int
    parent: int

    def to_bytes(self) -> bytes:
        """The message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Start:
        """What `to_bytes` has written."""
        values: dict[str, Any] = json.loads(message)
        return cls(**{**values, "options": DecodeOptions(**values["options"])})


@dataclass(frozen=True)
class Batch:
    """Where a batch lies in the shared memory.

    Attributes:
        memory_bytes: size of the shared memory.
        pixels: offset of the rows' pixels, one row behind the other.
        images: offset and length of each row's image; None where there is none.
    """

    memory_bytes: int
    pixels: int
    images: tuple[tuple[int, int] | None, ...]

    def to_bytes(self) -> bytes:
        """The message."""
        places = (_PLACE.pack(*(place or (0, _NONE))) for place in self.images)
        return _BATCH.pack(self.memory_bytes, self.pixels, len(self.images)) + b"".join(places)

    @classmethod
    def from_bytes(cls, message: bytes) -> Batch:
        """What `to_bytes` has written."""
        memory_bytes, pixels, rows = _BATCH.unpack_from(message)
        places = (_PLACE.unpack_from(message, _BATCH.size + row * _PLACE.size) for row in range(rows))
        return cls(memory_bytes, pixels, tuple(None if place[1] == _NONE else place for place in places))


def outcomes_to_bytes(outcomes: Sequence[Outcome]) -> bytes:
    """The message that a batch is done."""
    return b"".join(framed(_outcome_to_bytes(outcome)) for outcome in outcomes)


def outcomes_from_bytes(message: bytes) -> list[Outcome]:
    """What `outcomes_to_bytes` has written."""
    outcomes, position = list[Outcome](), 0
    while position < len(message):
        start = position + LENGTH.size
        position = start + LENGTH.unpack_from(message, position)[0]
        outcomes.append(_outcome_from_bytes(message[start:position]))
    return outcomes


def framed(message: bytes) -> bytes:
    """A message as it goes through a pipe."""
    return LENGTH.pack(len(message)) + message


def _outcome_to_bytes(outcome: Outcome) -> bytes:
    width, height = (_NONE if length is None else length for length in (outcome.width, outcome.height))
    head = _OUTCOME.pack(width, height, _STATUSES.index(outcome.status), outcome.error is not None)
    return head + (outcome.error or "").encode("utf-8", "backslashreplace")


def _outcome_from_bytes(message: bytes) -> Outcome:
    width, height, status, has_error = _OUTCOME.unpack_from(message)
    error = message[_OUTCOME.size :].decode() if has_error else None
    return Outcome(_STATUSES[status], error, *(None if length == _NONE else length for length in (width, height)))
