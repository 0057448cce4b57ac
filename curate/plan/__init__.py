"""Config + manifest -> Plan: which steps run on which parts, what is done, what it needs.

One module for each kind of step; `make_plan` puts them together.
"""

from curate.plan.fits import scoring_identity
from curate.plan.make import Plan, make_plan, output_url
from curate.plan.options import (
    caption_columns,
    coca_options,
    concept_options,
    decode_options,
    encoder_options,
    finetune_options,
    given_vocabulary,
    noise_columns,
    noise_options,
    refine_options,
    source_options,
    worker_encoder_options,
)
from curate.plan.step import (
    CAPTION_FIT,
    CONCEPTS_FIT,
    DUPLICATES,
    EMBED,
    NOISE_FIT,
    REFINE_FIT,
    CaptionFitWork,
    ConceptsFitWork,
    DuplicatesStep,
    FitStep,
    FitWork,
    NoiseFitWork,
    RefineFitWork,
    RowStep,
    Step,
    TrainStep,
)

__all__ = [
    "CAPTION_FIT",
    "CONCEPTS_FIT",
    "DUPLICATES",
    "EMBED",
    "NOISE_FIT",
    "REFINE_FIT",
    "CaptionFitWork",
    "ConceptsFitWork",
    "DuplicatesStep",
    "FitStep",
    "FitWork",
    "NoiseFitWork",
    "Plan",
    "RefineFitWork",
    "RowStep",
    "Step",
    "TrainStep",
    "caption_columns",
    "coca_options",
    "concept_options",
    "decode_options",
    "encoder_options",
    "finetune_options",
    "given_vocabulary",
    "make_plan",
    "noise_columns",
    "noise_options",
    "output_url",
    "refine_options",
    "scoring_identity",
    "source_options",
    "worker_encoder_options",
]
