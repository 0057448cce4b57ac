"""Columns and status codes: the contract between sources, stages and whoever reads the annotations."""

from __future__ import annotations

from enum import Enum

import pyarrow as pa

SCHEMA_VERSION = 1


class Status(str, Enum):
    """Why a pair can or cannot be used. A row is never dropped: it keeps its place with one of these."""

    OK = "ok"
    MISSING_IMAGE = "missing_image"
    MISSING_CAPTION = "missing_caption"
    EMPTY_CAPTION = "empty_caption"
    CAPTION_NOT_UTF8 = "caption_not_utf8"
    CORRUPT_IMAGE = "corrupt_image"
    IMAGE_TOO_LARGE = "image_too_large"
    UNREADABLE_ROW = "unreadable_row"


STATUS_DESCRIPTIONS: dict[Status, str] = {
    Status.OK: "image and caption are present and readable",
    Status.MISSING_IMAGE: "there is a caption but no image",
    Status.MISSING_CAPTION: "there is an image but no caption",
    Status.EMPTY_CAPTION: "the caption is empty or only white space",
    Status.CAPTION_NOT_UTF8: "the caption is not valid UTF-8; its bytes are in caption_bytes",
    Status.CORRUPT_IMAGE: "the image bytes cannot be decoded",
    Status.IMAGE_TOO_LARGE: "the image has more pixels than input.max_image_pixels",
    Status.UNREADABLE_ROW: "the record itself cannot be parsed (broken JSON or CSV line)",
}

# What a source yields for every pair, before anything is decoded. `status` holds what the source alone can tell.
SOURCE_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("caption_bytes", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("duplicate_key", pa.bool_(), nullable=False),
        pa.field("image", pa.large_binary()),
    ]
)


def row_id(shard: str, row: int) -> str:
    """Identity of a pair: unique in a run, stable under reordering, cutting and adding of inputs."""
    return f"{shard}:{row}"
