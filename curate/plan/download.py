"""The download step of a plan."""

from __future__ import annotations

import dataclasses

from curate.config import DownloadConfig
from curate.download.fetch import FetchOptions
from curate.download.work import DownloadWork
from curate.manifest import Manifest
from curate.plan.step import RowStep, row_step
from curate.sources.urls import DOWNLOAD, UrlsSource
from curate.store import CONTENT, FAILED, DoneIndex, RunStore

# Raise it when files of downloads would differ for the same answers; pictures that are there are not fetched again.
DOWNLOAD_VERSION = 1


def plan_download(
    download: DownloadConfig,
    source: UrlsSource,
    store: RunStore,
    manifest: Manifest,
    done: DoneIndex,
    retry_failed: bool,
) -> RowStep:
    """The step that fetches: every other hangs on what it fetched. How it fetches is no part of its fingerprint.

    `retry_failed`: parts with rows that could not be fetched are to do, too.
    """
    work = DownloadWork(source, store.address, fetch_options(download), download.threads)
    identity = {number: [part.shard, part.first_row, part.checksum] for number, part in manifest.parts.items()}
    step = row_step(DOWNLOAD, work, identity, {"versions": {DOWNLOAD: DOWNLOAD_VERSION}}, done)
    if not retry_failed:
        return step
    facts = {number: done.facts(DOWNLOAD, number) for number in step.done}
    whole = frozenset(number for number, each in facts.items() if each is not None and not each[FAILED])
    return dataclasses.replace(step, done=whole)


def downloaded(manifest: Manifest, download: RowStep, done: DoneIndex) -> Manifest:
    """The manifest with what was downloaded for each part; None where that is still to do."""
    contents: dict[int, str | None] = {}
    for number, wanted in download.fingerprints.items():
        facts = done.facts(DOWNLOAD, number)
        contents[number] = facts[CONTENT] if facts is not None and facts["fingerprint"] == wanted else None
    return dataclasses.replace(manifest, downloaded=contents)


def fetch_options(download: DownloadConfig) -> FetchOptions:
    """How addresses are fetched, as the library takes it."""
    return FetchOptions(
        timeout=download.timeout,
        retries=download.retries,
        max_bytes=download.max_bytes,
        max_redirects=download.max_redirects,
        allow_private=download.allow_private,
        user_agent=download.user_agent,
        refused_directives=tuple(directive.lower() for directive in download.refused_directives),
    )
