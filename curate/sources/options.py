"""What a source needs to know: built from the `input:` section of pipeline.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from curate.limits import MAX_CAPTION_CHARACTERS, MAX_IMAGE_BYTES, MAX_MEMBERS

Format = Literal["webdataset", "parquet", "jsonl", "csv", "urls"]


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a table hold what. None: found by their usual names (see `curate.sources.table`)."""

    image: str | None = None
    caption: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class SourceLimits:
    """Most of what is read.

    Attributes:
        image_bytes: larger image files are not read.
        caption_characters: longer captions are not used.
        members: of one tar.
    """

    image_bytes: int = MAX_IMAGE_BYTES
    caption_characters: int = MAX_CAPTION_CHARACTERS
    members: int = MAX_MEMBERS


@dataclass(frozen=True)
class SourceOptions:
    """One input.

    Attributes:
        format: how the files are written; urls: tables whose image column holds web addresses.
        path: patterns: local path, folder, glob (with `**`), braces `{000..012}` or `{a,b}`, fsspec URL.
        part_rows: at most so many pairs in a part (at least 1).
        columns: for tables.
        caption_json_key: for webdataset: the caption is this member of the sample's .json, and nothing else.
            None: the .txt, without one the .json's "caption".
        image_root: for tables: where relative image paths start. None: the folder of the table file.
        keep: fields that are carried along as text: top-level members of the .json, or columns of a table.
        limits: most of what is read.
    """

    format: Format
    path: tuple[str, ...]
    part_rows: int = 1000
    columns: ColumnNames = field(default_factory=ColumnNames)
    caption_json_key: str | None = None
    image_root: str | None = None
    keep: tuple[str, ...] = ()
    limits: SourceLimits = field(default_factory=SourceLimits)
