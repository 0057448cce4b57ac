"""When a run is disturbed: drawn by a seed, so that every step is hit sooner or later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curate.lock import OWNERS

LONGEST_DELAY = 0.4
"""Seconds after a file: long enough to fall into the next part or into a fit."""
_POLL_SECONDS = 0.004


@dataclass(frozen=True)
class Moment:
    """Some time after the n-th file has appeared in a folder of the run.

    Attributes:
        folder: of the run directory; "": as soon as the run has its lock.
        files: how many must be there; half-written ones count.
        delay: seconds from then on.
    """

    folder: str
    files: int
    delay: float

    def __str__(self) -> str:
        when = f"file {self.files} of {self.folder}" if self.folder else "the lock"
        return f"{when} + {self.delay:.2f} s"


def draw_moment(rng: random.Random, folders: dict[str, int], input_is_read: bool) -> Moment:
    """A moment of a run; each folder is as likely as the others, and so is the time before the first.

    Args:
        rng: decides.
        folders: how many files an undisturbed run leaves in each folder.
        input_is_read: whether the moment must come after the input is cut into parts.
    """
    folder = rng.choice([*([] if input_is_read else [""]), *sorted(folders)])
    files = rng.randint(1, folders[folder]) if folder else 0
    # Half of them fall right on the file: while it is written, or while its end is noted.
    delay = rng.choice([0.0, rng.uniform(0.0, LONGEST_DELAY)])
    return Moment(folder, files, delay)


def wait_for(moment: Moment, files_in: Callable[[str], int], has_ended: Callable[[], bool]) -> bool:
    """Wait until a run has come to a moment; False if it ended before.

    Args:
        moment: what is waited for.
        files_in: counts the files of a folder of the run now.
        has_ended: whether the run has.
    """
    folder, files = (moment.folder, moment.files) if moment.folder else (OWNERS, 1)
    while files_in(folder) < files:
        if has_ended():
            return False
        time.sleep(_POLL_SECONDS)
    time.sleep(moment.delay)
    return not has_ended()


def count_files(folder: Path) -> int:
    """How many files are in a folder; 0 where there is none."""
    try:
        return sum(1 for _ in folder.iterdir())
    except FileNotFoundError:
        return 0
