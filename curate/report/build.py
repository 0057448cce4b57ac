"""A run directory in, a page out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from curate.bench.truth import read_judged
from curate.config import PipelineConfig
from curate.errors import CurateError
from curate.noise.model import stored_posterior
from curate.plan import NOISE_FIT, source_options
from curate.report.findings import Findings, Sample, gather
from curate.report.page import About, StepTime, render
from curate.report.pictures import data_uri, thumbnails
from curate.report.splits import Split, score_split, signal_splits
from curate.rounds import believed_artifact, rounds_of
from curate.sources import open_source
from curate.state import TIMINGS_FILE, remembered_config
from curate.steps import read_artifact, read_artifact_facts
from curate.store import RunStore
from curate.summary import annotation_files, verdicts

PAIRS_PER_GALLERY = 60
EXAMPLES = 24


def make_report(
    store: RunStore,
    pipeline: PipelineConfig | None = None,
    truth: Path | None = None,
    pairs: int = PAIRS_PER_GALLERY,
    examples: int = EXAMPLES,
) -> str:
    """The page of a run, HTML.

    Args:
        store: the run directory, of a run that finished.
        pipeline: the pipeline that made it; None: the one the run directory remembers.
        truth: `_truth/truth.parquet` of the run's input, where it was corrupted on purpose.
        pairs: most pairs to show for each question.
        examples: most pairs to show of each label and status.

    Raises:
        InputError: it is no finished run, or the truth is not that of its input.
        CurateError: a file of the run is broken.
    """
    findings = gather(store, pairs, examples)
    known = pipeline or remembered_config(store)
    pictures, missing = _pictures(store, known, findings)
    noise = (read_artifact_facts(store, NOISE_FIT) or {}).get("diagnostics", {})
    rounds = rounds_of(store, annotation_files(store))
    mixture = _believed_mixture(noise, rounds)
    about = About(
        name=store.url.rstrip("/").rpartition("/")[2],
        noise=noise,
        mixture=mixture,
        rounds=rounds,
        verdicts=verdicts(store),
        vocabulary=(read_artifact_facts(store, "concepts") or {}).get("diagnostics", {}).get("names"),
        pipeline=None if known is None else yaml.safe_dump(_as_written(known), sort_keys=False, allow_unicode=True),
        times=_times(store, findings.pairs),
        no_pictures=missing,
    )
    splits = _splits(store, findings.sample, mixture, rounds)
    return render(findings, splits, pictures, about, None if truth is None else read_judged(store, truth))


def _believed_mixture(noise: dict[str, Any], rounds: Mapping[str, Any]) -> dict[str, Any]:
    """Diagnostics of the fit that noise_prob comes from; its strata are those of the same fit."""
    made = rounds.get("rounds", ())
    if not made:
        return noise
    strata = {"strata": made[-1]["strata"]} if "strata" in made[-1] else {}
    return {"score": rounds.get("score", noise.get("score", "")), **made[-1]["mixture"], **strata}


def _splits(store: RunStore, sample: Sample, mixture: Mapping[str, Any], rounds: Mapping[str, Any]) -> list[Split]:
    """The score first, where all pairs share one posterior, then every signal."""
    signals = signal_splits(sample, mixture.get("separable") != "no" or _has_own_strata(mixture))
    if not mixture or _has_own_strata(mixture) or not np.isfinite(sample.noise_prob).any():
        return signals
    fit, prefix = believed_artifact(rounds)
    posterior = stored_posterior(read_artifact(store, fit), prefix)
    used = (store.read_facts(annotation_files(store)[0]) or {}).get("noise", {})
    labels = [(f"{used[name]:g}", used[name]) for name in ("clean_below", "noisy_above") if name in used]
    return [score_split(sample, posterior, mixture, labels), *signals]


def _has_own_strata(mixture: Mapping[str, Any]) -> bool:
    return any(each["stratum"]["fit"] == "own" for each in mixture.get("strata", {}).values())


def _pictures(
    store: RunStore, pipeline: PipelineConfig | None, findings: Findings
) -> tuple[dict[str, str], str | None]:
    """The page is worth having without its pictures: it then says why there are none."""
    if pipeline is None:
        return {}, "this run directory does not say where its input is; name the pipeline file with --pipeline."
    try:
        source = open_source(source_options(pipeline), store.address)
        found = thumbnails(store, source, findings.row_ids, pipeline.input.max_image_pixels)
    except (CurateError, OSError) as error:
        return {}, f"the input cannot be read any more: {error}"
    return {row_id: data_uri(jpeg) for row_id, jpeg in found.items()}, None


def _times(store: RunStore, pairs: int) -> list[StepTime]:
    """As last measured, in the order of their names; a fit works on its sample only."""
    measured: dict[str, float] = store.read_object(TIMINGS_FILE) or {}
    times = []
    for name, seconds in measured.items():
        fit = name.removesuffix(" fit")
        fitted = {} if fit == name else (read_artifact_facts(store, fit) or {}).get("fitted", {})
        times.append(StepTime(name, min(pairs, fitted.get("fit_rows", pairs)), seconds))
    return times


def _as_written(pipeline: PipelineConfig) -> dict[str, Any]:
    """What the user wrote, without the defaults."""
    written: dict[str, Any] = pipeline.model_dump(mode="json", exclude_unset=True)
    return written
