"""Status codes of pairs. Apart from the Arrow schemas: whoever only decodes pictures needs no Arrow."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """Why a pair can or cannot be used. A row is never dropped: it keeps its place with one of these."""

    OK = "ok"
    MISSING_IMAGE = "missing_image"
    MISSING_CAPTION = "missing_caption"
    EMPTY_CAPTION = "empty_caption"
    CAPTION_NOT_UTF8 = "caption_not_utf8"
    CAPTION_TOO_LONG = "caption_too_long"
    CORRUPT_IMAGE = "corrupt_image"
    IMAGE_TOO_LARGE = "image_too_large"
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASHED = "decoder_crashed"
    UNREADABLE_ROW = "unreadable_row"
    DOWNLOAD_FAILED = "download_failed"


STATUS_DESCRIPTIONS: dict[Status, str] = {
    Status.OK: "image and caption are present and readable",
    Status.MISSING_IMAGE: "there is a caption but no image",
    Status.MISSING_CAPTION: "there is an image but no caption",
    Status.EMPTY_CAPTION: "the caption is empty or only white space",
    Status.CAPTION_NOT_UTF8: "the caption is not valid UTF-8; its bytes are in caption_bytes",
    Status.CAPTION_TOO_LONG: "the caption has more characters than input.max_caption_characters; it is kept whole",
    Status.CORRUPT_IMAGE: "the image bytes cannot be decoded",
    Status.IMAGE_TOO_LARGE: "the image has more pixels than input.max_image_pixels, more bytes than "
    "input.max_image_bytes, or needs too much memory to decode",
    Status.DECODE_TIMEOUT: "decoding the image took longer than input.max_decode_seconds, twice",
    Status.DECODER_CRASHED: "decoding the image ended the process that did it, twice",
    Status.UNREADABLE_ROW: "the record itself cannot be parsed (broken JSON or CSV line)",
    Status.DOWNLOAD_FAILED: "the image could not be downloaded from its address; `error` says why",
}

CAPTION_PROBLEMS = frozenset(
    {Status.MISSING_CAPTION, Status.EMPTY_CAPTION, Status.CAPTION_NOT_UTF8, Status.CAPTION_TOO_LONG}
)
HAS_PICTURE = frozenset({Status.OK, *CAPTION_PROBLEMS})
"""Pairs with one of these statuses have a picture that was decoded."""
