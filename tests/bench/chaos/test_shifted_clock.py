"""The clock jumps when it is told to, for all who ask Python for the time."""

import json
import subprocess
import sys

import pytest

DAY = 24 * 3600
ASKED = """
import json, os, signal, sys, time
from curate.bench.chaos.shifted_clock import shift_at_signal
shift_at_signal(int(sys.argv[1]))
from datetime import datetime, timezone
def clocks():
    return [time.time(), time.time_ns() / 1e9, datetime.now(timezone.utc).timestamp(), datetime.now().timestamp()]
before, monotonic = clocks(), time.monotonic()
os.kill(os.getpid(), signal.SIGUSR1)
print(json.dumps([[b - a for a, b in zip(before, clocks())], time.monotonic() - monotonic]))
"""


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_every_clock_jumps_but_the_monotonic_one(seconds):
    told = subprocess.run([sys.executable, "-c", ASKED, str(seconds)], capture_output=True, text=True, check=True)
    jumps, monotonic = json.loads(told.stdout)
    assert jumps == pytest.approx([seconds] * 4, abs=30)
    assert 0 <= monotonic < 30
