"""The input formats. `open_source` gives the one a config asks for."""

from __future__ import annotations

from dataclasses import replace

from curate.errors import InputError
from curate.sources.base import Source
from curate.sources.options import SourceOptions
from curate.sources.parquet import ParquetSource
from curate.sources.stores import open_store
from curate.sources.text import CommaSeparated, JsonLines, TextSource
from curate.sources.urls import UrlsSource
from curate.sources.webdataset import WebDatasetSource


def open_source(options: SourceOptions, run: str | None = None) -> Source:
    """The source for an input; nothing is read yet.

    Args:
        options: of the input.
        run: the run directory; `format: urls` reads pictures there.

    Raises:
        InputError: an unknown format, a part size below 1, or an image_root in a store nobody knows.
    """
    if options.part_rows < 1:
        raise InputError(f"input.part_rows is {options.part_rows}, but a part has at least 1 row.")
    options = _with_absolute_image_root(options)
    if options.format == "webdataset":
        return WebDatasetSource(options)
    if options.format == "parquet":
        return ParquetSource(options)
    if options.format == "jsonl":
        return TextSource(options, JsonLines(options.columns, options.keep))
    if options.format == "csv":
        return TextSource(options, CommaSeparated(options.columns, options.keep))
    if options.format == "urls":
        return UrlsSource(options, run)
    raise InputError(f"input.format is {options.format!r}. It is one of webdataset, parquet, jsonl, csv, urls.")


def _with_absolute_image_root(options: SourceOptions) -> SourceOptions:
    """Workers may run in another folder than the one relative paths are meant from."""
    if options.image_root is None:
        return options
    store, path = open_store(options.image_root)
    return replace(options, image_root=store.uri(path))
