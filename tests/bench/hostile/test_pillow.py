"""The status that a changed picture must have, as Pillow alone says it."""

import pytest

from curate.bench.hostile.examine import promised_statuses, wrong_with_row
from curate.bench.hostile.inputs import MAYBE_DECODABLE, HostilePair
from curate.bench.hostile.pictures import four_quarters, png_of, saved
from curate.bench.hostile.pillow import status_by_pillow
from curate.schema import Status

GOOD = saved(four_quarters(), "PNG")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GOOD, Status.OK),
        (GOOD[:60], Status.CORRUPT_IMAGE),
        (b"<svg/>", Status.CORRUPT_IMAGE),
        (saved(four_quarters(), "PPM"), Status.CORRUPT_IMAGE),
        (png_of(60_000, 60_000, b""), Status.IMAGE_TOO_LARGE),
    ],
)
def test_it_is_what_opening_and_loading_comes_to(data, status):
    assert status_by_pillow(data, 200_000_000) is status


def test_more_pixels_than_allowed_are_too_large_without_being_loaded():
    assert status_by_pillow(GOOD, 6_399) is Status.IMAGE_TOO_LARGE
    assert status_by_pillow(GOOD, 6_400) is Status.OK


def test_a_picture_that_still_is_one_must_not_be_marked():
    pair = HostilePair((("png", GOOD), ("txt", b"x")), MAYBE_DECODABLE, "x")
    assert promised_statuses(pair) == {Status.OK}
    marked = {"status": "corrupt_image", "error": "it is broken", "caption": "x", "caption_bytes": None}
    assert wrong_with_row(pair, marked) == "status corrupt_image (it is broken), promised ok"
