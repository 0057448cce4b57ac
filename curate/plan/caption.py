"""The captioner's fit and the step that completes captions, as a plan has them."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

from curate.completion.policy import CAPTION_VERSION
from curate.config import CaptionConfig, CocaConfig, PipelineConfig
from curate.models.coca import CocaOptions
from curate.models.encoder import EncoderSpec
from curate.models.weights import with_absolute_paths
from curate.plan.beliefs import believed_step
from curate.plan.fits import is_fitted, take_fit
from curate.plan.options import caption_columns, decode_options, worker_encoder_options
from curate.plan.specs import remembered_coca
from curate.plan.step import CAPTION_FIT, NOISE_FIT, CaptionFitWork, FitStep, RowStep, Step, row_step
from curate.sources.base import Source
from curate.steps import CaptionWork, CocaWork
from curate.store import DoneIndex, RunStore, fingerprint

# Raise it when the same sample would give another captioner.
CAPTION_FIT_VERSION = 3


def plan_caption(
    config: PipelineConfig,
    caption: CaptionConfig,
    source: Source,
    spec: EncoderSpec,
    store: RunStore,
    before: tuple[RowStep, ...],
    beliefs: list[Any] | None,
    done: DoneIndex,
    fits_from: str | None,
) -> list[Step]:
    """The captioner's fit and the step that completes captions, which reads what the steps `before` say."""
    columns = caption_columns(caption)
    believed = believed_step(config) or NOISE_FIT
    work = CaptionFitWork(caption.decoder, caption.trusted_below, caption.accept_quantile, believed)
    if fits_from is not None:
        fit = take_fit(fits_from, CAPTION_FIT, work, caption.fit_rows, spec, store)
    else:
        fitted = {**dataclasses.asdict(work), "fit_rows": caption.fit_rows, "seed": config.seed}
        del fitted["believed"]
        wanted = fingerprint(
            {
                "fit": CAPTION_FIT,
                "version": CAPTION_FIT_VERSION,
                "fitted": fitted,
                "libraries": {name: version(name) for name in ("numpy", "torch")},
                "noise": beliefs,
                "from": list(before[-1].fingerprints.values()),
            }
        )
        fit = FitStep(CAPTION_FIT, work, caption.fit_rows, wanted, is_fitted(store, CAPTION_FIT, wanted), fitted)
    facts: dict[str, Any] = {
        "caption": {**fit.fitted, **dataclasses.asdict(columns)},
        "caption_fit": fit.fingerprint,
        "versions": {"caption": CAPTION_VERSION},
    }
    coca = None
    if caption.decoder == "coca":
        coca = _coca_work(config, caption.coca, source, spec.device, store)
        facts["coca"] = coca.facts()
    identity = {number: [step.fingerprints[number] for step in before] for number in before[0].fingerprints}
    how = CaptionWork(
        store.address, fit.name, NOISE_FIT, believed, columns, worker_encoder_options(config), spec, coca
    )
    return [fit, row_step("caption", how, identity, facts, done, fit.name)]


def _coca_work(config: PipelineConfig, coca: CocaConfig, source: Source, device: str, store: RunStore) -> CocaWork:
    spec = remembered_coca(coca, store, device)
    options = CocaOptions(**with_absolute_paths(coca.model_dump()))
    return CocaWork(source, decode_options(config, spec), options, spec)
