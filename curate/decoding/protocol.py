"""How a run and its decoder process talk.

Messages go through pipes: their length as uint32, then their bytes. Images and pixels lie in memory that both map.
For every batch the run sends one message that says where they lie; the process answers with one message for each row,
in order, when it is done with it. So the row in hand is the first without an answer, whatever became of the process.
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


def outcome_to_bytes(outcome: Outcome) -> bytes:
    """The message that a row is done."""
    width, height = (_NONE if length is None else length for length in (outcome.width, outcome.height))
    head = _OUTCOME.pack(width, height, _STATUSES.index(outcome.status), outcome.error is not None)
    return head + (outcome.error or "").encode("utf-8", "backslashreplace")


def outcome_from_bytes(message: bytes) -> Outcome:
    """What `outcome_to_bytes` has written."""
    width, height, status, has_error = _OUTCOME.unpack_from(message)
    error = message[_OUTCOME.size :].decode() if has_error else None
    return Outcome(_STATUSES[status], error, *(None if length == _NONE else length for length in (width, height)))


def framed(messages: Sequence[bytes]) -> bytes:
    """Messages as they go through a pipe."""
    return b"".join(LENGTH.pack(len(message)) + message for message in messages)
