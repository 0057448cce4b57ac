"""A run directory in, a page out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from curate.bench.truth import read_judged
from curate.config import PipelineConfig
from curate.errors import CurateError
from curate.plan import source_options
from curate.report.findings import Findings, gather
from curate.report.page import About, render
from curate.report.pictures import data_uri, thumbnails
from curate.sources import open_source
from curate.state import TIMINGS_FILE, remembered_config
from curate.store import RunStore
from curate.summary import verdicts

PAIRS_PER_GALLERY = 60


def make_report(
    store: RunStore, pipeline: PipelineConfig | None = None, truth: Path | None = None, pairs: int = PAIRS_PER_GALLERY
) -> str:
    """The page of a run, HTML.

    Args:
        store: the run directory, of a run that finished.
        pipeline: the pipeline that made it; None: the one the run directory remembers.
        truth: `_truth/truth.parquet` of the run's input, where it was corrupted on purpose.
        pairs: most pairs to show for each reason.

    Raises:
        InputError: it is no finished run, or the truth is not that of its input.
    """
    findings = gather(store, pairs)
    known = pipeline or remembered_config(store)
    pictures, missing = _pictures(store, known, findings)
    facts = store.read_json("artifacts/noise/artifact.json") or {}
    about = About(
        name=store.url.rstrip("/").rpartition("/")[2],
        noise=facts.get("diagnostics", {}),
        verdicts=verdicts(store),
        pipeline=None if known is None else yaml.safe_dump(_as_written(known), sort_keys=False, allow_unicode=True),
        seconds_per_pair=store.read_json(TIMINGS_FILE) or {},
        no_pictures=missing,
    )
    return render(findings, pictures, about, None if truth is None else read_judged(store, truth))


def _pictures(
    store: RunStore, pipeline: PipelineConfig | None, findings: Findings
) -> tuple[dict[str, str], str | None]:
    """The page is worth having without its pictures: it then says why there are none."""
    if pipeline is None:
        return {}, "this run directory does not say where its input is; name the pipeline file with --pipeline."
    ids = [row["row_id"] for row in findings.rows]
    try:
        source = open_source(source_options(pipeline))
        found = thumbnails(store, source, ids, pipeline.input.max_image_pixels)
    except (CurateError, OSError) as error:
        return {}, f"the input cannot be read any more: {error}"
    return {row_id: data_uri(jpeg) for row_id, jpeg in found.items()}, None


def _as_written(pipeline: PipelineConfig) -> dict[str, Any]:
    """What the user wrote, without the defaults."""
    written: dict[str, Any] = pipeline.model_dump(mode="json", exclude_unset=True)
    return written
