"""The concepts fit and the concepts step, as a plan has them."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.metadata import version
from typing import Any

from curate.concepts.model import EXACT_NAMES
from curate.config import ConceptsConfig, PipelineConfig
from curate.models.encoder import EncoderSpec
from curate.plan.beliefs import believed_step
from curate.plan.fits import is_fitted, take_fit
from curate.plan.options import concept_options, given_vocabulary
from curate.plan.step import CONCEPTS_FIT, ConceptsFitWork, FitStep, RowStep, row_step
from curate.stages.concepts import ConceptColumns, Concepts
from curate.steps import ConceptsWork
from curate.store import DoneIndex, RunStore, fingerprint

# Raise it when the same sample would give another concept model.
CONCEPTS_FIT_VERSION = 2


def plan_concepts_fit(
    config: PipelineConfig,
    concepts: ConceptsConfig,
    spec: EncoderSpec,
    store: RunStore,
    embed: RowStep,
    beliefs: list[Any] | None,
) -> FitStep:
    """Fit on embeddings and, where there is a noise step, on its probabilities: not on labels and hints.

    Raises:
        InputError: the vocabulary cannot be read.
    """
    work = _concepts_work(config, concepts)
    vocabulary = work.vocabulary
    fitted = {
        **dataclasses.asdict(work.options),
        "templates": list(work.options.templates),
        "vocabulary": "corpus" if vocabulary is None else hashlib.sha256(vocabulary.to_csv()).hexdigest(),
        "names_given": 0 if vocabulary is None else len(vocabulary),
        "fit_rows": concepts.fit_rows,
        "seed": config.seed,
    }
    wanted = fingerprint(
        {
            "fit": CONCEPTS_FIT,
            "version": CONCEPTS_FIT_VERSION,
            "fitted": fitted,
            "joint_space": spec.joint_space,
            "libraries": {name: version(name) for name in ("hanta", "numpy")},
            "noise": beliefs,
            "from": list(embed.fingerprints.values()),
        }
    )
    return FitStep(CONCEPTS_FIT, work, concepts.fit_rows, wanted, is_fitted(store, CONCEPTS_FIT, wanted), fitted)


def _concepts_work(config: PipelineConfig, concepts: ConceptsConfig) -> ConceptsFitWork:
    options = concept_options(concepts, config.stages.noise)
    return ConceptsFitWork(options, given_vocabulary(concepts), believed_step(config))


def take_concepts_fit(
    run: str, config: PipelineConfig, concepts: ConceptsConfig, spec: EncoderSpec, store: RunStore
) -> FitStep:
    """The concepts fit of another run, see `take_fit`."""
    return take_fit(run, CONCEPTS_FIT, _concepts_work(config, concepts), concepts.fit_rows, spec, store)


def plan_concepts(concepts: ConceptsConfig, store: RunStore, embed: RowStep, fit: FitStep, done: DoneIndex) -> RowStep:
    """The step that finds the concepts of every picture."""
    how = ConceptColumns(concepts.top_k, concepts.scorer)
    # Names that are mined all stand in trusted captions: they are never sought through an index.
    searched_by = {"faiss-cpu": version("faiss-cpu")} if fit.fitted.get("names_given", 0) > EXACT_NAMES else {}
    facts = {
        "concepts": {**fit.fitted, **dataclasses.asdict(how), **searched_by},
        "concepts_fit": fit.fingerprint,
        "versions": {"concepts": Concepts.version},
    }
    work = ConceptsWork(store.address, fit.name, how)
    return row_step("concepts", work, dict(embed.fingerprints), facts, done, fit.name)
