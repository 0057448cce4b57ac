"""Decoding in a process of its own: what kills it or never comes to an end costs its own row and no other."""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

import curate
from curate.decoding.protocol import LENGTH, READY, ROW_IN_HAND, Batch, Start, framed, outcomes_from_bytes
from curate.errors import CurateError
from curate.limits import MAX_DECODE_SECONDS
from curate.stages.decode import DecodeOptions, Outcome, Pixels
from curate.status import Status

WALL_FACTOR = 10
"""A process that waits and does not compute, or that others hold up, has so many times as long by the clock."""
START_SECONDS = 300.0
"""How long a process may take to start, on a machine that is busy with other things."""
MEMORY_BYTES = 1 << 30
PIXEL_BYTES = 32
"""A decoder may take MEMORY_BYTES and this for each of `max_pixels`: more than any picture within that limit needs."""

_COMMAND = ("-m", "curate.decoding.child")
_SMALLEST_SHARED = 1 << 20
_KEPT_SHARED = 64 << 20
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc would give memory back after every picture and ask for it again, page by page.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_HEAD_BYTES = 64
_LOOKS = 5


class _Lost(Exception):  # noqa: N818 - not an error outside this module
    """The process was lost while it had a row in hand; carries the row and what that says of it."""

    def __init__(self, row: int, outcome: Outcome) -> None:
        self.row = row
        self.outcome = outcome


class GuardedDecoder:
    """Decodes images in a process of its own, which is started at the first image and lives until `close`.

    The bytes are those that decoding in this process gives. An image which takes longer than `seconds` of CPU time, or
    which ends the process, is tried once more, alone and in a new process, and then has the status decode_timeout or
    decoder_crashed. For one thread at a time.
    """

    def __init__(self, options: DecodeOptions, seconds: float = MAX_DECODE_SECONDS) -> None:
        """
        Args:
            options: how pixels are made.
            seconds: of CPU time for one image; by the clock it may take WALL_FACTOR times as long.
        """
        self._options = options
        self._seconds = seconds
        self._child: _Child | None = None

    def __call__(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        """See `curate.stages.decode.Decoder`.

        Raises:
            CurateError: no process can be started.
        """
        outcomes: list[Outcome] = []
        while (row := len(outcomes)) < len(images):
            outcomes += self._up_to_a_loss(images[row:], pixels[row:])
        return outcomes

    def close(self) -> None:
        """End the process; the next image starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> GuardedDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _up_to_a_loss(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        """Outcomes of all images, or of those up to the first that the process was lost with."""
        try:
            return self._in_child(images, pixels)
        except _Lost as lost:
            self.close()
            # What the process has made of the images before went with it.
            before = self(images[: lost.row], pixels[: lost.row])
            return [*before, self._once_more(images[lost.row], pixels[lost.row])]

    def _once_more(self, image: memoryview | None, pixels: Pixels) -> Outcome:
        try:
            return self._in_child([image], pixels[np.newaxis])[0]
        except _Lost as lost:
            self.close()
            return lost.outcome

    def _in_child(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        if self._child is None:
            self._child = _Child(self._options, self._seconds)
        return self._child.decode(images, pixels)


class DecoderOfThread:
    """A guarded decoder for each thread that asks for one, which ends with its thread."""

    def __init__(self, options: DecodeOptions, seconds: float) -> None:
        """See GuardedDecoder."""
        self._options = options
        self._seconds = seconds
        self._local = threading.local()

    def __getstate__(self) -> tuple[DecodeOptions, float]:
        return self._options, self._seconds

    def __setstate__(self, state: tuple[DecodeOptions, float]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __call__(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        """See GuardedDecoder."""
        decoder: GuardedDecoder | None = getattr(self._local, "decoder", None)
        if decoder is None:
            decoder = self._local.decoder = GuardedDecoder(self._options, self._seconds)
        return decoder(images, pixels)


class _Child:
    """A decoder process, and the memory that it shares with this one."""

    def __init__(self, options: DecodeOptions, seconds: float) -> None:
        self._row_bytes = options.size * options.size * 3
        self._seconds = seconds
        self._file = _anonymous_file()
        os.ftruncate(self._file, _SMALLEST_SHARED)
        self._shared = mmap.mmap(self._file, _SMALLEST_SHARED)
        self._process = _started(self._file)
        # Also where nobody calls `end`: when the thread that this belongs to is gone, and when Python ends.
        self.end = weakref.finalize(self, _end, self._process, self._file)
        memory = MEMORY_BYTES + PIXEL_BYTES * options.max_pixels
        start = Start(options, seconds, memory, os.getpid())
        if not self._starts(start):
            self.end()
            raise CurateError(_cannot_start(self._process.returncode))

    def decode(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        """See GuardedDecoder.

        Raises:
            _Lost: the process ended, or had to be given up.
        """
        batch = self._laid_out(images)
        self._send(batch.to_bytes())
        outcomes = outcomes_from_bytes(self._received(WALL_FACTOR * self._seconds))
        for row, outcome in enumerate(outcomes):
            if outcome.status is Status.OK:
                made = np.frombuffer(self._shared, np.uint8, self._row_bytes, batch.pixels + row * self._row_bytes)
                pixels[row] = made.reshape(pixels.shape[1:])
        return outcomes

    def _starts(self, start: Start) -> bool:
        try:
            self._send(start.to_bytes())
            return self._received(START_SECONDS) == READY
        except _Lost:
            return False

    def _laid_out(self, images: Sequence[memoryview | None]) -> Batch:
        """Put images into the shared memory."""
        used = _HEAD_BYTES + len(images) * self._row_bytes
        self._reserve(used + sum(len(image) for image in images if image is not None))
        ROW_IN_HAND.pack_into(self._shared, 0, 0)
        places: list[tuple[int, int] | None] = []
        for image in images:
            places.append(None if image is None else (used, len(image)))
            if image is not None:
                self._shared[used : used + len(image)] = image
                used += len(image)
        return Batch(len(self._shared), _HEAD_BYTES, tuple(places))

    def _reserve(self, needed: int) -> None:
        """Make the shared memory large enough; what one large batch has taken is not kept for ever."""
        most = max(_KEPT_SHARED, 4 * needed)
        if needed <= len(self._shared) <= most:
            return
        size = 1 << max(_SMALLEST_SHARED - 1, needed - 1).bit_length()
        self._shared.close()
        os.ftruncate(self._file, size)
        self._shared = mmap.mmap(self._file, size)

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(framed(message))
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._loss() from error

    def _received(self, patience: float) -> bytes:
        """The next answer.

        Raises:
            _Lost: none comes any more, or one row is in hand for more than `patience` seconds.
        """
        length: int = LENGTH.unpack(self._read(LENGTH.size, patience))[0]
        return self._read(length, patience)

    def _read(self, size: int, patience: float) -> bytes:
        assert self._process.stdout is not None
        answers, data = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        row, since = self._row_in_hand(), time.monotonic()
        while len(data) < size:
            if poll.poll(1000 * patience / _LOOKS):
                more = os.read(answers, size - len(data))
                if not more:
                    raise self._loss()
                data += more
            elif row != self._row_in_hand():
                row, since = self._row_in_hand(), time.monotonic()
            elif time.monotonic() - since >= patience:
                raise _Lost(row, _timeout(self._seconds))
        return data

    def _row_in_hand(self) -> int:
        row: int = ROW_IN_HAND.unpack_from(self._shared)[0]
        return row

    def _loss(self) -> _Lost:
        code = self._process.wait()
        outcome = _timeout(self._seconds) if code == -signal.SIGPROF else _crash(code)
        return _Lost(self._row_in_hand(), outcome)


def _anonymous_file() -> int:
    """A file in memory that has no name, or where the system has none such, one that has lost its name."""
    if sys.platform == "linux":
        return os.memfd_create("curate-decode")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _started(shared: int) -> subprocess.Popen[bytes]:
    package = Path(curate.__file__).parent.parent
    try:
        return subprocess.Popen(
            [sys.executable, *_COMMAND, str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Decoders write there what images make them write.
            stderr=subprocess.DEVNULL,
            # `-m` looks for modules in the working folder first: that must not be anybody's.
            cwd=package,
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=(shared,),
        )
    except OSError as error:
        raise CurateError(f"no process that decodes images can be started: {error}") from error


def _end(process: subprocess.Popen[bytes], shared: int) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        # What could not be sent any more is tried again by closing.
        with suppress(BrokenPipeError):
            stream.close()
    os.close(shared)


def _cannot_start(code: int) -> str:
    return (
        f"the process that decodes images ended while it started ({_ending(code)}). "
        f"`{Path(sys.executable).name} {' '.join(_COMMAND)} 0 < /dev/null` shows why."
    )


def _timeout(seconds: float) -> Outcome:
    return Outcome(
        Status.DECODE_TIMEOUT,
        f"not decoded within input.max_decode_seconds = {seconds:g}, tried twice; raise it to give images more time",
    )


def _crash(code: int) -> Outcome:
    return Outcome(Status.DECODER_CRASHED, f"decoding it ended the decoder's process, tried twice: {_ending(code)}")


def _ending(code: int) -> str:
    names = {each.value: each.name for each in signal.Signals}
    return f"exit code {code}" if code >= 0 else f"signal {names.get(-code, -code)}"
