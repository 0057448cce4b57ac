"""What the download step does to one part of a table: fetch what is not there yet, leave one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pyarrow as pa

from curate.download.fetch import Fetched, FetchOptions, fetch
from curate.schema import DOWNLOAD_SCHEMA
from curate.sources.rows import printable
from curate.sources.urls import TABLE, UrlsSource
from curate.steps import PartTask, telling
from curate.store import CONTENT, FAILED, RunStore, fingerprint, part_file

_ROWS_AT_ONCE = 1000


@dataclass
class DownloadWork:
    """Addresses -> the bytes that lie there, as they came.

    What an earlier run fetched for the same part stays; only addresses without a picture are fetched. One that fails
    again keeps its first error, so that a run in which nothing new came changes nothing.

    Memory: all pictures of one part, about three times.

    Attributes:
        source: the tables.
        run: the run directory.
        options: of every fetch.
        threads: addresses that are fetched at once by each worker.
    """

    source: UrlsSource
    run: str
    options: FetchOptions
    threads: int
    device: str = "cpu"
    decodes: ClassVar[bool] = False

    def prepare(self) -> None:
        """Nothing to load."""

    def head(self, task: PartTask) -> pa.Table:
        """`row_id` and `url` of every row; null where the row has no address."""
        tables = [
            pa.table({"row_id": table.column("row_id"), "url": _texts(table.column("image"))})
            for table in self.source.addresses(task.shard, task.part, _ROWS_AT_ONCE)
        ]
        return pa.concat_tables(tables).combine_chunks()

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The columns of DOWNLOAD_SCHEMA. Here and not in `head`: pictures do not travel between workers."""
        urls = table.column("url").to_pylist()
        known = self._known(task)
        wanted = [url for url in dict.fromkeys(urls) if url is not None and _image_of(known, url) is None]
        with ThreadPoolExecutor(self.threads) as pool:
            found = dict(zip(wanted, pool.map(partial(fetch, options=self.options), wanted), strict=True))
        news = {url: each for url, each in found.items() if each.image is not None or url not in known}
        outcomes = {**known, **news}
        rows = [Fetched() if url is None else outcomes[url] for url in urls]
        columns = {
            "row_id": table.column("row_id"),
            "url": table.column("url"),
            "image": pa.array([row.image for row in rows], pa.large_binary()),
            "http_status": pa.array([row.http_status for row in rows], pa.int16()),
            "error": pa.array([row.error for row in rows], pa.string()),
        }
        facts = {
            TABLE: task.part.checksum,
            CONTENT: _content(rows),
            FAILED: sum(row.error is not None for row in rows),
        }
        return telling(pa.Table.from_pydict(columns, schema=DOWNLOAD_SCHEMA), facts)

    def _known(self, task: PartTask) -> dict[str, Fetched]:
        """What the part's file holds already, by address."""
        store, name = RunStore(self.run), part_file(task.step, task.number)
        if store.read_facts(name) is None:
            return {}
        rows = store.read_table(name, ["url", "image", "http_status", "error"]).to_pylist()
        return {row["url"]: Fetched(row["image"], row["http_status"], row["error"]) for row in rows if row["url"]}


def _texts(addresses: pa.ChunkedArray) -> pa.Array:
    """Addresses as text; what is not UTF-8 is escaped."""
    decoded = [
        None if address is None else printable(address.decode("utf-8", "surrogateescape"))
        for address in addresses.to_pylist()
    ]
    return pa.array(decoded, pa.string())


def _image_of(known: dict[str, Fetched], url: str) -> bytes | None:
    return known[url].image if url in known else None


def _content(rows: Iterable[Fetched]) -> str:
    """Digest of everything that later steps see of the downloads."""
    seen = [(None if row.image is None else hashlib.sha256(row.image).hexdigest(), row.error) for row in rows]
    return fingerprint(seen)
