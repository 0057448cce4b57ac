"""`curate` in a process whose clock jumps when it gets SIGUSR1.

`python -m curate.bench.chaos.shifted_clock SECONDS run ...`

The clock is Python's: `time.time`, `time.time_ns` and `datetime.now`. The kernel's, which stamps files, goes on.
"""

from __future__ import annotations

import atexit
import datetime
import signal
import sys
import time
from types import FrameType

from curate.cli import main as curate

_true_time, _true_time_ns, _TrueDatetime = time.time, time.time_ns, datetime.datetime
_offset = 0


def _shifted_time() -> float:
    return _true_time() + _offset


def _shifted_time_ns() -> int:
    return _true_time_ns() + _offset * 10**9


class _ShiftedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _ShiftedDatetime:
        return cls.fromtimestamp(_shifted_time(), tz)


def shift_at_signal(seconds: int) -> None:
    """From now on the clock jumps by so many seconds at every SIGUSR1."""

    def jump(number: int, frame: FrameType | None) -> None:
        global _offset
        _offset += seconds

    signal.signal(signal.SIGUSR1, jump)
    # An interpreter that ends takes its handlers back, and the signal would kill it.
    atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    time.time, time.time_ns = _shifted_time, _shifted_time_ns
    datetime.datetime = _ShiftedDatetime  # type: ignore[misc]
    for name, module in list(sys.modules.items()):
        # Those that are loaded already keep the clock by its name.
        if name.startswith("curate.") and getattr(module, "datetime", None) is _TrueDatetime:
            vars(module)["datetime"] = _ShiftedDatetime


def main() -> None:
    """Run the command whose arguments follow the seconds."""
    shift_at_signal(int(sys.argv[1]))
    sys.argv = ["curate", *sys.argv[2:]]
    curate()


if __name__ == "__main__":
    main()
