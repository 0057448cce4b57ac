"""The decoder process: `python -m curate.decoding.child FD`, where FD is the memory that it shares with its run.

It reads messages from stdin and answers on stdout, see protocol.py. It ends when stdin does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from curate.decoding.protocol import LENGTH, READY, ROW_IN_HAND, Batch, Start, framed, outcomes_to_bytes
from curate.stages.decode import DecodeOptions, Outcome, decode_image

_PR_SET_PDEATHSIG = 1
_FIRST_TO_BE_KILLED = "1000"
_LARGEST_LIMIT = 1 << 62


def main() -> None:
    """Decode batch after batch until nobody sends any."""
    messages, answers = sys.stdin.buffer, sys.stdout.buffer
    first = _received(messages)
    if not first:
        return
    start = Start.from_bytes(first)
    _live_no_longer_than(start.parent)
    _be_frugal()
    used = _address_space()
    shared = mmap.mmap(int(sys.argv[1]), 0)
    _send(answers, READY)
    while message := _received(messages):
        batch = Batch.from_bytes(message)
        # An image is copied out of the shared memory: for that it has room twice.
        _limit_memory(used + 2 * batch.memory_bytes + start.memory_bytes)
        if batch.memory_bytes != len(shared):
            shared.close()
            shared = mmap.mmap(int(sys.argv[1]), batch.memory_bytes)
        outcomes = []
        for row in range(len(batch.images)):
            ROW_IN_HAND.pack_into(shared, 0, row)
            # The kernel ends the process when time is up: no decoder looks at a flag.
            signal.setitimer(signal.ITIMER_PROF, start.seconds)
            outcomes.append(_decoded(shared, batch, row, start.options))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, outcomes_to_bytes(outcomes))


def _limit_memory(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _LARGEST_LIMIT if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, most), hard))


def _decoded(shared: mmap.mmap, batch: Batch, row: int, options: DecodeOptions) -> Outcome:
    place, shape = batch.images[row], (options.size, options.size, 3)
    values = options.size * options.size * 3
    pixels = np.frombuffer(shared, np.uint8, values, batch.pixels + row * values).reshape(shape)
    data = None if place is None else shared[place[0] : place[0] + place[1]]
    return decode_image(data, options, pixels)


def _received(messages: BinaryIO) -> bytes:
    """The next message; empty at the end."""
    head = messages.read(LENGTH.size)
    return messages.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _send(answers: BinaryIO, message: bytes) -> None:
    answers.write(framed(message))
    answers.flush()


def _live_no_longer_than(parent: int) -> None:
    """Whatever ends the run, this process ends too, in the middle of an image and even when it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _be_frugal() -> None:
    """No core files; signals for the run are the run's; when memory runs out, this process goes first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # A sandbox may have no /proc, or one that nobody writes to: then the kernel chooses as it likes.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(_FIRST_TO_BE_KILLED)


def _address_space() -> int:
    """Bytes that the process has mapped."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * mmap.PAGESIZE


if __name__ == "__main__":
    main()
