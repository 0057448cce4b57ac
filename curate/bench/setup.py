"""What a benchmark's options mean: the pipelines it runs, and the lists that were typed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from curate.bench.concepts import ConceptBench
from curate.config import CaptionConfig, ConceptsConfig, NoiseConfig, PipelineConfig, load_config, parse_config
from curate.corpora.exchange import Kind
from curate.errors import InputError
from curate.plan import (
    Plan,
    caption_columns,
    concept_options,
    decode_options,
    encoder_options,
    given_vocabulary,
    noise_columns,
    noise_options,
    refine_options,
)
from curate.stages.concepts import ConceptColumns
from curate.stages.decode import DecodeOptions

if TYPE_CHECKING:
    from curate.bench.captions import CaptionBench
    from curate.bench.curated import Curation
    from curate.bench.trials import ModelName, TrainedModel
    from curate.completion.fit import CompletionOptions

_OFFLINE = """\
input: {path: "nothing"}
output: nowhere
encoder: {model: offline}
stages: [embed, noise]
"""


def bench_config(
    pipeline: Path | None, inputs: Sequence[str], work: Path, keep: Sequence[str], overrides: Sequence[str]
) -> tuple[PipelineConfig, PipelineConfig]:
    """The pipeline whose noise options are measured, and the one that only embeds the inputs into `work`.

    Raises:
        InputError: the pipeline or an override is wrong.
    """
    base = parse_config(_OFFLINE, "--set", overrides) if pipeline is None else load_config(pipeline, overrides)
    given = base.input.model_copy(update={"path": list(inputs), "keep": list(keep)})
    config = base.model_copy(update={"input": given, "output": str(work)})
    noise = config.stages.noise or NoiseConfig.model_validate({})
    measured = config.model_copy(update={"stages": config.stages.model_copy(update={"noise": noise})})
    nothing_else = {"noise": None, "refine": None, "concepts": None, "caption": None}
    embed_only = config.model_copy(update={"stages": config.stages.model_copy(update=nothing_else)})
    return measured, embed_only


def concept_bench(config: PipelineConfig, plan: Plan) -> ConceptBench:
    """What `curate bench concepts` fits with: the pipeline's options, its text tower and the tagger of nouns.

    Raises:
        InputError: the vocabulary cannot be read.
    """
    from curate.concepts.words import english_tokenizer
    from curate.models.encoder import load_encoder

    concepts = config.stages.concepts or ConceptsConfig.model_validate({})
    return ConceptBench(
        noise=None if config.stages.noise is None else noise_options(config.stages.noise),
        concepts=concept_options(concepts, config.stages.noise),
        vocabulary=given_vocabulary(concepts),
        tokenizer=english_tokenizer(),
        encode=load_encoder(encoder_options(config), plan.spec).encode_texts,
    )


def caption_bench(config: PipelineConfig, plan: Plan) -> CaptionBench:
    """What `curate bench captions` fits with: the pipeline's options, its text tower and the tagger of nouns.

    Raises:
        InputError: the vocabulary cannot be read, the metrics are not installed, or the decoder looks at pictures.
    """
    from curate.bench.caption_metrics import check_metrics
    from curate.bench.captions import CaptionBench

    check_metrics()
    of_concepts = concept_bench(config, plan)
    concepts = config.stages.concepts or ConceptsConfig.model_validate({})
    caption = config.stages.caption or CaptionConfig.model_validate({})
    return CaptionBench(
        noise=of_concepts.noise or noise_options(NoiseConfig.model_validate({})),
        concepts=of_concepts.concepts,
        completion=_completion_options(caption),
        policy=caption_columns(caption).policy,
        tokenizer=of_concepts.tokenizer,
        encode=of_concepts.encode,
        top_k=concepts.top_k,
        scorer=concepts.scorer,
        vocabulary=of_concepts.vocabulary,
    )


def downstream_curation(config: PipelineConfig, plan: Plan) -> Curation:
    """What `curate bench downstream` annotates with: the pipeline's options and its text tower.

    Raises:
        InputError: the vocabulary cannot be read, or the decoder looks at pictures.
    """
    from curate.bench.curated import Curation

    of_concepts = concept_bench(config, plan)
    noise = config.stages.noise or NoiseConfig.model_validate({})
    concepts = config.stages.concepts or ConceptsConfig.model_validate({})
    caption = config.stages.caption or CaptionConfig.model_validate({})
    return Curation(
        noise=noise_options(noise),
        refine=None if config.stages.refine is None else refine_options(noise, config.stages.refine),
        concepts=of_concepts.concepts,
        completion=_completion_options(caption),
        noise_columns=noise_columns(noise),
        concept_columns=ConceptColumns(concepts.top_k, concepts.scorer),
        caption_columns=caption_columns(caption),
        vocabulary=of_concepts.vocabulary,
        tokenizer=of_concepts.tokenizer,
        encode=of_concepts.encode,
    )


def downstream_model(name: ModelName, config: PipelineConfig, plan: Plan) -> TrainedModel:
    """What `curate bench downstream` trains: heads, or whole towers, for which the plan's pictures are read.

    Towers are the pipeline's, with their weights, if it names open_clip's; else a small model with random weights.
    They are trained on the device and in the precision that the plan chose for the encoder.

    Raises:
        InputError: the encoder is no open_clip model of two towers, or the pictures take too much memory.
        CurateError: this machine cannot honour the plan, or a shard has changed since it was embedded.
    """
    from curate.bench.trials import HeadsModel

    if name == "heads":
        from curate.bench.heads import HeadOptions

        return HeadsModel(HeadOptions())
    from curate.bench.pictures import corpus_pixels
    from curate.bench.towers import FINE_TUNING, FROM_SCRATCH, SMALL_MODEL, SMALL_SIDE, TowersModel, untrained
    from curate.models.numerics import check_worker
    from curate.models.towers import build_trainable_towers
    from curate.models.weights import ENCODER, OFFLINE, locate

    spec, given = plan.spec, config.encoder
    check_worker(spec, ENCODER)
    if given.model == OFFLINE:
        decode = DecodeOptions(SMALL_SIDE, max_pixels=config.input.max_image_pixels)
        described = {"model": SMALL_MODEL.model, "pretrained": SMALL_MODEL.pretrained}
        return TowersModel(
            untrained(spec.device), corpus_pixels(plan, decode), FROM_SCRATCH, spec.precision, described
        )
    files = locate(given.model, given.pretrained)
    start = partial(build_trainable_towers, files, spec.device)
    start()
    described = {"model": spec.model, "pretrained": spec.pretrained}
    pixels = corpus_pixels(plan, decode_options(config, spec))
    return TowersModel(lambda _: start(), pixels, FINE_TUNING, spec.precision, described)


def _completion_options(caption: CaptionConfig) -> CompletionOptions:
    """Of the fit; InputError if the decoder looks at pictures."""
    from curate.completion.fit import CompletionOptions

    if caption.decoder == "coca":
        raise InputError(
            "stages.caption.decoder: coca looks at pictures, and this bench keeps embeddings only. Measure another "
            "decoder: --set stages.caption.decoder=default"
        )
    return CompletionOptions(
        decoder=caption.decoder, trusted_below=caption.trusted_below, accept_quantile=caption.accept_quantile
    )


def parse_kinds(typed: str) -> list[Kind]:
    """Kinds of mismatch from "random,nearest".

    Raises:
        InputError: there is no such kind.
    """
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    names = parse_names(typed)
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise InputError(f"--kind {', '.join(unknown)}: choose among {', '.join(kinds)}")
    return [kinds[name] for name in names]


def parse_names(typed: str) -> list[str]:
    """Names from "ours,lemon"."""
    return [name.strip() for name in typed.split(",")]


def parse_rates(typed: str) -> list[float]:
    """Shares from "0,.2,.4".

    Raises:
        InputError: one is not a number.
    """
    try:
        return [float(rate) for rate in typed.split(",")]
    except ValueError:
        raise InputError(f"--rate {typed}: give numbers separated by commas, such as 0,.2,.4") from None
