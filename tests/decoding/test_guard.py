"""A decoder that hangs or dies takes its own row with it, and no other."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from curate.decoding.guard import MEMORY_BYTES, PIXEL_BYTES, DecoderOfThread, GuardedDecoder
from curate.errors import CurateError
from curate.stages.decode import DecodeOptions, Outcome, Pixels
from curate.status import Status

from .pictures import children_of, decoded_here, gone, png, shared_bytes, slow_jpeg

OPTIONS = DecodeOptions(32, max_pixels=1_000_000)
GOOD = png()


def run(decoder: GuardedDecoder, images: list[bytes | None]) -> tuple[list[Outcome], Pixels]:
    pixels = np.zeros((len(images), 32, 32, 3), np.uint8)
    return decoder([None if data is None else memoryview(data) for data in images], pixels), pixels


def here(images: list[bytes | None]) -> tuple[list[Outcome], Pixels]:
    pixels = np.zeros((len(images), 32, 32, 3), np.uint8)
    return decoded_here(images, OPTIONS, pixels), pixels


@pytest.fixture
def decoder() -> Iterator[GuardedDecoder]:
    """With a process at work."""
    with GuardedDecoder(OPTIONS) as made:
        run(made, [GOOD])
        yield made


def child() -> int:
    [process] = children_of(os.getpid())
    return process


def test_outcomes_and_pixels_are_those_of_decoding_here(decoder: GuardedDecoder) -> None:
    images = [GOOD, None, b"", b"<html>", png(1001, 1000), png(7, 300), GOOD[:50], slow_jpeg(3)]
    outcomes, pixels = run(decoder, images)
    expected, expected_pixels = here(images)
    assert outcomes == expected
    assert (pixels == expected_pixels).all()
    assert {outcome.status for outcome in outcomes} == {
        Status.OK,
        Status.MISSING_IMAGE,
        Status.CORRUPT_IMAGE,
        Status.IMAGE_TOO_LARGE,
    }


def test_one_process_decodes_batch_after_batch_of_any_size(decoder: GuardedDecoder) -> None:
    first = child()
    for images in ([GOOD] * 3, [GOOD, GOOD + bytes(9 << 20)], [], [GOOD]):
        outcomes, pixels = run(decoder, images)
        assert outcomes == here(images)[0]
        assert (pixels == here(images)[1]).all()
    assert child() == first


def test_an_image_that_takes_too_long_is_marked_and_its_neighbours_are_exact() -> None:
    images = [GOOD, slow_jpeg(400), png(30, 90), GOOD]
    with GuardedDecoder(OPTIONS, seconds=0.3) as decoder:
        outcomes, pixels = run(decoder, images)
    expected, expected_pixels = here([GOOD, None, png(30, 90), GOOD])
    assert outcomes[1].status is Status.DECODE_TIMEOUT
    assert "input.max_decode_seconds = 0.3" in str(outcomes[1].error)
    assert [outcomes[0], *outcomes[2:]] == [expected[0], *expected[2:]]
    assert (pixels == expected_pixels).all()


class Killer(threading.Thread):
    """Sends a signal to so many decoder processes in turn, each when it has begun with a large batch."""

    def __init__(self, number: signal.Signals, times: int) -> None:
        super().__init__(daemon=True)
        self._number, self._times = number, times
        self.killed = set[int]()

    def run(self) -> None:
        while len(self.killed) < self._times:
            for process in children_of(os.getpid()) - self.killed:
                if shared_bytes(process) > len(SLOW):
                    os.kill(process, self._number)
                    self.killed.add(process)
            time.sleep(0.01)


SLOW = slow_jpeg(250)


def test_a_row_whose_process_dies_once_is_tried_again() -> None:
    images = [SLOW, GOOD, png(30, 90)]
    killer = Killer(signal.SIGKILL, times=1)
    with GuardedDecoder(OPTIONS) as decoder:
        killer.start()
        outcomes, pixels = run(decoder, images)
    assert len(killer.killed) == 1
    assert (outcomes, pixels.tobytes()) == (here(images)[0], here(images)[1].tobytes())


def test_a_row_whose_process_dies_each_time_is_marked_and_no_other() -> None:
    killer = Killer(signal.SIGSEGV, times=2)
    with GuardedDecoder(OPTIONS) as decoder:
        killer.start()
        outcomes, pixels = run(decoder, [SLOW, GOOD, png(30, 90)])
    expected, expected_pixels = here([None, GOOD, png(30, 90)])
    assert outcomes[0] == Outcome(
        Status.DECODER_CRASHED, "decoding it ended the decoder's process, tried twice: signal SIGSEGV"
    )
    assert outcomes[1:] == expected[1:]
    assert (pixels == expected_pixels).all()


def test_a_process_that_died_between_batches_costs_nothing(decoder: GuardedDecoder) -> None:
    os.kill(child(), signal.SIGKILL)
    assert run(decoder, [GOOD, GOOD])[0] == here([GOOD, GOOD])[0]


def test_a_process_that_does_nothing_is_given_up() -> None:
    with GuardedDecoder(OPTIONS, seconds=0.1) as decoder:
        run(decoder, [GOOD])
        stopped = child()
        os.kill(stopped, signal.SIGSTOP)
        started = time.monotonic()
        assert run(decoder, [GOOD])[0] == here([GOOD])[0]
        assert time.monotonic() - started >= 1
        assert gone(stopped)


def test_interrupting_the_run_does_not_interrupt_what_it_finishes(decoder: GuardedDecoder) -> None:
    process = child()
    os.kill(process, signal.SIGINT)
    os.kill(process, signal.SIGTERM)
    assert run(decoder, [GOOD])[0] == here([GOOD])[0]
    assert child() == process


def test_the_memory_of_a_decoder_is_limited(decoder: GuardedDecoder) -> None:
    limits = Path(f"/proc/{child()}/limits").read_text()
    found = re.search(r"Max address space +(\d+)", limits)
    assert found, limits
    allowed = MEMORY_BYTES + PIXEL_BYTES * OPTIONS.max_pixels
    assert allowed < int(found[1]) < allowed + (1 << 30)


def test_the_process_ends_with_the_decoder() -> None:
    with GuardedDecoder(OPTIONS) as decoder:
        run(decoder, [GOOD])
        process = child()
    assert gone(process)
    run(decoder, [GOOD])
    again = child()
    del decoder
    assert gone(again)


def test_every_thread_has_a_decoder_which_ends_with_it() -> None:
    decoder = pickle.loads(pickle.dumps(DecoderOfThread(OPTIONS, 60)))
    seen: list[int] = []

    def work() -> None:
        run(decoder, [GOOD])
        run(decoder, [GOOD])
        seen.append(child())

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(set(seen)) == 2
    assert all(gone(process) for process in seen)


ORPHAN = """
import numpy as np
from curate.decoding.guard import GuardedDecoder
from curate.stages.decode import DecodeOptions
from tests.decoding.pictures import png, slow_jpeg
decoder = GuardedDecoder(DecodeOptions(32))
decoder([memoryview(png())], np.zeros((1, 32, 32, 3), np.uint8))
print("at work", flush=True)
decoder([memoryview(slow_jpeg(1000))], np.zeros((1, 32, 32, 3), np.uint8))
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_no_process_outlives_a_run_that_is_killed(stopped: bool) -> None:
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"at work\n"
        [process] = children_of(parent.pid)
        if stopped:
            os.kill(process, signal.SIGSTOP)
        parent.kill()
    assert gone(process, within=5)


def test_a_process_that_cannot_start_fails_the_part_and_marks_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CurateError, match=r"ended while it started \(exit code 1\)"):
        run(GuardedDecoder(OPTIONS), [GOOD])


def test_modules_of_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    with GuardedDecoder(OPTIONS) as decoder:
        assert run(decoder, [GOOD])[0] == here([GOOD])[0]


def test_a_decoder_process_loads_little() -> None:
    heavy = "{'torch', 'pyarrow', 'ray', 'pydantic'}"
    code = f"import curate.decoding.child, sys; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).parent.parent.parent
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root) == b"[]\n"


def test_no_limit_of_pixels_is_too_large_for_the_limit_of_memory() -> None:
    with GuardedDecoder(DecodeOptions(32, max_pixels=10**18)) as decoder:
        assert run(decoder, [GOOD])[0] == here([GOOD])[0]


def test_a_memory_limit_that_is_there_already_is_no_obstacle() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        + ORPHAN.partition("print")[0]
        + "decoder.close()"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
