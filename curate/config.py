"""The pipeline file: its models, every default, and errors that name the file, the line and the key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from yaml.constructor import ConstructorError

from curate.completion.policy import DecoderName
from curate.concepts.fit import TEMPLATES
from curate.concepts.fuse import Scorer
from curate.errors import InputError
from curate.limits import (
    MAX_CAPTION_CHARACTERS,
    MAX_DECODE_SECONDS,
    MAX_IMAGE_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_MEMBERS,
)
from curate.models.weights import OFFLINE
from curate.noise.heads import LossName
from curate.noise.signals import SignalName
from curate.schema import CONDITION_SCHEMA
from curate.where import parse_where

YamlPath = tuple[str | int, ...]
_STRATA: YamlPath = ("stages", "noise", "mixture", "by")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnNames(_Model):
    """Which columns of a table hold what; null looks for the usual names."""

    image: str | None = Field(None, description="Column with image bytes, or with the image's path or URL.")
    caption: str | None = Field(None, description="Column with the caption.")
    key: str | None = Field(None, description="Column with the pair's key; without one the row number is the key.")


class DownloadConfig(_Model):
    """How `format: urls` fetches pictures. What is fetched already stays, whatever is changed here."""

    threads: int = Field(
        32, ge=1, le=1024, description="Addresses that each worker fetches at once; workers work on whole parts."
    )
    timeout: float = Field(
        10.0, gt=0, le=3600, description="Seconds for one address, redirects included, without the look-up of names."
    )
    retries: int = Field(
        2, ge=0, le=20, description="Further tries after 429, 5xx and broken connections, with growing pauses."
    )
    max_bytes: int = Field(20_000_000, ge=1, le=1 << 30, description="Larger pictures are not fetched.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects that are followed, each checked anew.")
    allow_private: bool = Field(
        False, description="Visit private, loopback, link-local and reserved addresses too; for servers of your own."
    )
    user_agent: str = Field(
        "curate (image-text data curation)",
        description="Sent as User-Agent; name somebody who can be asked. X-Robots-Tag may speak to its first word.",
    )
    refused_directives: list[str] = Field(
        default_factory=lambda: ["noai", "noimageai", "noindex", "noimageindex"],
        description="A picture sent with one of these in X-Robots-Tag is not taken.",
    )

    @field_validator("user_agent")
    @classmethod
    def _one_line_of_ascii(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][ -~]*", value):
            raise ValueError("must be one line of ASCII that begins with a letter or digit")
        return value


class InputConfig(_Model):
    """Where the pairs are."""

    format: Literal["webdataset", "parquet", "jsonl", "csv", "urls"] = Field(
        "webdataset",
        description="webdataset (img2dataset tars), parquet, jsonl, csv, or urls: a table (.parquet, .jsonl, .csv, "
        ".tsv) of web addresses, whose pictures are downloaded once into the run directory.",
    )
    path: str | list[str] = Field(
        description="Folder, file, glob or brace range, local or any fsspec URL; or a list of them."
    )
    part_rows: int = Field(
        1000, ge=1, le=100_000, description="Most pairs in one part, the unit of work and of resuming."
    )
    columns: ColumnNames = Field(default_factory=lambda: ColumnNames(), description="Column names of a table.")
    caption_json_key: str | None = Field(
        None, description="webdataset: take the caption from this key of the .json member instead of the .txt member."
    )
    image_root: str | None = Field(
        None, description="jsonl, csv: folder that relative image paths start from; default: the table's own folder."
    )
    max_image_pixels: int = Field(
        MAX_IMAGE_PIXELS, ge=1, description="Images with more pixels are not decoded (status image_too_large)."
    )
    max_image_bytes: int = Field(
        MAX_IMAGE_BYTES, ge=1, le=1 << 30, description="Larger image files are not read (status image_too_large)."
    )
    max_caption_characters: int = Field(
        MAX_CAPTION_CHARACTERS,
        ge=1,
        description="Longer captions are kept whole, but the pair is not used (status caption_too_long).",
    )
    max_members: int = Field(
        MAX_MEMBERS,
        ge=1,
        description="webdataset: most members of a tar that are read, but for those that complete the last pair; "
        "that there are more is told in shard_errors.parquet.",
    )
    max_decode_seconds: float = Field(
        MAX_DECODE_SECONDS,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="CPU time that decoding one image may take, tried twice (status decode_timeout).",
    )
    keep: list[str] = Field(
        default_factory=list,
        description="Fields carried into the annotations as text, in the column `fields`. webdataset: top-level "
        "fields of the .json member; else columns of the table.",
    )
    download: DownloadConfig = Field(
        default_factory=lambda: DownloadConfig(), description="urls: how pictures are fetched."
    )

    @field_validator("keep")
    @classmethod
    def _each_field_once(cls, names: list[str]) -> list[str]:
        if not all(names):
            raise ValueError("a name is empty")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names

    @model_validator(mode="after")
    def _only_urls_are_downloaded(self) -> InputConfig:
        if "download" in self.model_fields_set and self.format != "urls":
            raise ValueError(f"download is for format: urls; leave it out with format: {self.format}")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The path patterns as a tuple."""
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)


class EncoderConfig(_Model):
    """Which towers embed images and captions."""

    model: str = Field(
        "offline",
        description="open_clip model name (ViT-B-32), path of an open_clip JSON model config, or 'offline': "
        "EfficientNet-Lite0 and MiniLM from the extra curate[offline].",
    )
    pretrained: str | None = Field(
        None, description="open_clip tag (laion2b_s34b_b79k) or path of a local checkpoint (.pt, .safetensors)."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: fp16 on a GPU; on a CPU bf16 where it has it and the embeddings agree, else fp32."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if there is one.")
    batch_size: int | None = Field(
        None, ge=1, description="Rows in one padded forward pass; null: 16 on a CPU, 512 on a GPU."
    )


class EmbedConfig(_Model):
    """How pictures become what the towers take; the towers themselves are under `encoder:`."""

    decode: Literal["exact", "fast"] = Field(
        "exact",
        description="fast: large JPEGs are decoded at a half, a quarter or an eighth of their size, never smaller "
        "than the towers take them. Several times as fast; embeddings differ a little.",
    )


class MixtureConfig(_Model):
    """How scores become probabilities."""

    kind: Literal["default", "null", "gmm", "beta"] = Field(
        "default",
        description="null (the default): density ratio of shuffled and observed pairs; gmm, beta: two components if "
        "their guards hold, else null. A single signal whose paper has a mixture gets that one by default.",
    )
    by: str | None = Field(
        None,
        description="A field named in input.keep, such as language or source: pairs that share its value get a "
        "posterior of their own, if there are enough of them.",
    )
    min_pairs: int = Field(500, ge=50, description="A stratum with fewer pairs in the sample shares that of all.")


class NoiseConfig(_Model):
    """How noise_prob is made."""

    signals: Literal["default", "all"] | list[SignalName] = Field(
        "default",
        description="What noise_prob is made of: default, all, or a list of signals; one alone is used as its paper "
        "has it.",
    )
    folds: int = Field(5, ge=2, le=50, description="Cross-fitting folds, grouped by picture.")
    rounds: int = Field(
        2, ge=1, le=10, description="Rounds of fitting; from the second on, pairs weigh 1 - noise_prob."
    )
    fit_rows: int = Field(50_000, ge=100, description="Most pairs the models are fitted on.")
    mixture: MixtureConfig = Field(
        default_factory=lambda: MixtureConfig(), description="A kind alone (`mixture: gmm`), or {kind, by, min_pairs}."
    )
    itc_epochs: int = Field(3, ge=1, le=100, description="Warm-up epochs of the heads behind itc_loss (NLIP).")
    clean_below: float = Field(0.3, ge=0, le=1, description="Pairs with a lower noise_prob are labelled clean.")
    noisy_above: float = Field(0.7, ge=0, le=1, description="Pairs with a higher noise_prob are labelled noisy.")
    smoothing: float = Field(
        0.5, ge=0, le=1, description="lambda of the column `smoothing`, lambda * noise_prob (NLIP)."
    )
    margin_image: float = Field(0.3, ge=0, description="Largest margin_image, of a certainly clean pair (DSDMR).")
    margin_text: float = Field(0.2, ge=0, description="Largest margin_text (DSDMR).")

    @field_validator("mixture", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("signals")
    @classmethod
    def _each_signal_once(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and (not value or len(set(value)) < len(value)):
            raise ValueError("name at least one signal, and each once")
        return value

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> NoiseConfig:
        if self.clean_below > self.noisy_above:
            raise ValueError(f"clean_below ({self.clean_below}) must not be above noisy_above ({self.noisy_above})")
        return self


_TOWERS: dict[str, dict[str, int | float]] = {
    "full": {"epochs": 1, "batch_size": 256, "learning_rate": 1e-5},
    "lora": {"epochs": 1, "batch_size": 256, "learning_rate": 1e-4},
}


class RefineConfig(_Model):
    """Rounds of learning from the trusted pairs and scoring all pairs again."""

    trainable: Literal["heads", "lora", "full"] = Field(
        "heads",
        description="heads: linear heads on the frozen embeddings, one for each fold; full: the towers of an "
        "open_clip model, with which the corpus is embedded again; lora: low-rank differences of their weights.",
    )
    loss: LossName = Field(
        "nitc",
        description="nitc: contrastive, smoothed by noise_prob (NLIP); npc: pairs by their weight, memory entries "
        "beside (NPC); dsdmr: ranking with dynamic margins (DSDMR); infonce: plainly contrastive.",
    )
    rounds: int = Field(3, ge=1, le=20, description="Most rounds.")
    settled: float = Field(
        0.005,
        ge=0,
        le=1,
        description="Rounds end when a smaller share of the pairs enters or leaves the trusted ones; 0: never early.",
    )
    trusted_below: float = Field(0.5, gt=0, le=1, description="Pairs with a lower noise_prob are learned from.")
    epochs: int = Field(10, ge=1, le=1000, description="Passes over the trusted pairs in each round; of towers 1.")
    batch_size: int = Field(
        512, ge=2, le=65_536, description="Pairs that are contrasted with each other; with towers 256."
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Of Adam; full: 1e-5, lora: 1e-4.")
    temperature: float = Field(
        0.07, gt=0, description="What cosines are divided by; dsdmr has none, towers have their own."
    )
    distribution_gap: float = Field(
        0.0,
        ge=0,
        description="dsdmr: weight of a second term, which drives the similarities of clean and of noisy pairs apart; "
        "0: without it. It sees the pairs that are learned from: with trusted_below: 1 all of them.",
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="Rank of the differences that `lora` trains.")
    checkpoint_steps: int = Field(200, ge=1, description="Steps between two checkpoints of towers in training.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_towers(cls, value: Any) -> Any:
        if isinstance(value, dict) and str(value.get("trainable")) in _TOWERS:
            return {**_TOWERS[value["trainable"]], **value}
        return value

    @model_validator(mode="after")
    def _the_gap_is_a_term_of_dsdmr(self) -> RefineConfig:
        if self.distribution_gap and self.loss != "dsdmr":
            raise ValueError(f"distribution_gap is a term of loss: dsdmr; leave it out with loss: {self.loss}")
        return self


class ConceptsConfig(_Model):
    """What each image shows, in names of a vocabulary."""

    vocabulary: str = Field(
        "corpus",
        description="corpus: nouns and noun phrases of the trusted captions; or a file: one name per line, or a table "
        "(.csv, .parquet) with a column `name` and maybe `prompts`.",
    )
    top_k: int = Field(10, ge=1, le=1000, description="Concepts per image.")
    scorer: Scorer = Field(
        "default",
        description="default: cross-modal similarity, neighbours and tagger together; cross_modal: image against the "
        "name's prompts (NLIP); neighbours: vote of the nearest trusted images; tagger: linear, on image features.",
    )
    min_documents: int = Field(
        3, ge=1, description="A mined name is kept if so many different trusted captions have it."
    )
    prompts: list[str] = Field(
        default_factory=lambda: list(TEMPLATES),
        min_length=1,
        description="Templates with one {} whose mean embedding stands for a name that has no prompts of its own.",
    )
    trusted_below: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Pairs with a noise_prob of this or more teach nothing, others weigh 1 - noise_prob.",
    )
    fit_rows: int = Field(50_000, ge=100, description="Most pairs the models are fitted on.")

    @field_validator("prompts")
    @classmethod
    def _one_place_for_the_name(cls, prompts: list[str]) -> list[str]:
        wrong = [prompt for prompt in prompts if prompt.count("{}") != 1]
        if wrong:
            raise ValueError(f"each needs {{}} once, where the name goes; without: {', '.join(map(repr, wrong))}")
        return prompts


class CocaConfig(_Model):
    """A CoCa checkpoint that writes captions; it runs where the encoder runs."""

    model: str = Field(
        "coca_ViT-B-32", description="open_clip name of a CoCa model, or path of an open_clip JSON model config."
    )
    pretrained: str = Field(
        "laion2b_s13b_b90k", description="open_clip tag, or path of a local checkpoint (.pt, .safetensors)."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: fp16 on a GPU, fp32 on a CPU."
    )
    concepts: int = Field(3, ge=0, le=20, description="Most concepts in the prompt that the caption continues.")
    longest: int = Field(24, ge=1, le=60, description="Most tokens of a caption.")


class CaptionConfig(_Model):
    """Completion: a caption written from the picture where the original is doubtful."""

    when: str = Field(
        "label != 'clean'",
        description="Which captions are doubtful: a condition on noise columns, caption and status. Pictures "
        "without a caption always get one.",
    )
    decoder: DecoderName = Field(
        "default",
        description="default: the best of written and neighbours' captions (minimum Bayes risk); gru, transformer: "
        "written greedily; beam, sample; consensus, nearest: a neighbour's caption, no training; coca: written by "
        "the checkpoint under `coca:`, no training.",
    )
    coca: CocaConfig = Field(
        default_factory=lambda: CocaConfig(), description="Which checkpoint `decoder: coca` writes with."
    )
    mode: Literal["replace", "append", "both"] = Field(
        "replace",
        description="replace: the synthetic caption stands instead of the original; append: behind it; both: behind "
        "it where the pair is uncertain, instead of it where it is noisy.",
    )
    trusted_below: float = Field(
        0.5, gt=0, le=1, description="Pairs with a lower noise_prob are learned from, and never completed."
    )
    accept_quantile: float = Field(
        0.25,
        ge=0,
        le=1,
        description="A synthetic caption is believed if it agrees with the picture at least as well as this share of "
        "trusted pairs, by models that never saw them.",
    )
    margin: float = Field(
        2.5, ge=0, description="And better than the original by so many standard deviations of shuffled pairs."
    )
    fit_rows: int = Field(50_000, ge=100, description="Most pairs the captioner is fitted on.")

    @field_validator("when")
    @classmethod
    def _a_condition(cls, when: str) -> str:
        try:
            parse_where(when, CONDITION_SCHEMA)
        except InputError as error:
            raise ValueError(str(error).removeprefix("--where ")) from None
        return when


STAGE_REFERENCE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


class PythonConfig(_Model):
    """A row stage of the user's own; its module is imported, which executes it."""

    stage: str = Field(description="module:Class, a subclass of curate.Stage; the module is imported.")
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of the class's __init__.")
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """Where it stands, "file:line"; "" where that is not known."""
        return self._place

    @model_validator(mode="before")
    @classmethod
    def _stage_alone(cls, value: Any) -> Any:
        return {"stage": value} if isinstance(value, str) else value

    @field_validator("stage")
    @classmethod
    def _module_and_class(cls, stage: str) -> str:
        if not re.fullmatch(STAGE_REFERENCE, stage):
            raise ValueError(f"write module:Class, such as my_module:MyStage; '{stage}' is not that")
        return stage

    @field_validator("options")
    @classmethod
    def _plain_values(cls, options: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"must be numbers, text, booleans, lists and mappings: {error}") from None
        return options


class StagesConfig(_Model):
    """The stages in the order they run; a stage that is null does not run."""

    embed: EmbedConfig = Field(default_factory=lambda: EmbedConfig(), description="Embed images and captions.")
    noise: NoiseConfig | None = Field(None, description="Signals, noise_prob and label of every pair.")
    refine: RefineConfig | None = Field(
        None, description="noise_prob made anew by rounds of learning from the trusted pairs; needs the stage noise."
    )
    concepts: ConceptsConfig | None = Field(None, description="What each image shows, in names of a vocabulary.")
    caption: CaptionConfig | None = Field(
        None, description="A caption for pictures whose own is doubtful; needs the stages noise and concepts."
    )
    python: tuple[PythonConfig, ...] = Field((), description="Stages of your own, behind all others; may be repeated.")


_NEEDED = {"refine": ("noise",), "caption": ("noise", "concepts")}
PYTHON = "python"
STAGE_NAMES = tuple(StagesConfig.model_fields)


class PipelineConfig(_Model):
    """A whole pipeline.yaml."""

    input: InputConfig
    output: str = Field(description="Run directory, a local path or an fsspec URL.")
    encoder: EncoderConfig = Field(default_factory=lambda: EncoderConfig())
    seed: int = Field(0, ge=0, description="Seed of every random draw.")
    stages: StagesConfig

    @model_validator(mode="after")
    def _stages_have_what_they_need(self) -> PipelineConfig:
        for stage, needed in _NEEDED.items():
            missing = [name for name in needed if getattr(self.stages, name) is None]
            if getattr(self.stages, stage) is not None and missing:
                raise PydanticCustomError(
                    "stage_missing",
                    "{stage} needs the stage{s} {missing} before it",
                    {
                        "stage": stage,
                        "missing": " and ".join(missing),
                        "s": "s" * (len(missing) - 1),
                        "at": ("stages", stage),
                    },
                )
        return self

    @model_validator(mode="after")
    def _towers_can_be_trained(self) -> PipelineConfig:
        refine = self.stages.refine
        if refine is not None and refine.trainable != "heads" and self.encoder.model == OFFLINE:
            raise PydanticCustomError(
                "not_trainable",
                "{trainable} trains an open_clip model, and encoder.model is offline. Set trainable: heads, or name "
                "an open_clip model under encoder:",
                {"trainable": refine.trainable, "at": ("stages", "refine", "trainable")},
            )
        return self

    @model_validator(mode="after")
    def _strata_are_kept(self) -> PipelineConfig:
        by = None if self.stages.noise is None else self.stages.noise.mixture.by
        if by is not None and by not in self.input.keep:
            raise PydanticCustomError(
                "not_kept", "'{by}' is not kept: add it to input.keep: [{by}]", {"by": by, "at": _STRATA}
            )
        return self


@dataclass(frozen=True)
class ReadConfig:
    """What was read of a pipeline file: where its keys stand, its mistakes, and what it says beside them.

    Attributes:
        name: of the file.
        lines: "file:line" of every key that is given; stages by name.
        problems: one line per mistake: file, line, key, what to write instead; in the order of the lines.
        wrong: paths of the keys they are about, where they are about one.
        config: the pipeline without the wrong keys; None: nothing is left that could run.
    """

    name: str
    lines: Lines
    problems: tuple[str, ...]
    wrong: tuple[YamlPath, ...]
    config: PipelineConfig | None

    def where(self, *path: str | int) -> str:
        """The place of a key, "file:line", or of what encloses it where it is not given."""
        return _where(path, self.name, self.lines)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a pipeline file.

    Args:
        path: the YAML file.
        overrides: "a.b=c" strings; values are YAML. A stage is named directly: "stages.noise.folds=3".

    Raises:
        InputError: with one line per mistake: file, line, key, what to write instead.
    """
    return _without_mistakes(read_config(path, overrides))


def parse_config(text: str, name: str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Like `load_config`, from the text of the file; `name` stands in error messages."""
    return _without_mistakes(_read(text, name, overrides))


def config_of(values: Mapping[str, Any], name: str) -> PipelineConfig:
    """Like `parse_config`, from the values that the file would hold; `name` stands where a line would."""
    lines: Lines = {}
    _collect_places(values, (), name, lines)
    return _without_mistakes(_checked(dict(values), lines, name, (), []))


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> ReadConfig:
    """Like `load_config`, with mistakes in keys and values listed instead of raised.

    Raises:
        InputError: there is no such file, or it is no YAML.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file. Is the path right? Pipelines that run as they stand are in pipelines/."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a UTF-8 text file: {error}") from None
    return _read(text, str(file), overrides)


def _without_mistakes(read: ReadConfig) -> PipelineConfig:
    if read.problems or read.config is None:
        raise InputError("\n".join(read.problems))
    return read.config


def _read(text: str, name: str, overrides: Sequence[str]) -> ReadConfig:
    problems: list[str] = []
    raw, lines = _parse_yaml(text, name, problems)
    return _checked(raw, lines, name, overrides, problems)


def _checked(
    raw: dict[str, Any], lines: Lines, name: str, overrides: Sequence[str], problems: list[str]
) -> ReadConfig:
    raw = _stages_by_name(raw, lines, problems)
    for override in overrides:
        _apply_override(raw, lines, override, problems)
    config, details = _validated(raw)
    told = bool(problems)
    problems += [_explain(each, name, lines) for each in _one_each(details, lines) if not (told and _follows(each))]
    wrong = tuple(tuple(detail["loc"]) for detail in details)
    if details:
        config, _ = _validated(_leave_out(raw, wrong))
    for number, stage in enumerate(() if config is None else config.stages.python):
        stage._place = _where(("stages", PYTHON, number), name, lines)
    return ReadConfig(name, lines, tuple(in_order(problems)), wrong, config)


def _validated(raw: dict[str, Any]) -> tuple[PipelineConfig | None, list[ErrorDetails]]:
    try:
        return PipelineConfig.model_validate(raw), []
    except ValidationError as error:
        return None, error.errors()


def _leave_out(raw: Any, wrong: Sequence[YamlPath]) -> Any:
    """A copy of nested mappings without the values at these paths."""
    if not isinstance(raw, dict):
        return raw
    return {
        key: _leave_out(value, [path[1:] for path in wrong if path[:1] == (key,)])
        for key, value in raw.items()
        if not any(path == (key,) or (path[:1] == (key,) and not isinstance(value, dict)) for path in wrong)
    }


def _one_each(details: Sequence[ErrorDetails], lines: Lines) -> Iterator[ErrorDetails]:
    """One error a mistake: where a key may be of several kinds, pydantic complains once for each."""
    of_key: dict[YamlPath, list[ErrorDetails]] = {}
    for detail in details:
        of_key.setdefault(_known_key(detail, lines), []).append(detail)
    for errors in of_key.values():
        # The kind that was meant is the one in which the mistake lies deepest.
        deepest = max(len(error["loc"]) for error in errors)
        meant = [error for error in errors if len(error["loc"]) == deepest]
        if len(meant) > 1 and not isinstance(meant[0]["loc"][-1], int):
            kinds = " or ".join(error["msg"].removeprefix("Input should be ") for error in meant)
            meant = [{**meant[0], "msg": f"Input should be {kinds}"}]
        yield from meant


def in_order(problems: Sequence[str]) -> list[str]:
    """Messages that begin with "file:line:" in the order of the lines; others come first."""
    return sorted(problems, key=lambda problem: int(found[1]) if (found := _LINE.match(problem)) else 0)


_LINE = re.compile(r".*?:(\d+): ")


def _follows(detail: ErrorDetails) -> bool:
    """Whether a mistake may be nothing but the consequence of one that was told already."""
    of_stages = tuple(detail["loc"]) == ("stages",)
    return of_stages or detail["type"] in ("invalid_key", "not_kept", "not_trainable", "stage_missing")


Lines = dict[YamlPath, str]
_DEEPEST = 20
_MOST_KEYS = 100_000


_MERGE_KEY = "tag:yaml.org,2002:merge"
_LARGEST_NUMBER_BITS = 1024
_LONGEST_TEXT = 1_000_000
_LONGEST_VALUE = 300
# No name, path or UTF-8 file can hold these.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class _PipelineLoader(yaml.SafeLoader):
    """Plain values only; what cannot be made of a scalar is an error with its line, as every other."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Not too deep: time grows with the third power of the depth."""
        self._depth += 1
        if self._depth > 2 * _DEEPEST:
            mark = self.get_mark()
            raise ConstructorError(None, None, "nested too deeply; a pipeline has keys, sections and lists", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
            problem = f"this cannot be read as {node.tag.rpartition(':')[2]}; quote a text"
            raise ConstructorError(None, None, problem, node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > _LARGEST_NUMBER_BITS:
            raise ConstructorError(None, None, "a number with too many digits", node.start_mark)
        if isinstance(value, str) and _UNUSABLE.search(value):
            raise ConstructorError(None, None, "a text with NUL or half a character pair in it", node.start_mark)
        return value

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys may expand without end, and no pipeline has them."""
        for key, _ in node.value:
            if key.tag == _MERGE_KEY:
                raise ConstructorError(None, None, "merge keys (<<) are not read; write the keys out", key.start_mark)


def _parse_yaml(text: str, name: str, problems: list[str]) -> tuple[dict[str, Any], Lines]:
    lines: Lines = {}
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"{name}: has {len(text):,} characters, more than {_LONGEST_TEXT:,}: that is no pipeline")
    try:
        node = yaml.compose(text, Loader=_PipelineLoader)
        # Before anything is made of it: what it would come to may be larger than any memory.
        _collect_lines(node, (), name, lines, problems)
        raw = yaml.load(text, Loader=_PipelineLoader)
    except RecursionError:
        raise InputError(f"{name}: nested too deeply; a pipeline has keys, sections and lists") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise InputError(f"{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{name}:1: a pipeline is a mapping with the keys input, output and stages")
    return raw, lines


def _collect_lines(node: yaml.Node | None, path: YamlPath, name: str, lines: Lines, problems: list[str]) -> None:
    if node is None:
        return
    lines.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    # Aliases may repeat without end.
    if len(path) > _DEEPEST or len(lines) > _MOST_KEYS:
        raise InputError(f"{lines[path]}: nested too deeply or too much; a pipeline has keys, sections and lists")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = f"{name}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                problems.append(f"{where}: keys must be plain words")
                continue
            inner = (*path, key.value)
            if inner in lines:
                problems.append(f"{where}: '{key.value}' is given twice; leave one out")
            lines[inner] = where
            _collect_lines(value, inner, name, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, index), name, lines, problems)


def _collect_places(value: Any, path: YamlPath, name: str, lines: Lines) -> None:
    lines[path] = name
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _collect_places(inner, (*path, str(key)), name, lines)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _collect_places(inner, (*path, index), name, lines)


def _stages_by_name(raw: dict[str, Any], lines: Lines, problems: list[str]) -> dict[str, Any]:
    """Turn the list of stages into a mapping, and the lines with it, so that the model and --set can name a stage."""
    stages = raw.get("stages")
    if not isinstance(stages, list | tuple):
        if "stages" in raw:
            problems.append(f"{lines[('stages',)]}: stages: must be a list, such as [embed, noise]")
        return raw
    named: dict[str, Any] = {}
    for index, entry in enumerate(stages):
        where = lines[("stages", index)]
        if isinstance(entry, dict) and len(entry) == 1:
            (stage, options), *_ = ((str(key), value) for key, value in entry.items())
        elif isinstance(entry, str):
            stage, options = entry, {}
        else:
            problems.append(f"{where}: stages: each is a name, or one name with options: `- noise: {{folds: 5}}`")
            continue
        if stage not in STAGE_NAMES:
            problems.append(f"{where}: stages: there is no stage '{stage}'{_did_you_mean(stage, STAGE_NAMES)}")
        elif stage == PYTHON:
            of_users = named.setdefault(PYTHON, [])
            _move_lines(lines, ("stages", index, stage), ("stages", PYTHON, len(of_users)), where)
            lines.setdefault(("stages", PYTHON), where)
            of_users.append({} if options is None else options)
        elif stage in named:
            problems.append(f"{where}: stages: '{stage}' is given twice")
        else:
            named[stage] = {} if options is None else options
            _move_lines(lines, ("stages", index, stage), ("stages", stage), where)
    expected = [stage for stage in STAGE_NAMES if stage in named]
    if list(named) != expected:
        problems.append(f"{lines[('stages',)]}: stages: must be in the order {', '.join(expected)}")
    if "embed" not in named and not problems:
        problems.append(
            f"{lines[('stages',)]}: stages: 'embed' must come first; every other stage works on embeddings"
        )
    return {**raw, "stages": named}


def _move_lines(lines: Lines, place: YamlPath, name: YamlPath, where: str) -> None:
    for path, line in list(lines.items()):
        if path[: len(place)] == place:
            lines[name + path[len(place) :]] = line
    lines.setdefault(name, where)


def _apply_override(raw: dict[str, Any], lines: Lines, override: str, problems: list[str]) -> None:
    path, equals, value = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        problems.append(f"--set {override}: must look like encoder.batch_size=32")
        return
    try:
        parsed = yaml.load(value, Loader=_PipelineLoader)
    except (yaml.YAMLError, RecursionError):
        problems.append(f"--set {override}: the value is not valid YAML")
        return
    target: Any = raw
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            problems.append(f"--set {override}: '{key}' has no keys below it")
            return
    target[keys[-1]] = parsed
    lines[tuple(keys)] = f"--set {override}"


def _explain(detail: ErrorDetails, name: str, lines: Lines) -> str:
    path = _path_of(detail)
    where = _where(path, name, lines)
    dotted = ".".join(str(key) for key in _known_key(detail, lines))
    if detail["type"] == "extra_forbidden":
        return f"{where}: {dotted}: unknown key{_did_you_mean(str(path[-1]), _keys_beside(path))}"
    if detail["type"] == "missing":
        return f"{where}: {dotted}: is missing; write such as `{_SUCH_AS[_without_numbers(dotted)]}`"
    if detail["type"] in ("model_type", "dict_type"):
        keys = ", ".join(_keys_beside((*path, "")))
        return f"{where}: {dotted}: must be a section with keys, but is {_shown(detail['input'])}; the keys are {keys}"
    if detail["type"] in ("value_error", "not_kept", "not_trainable", "stage_missing"):
        return f"{where}: {dotted}: {detail['msg'].removeprefix('Value error, ')}"
    return f"{where}: {dotted}: {_lower_first(detail['msg'])}, but is {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    """A value as Python writes it, its end left out where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _path_of(detail: ErrorDetails) -> YamlPath:
    """A mistake that two sections make together has no place of its own: its error says where to look."""
    return tuple(detail["loc"]) or detail.get("ctx", {}).get("at", ())


def _known_key(detail: ErrorDetails, lines: Lines) -> YamlPath:
    """The key as the file has it: pydantic names the branch of a union behind it ("str", "list[str]")."""
    known = _path_of(detail)
    while len(known) > 1 and known not in lines and detail["type"] != "missing":
        known = known[:-1]
    return known


_SUCH_AS = {
    "input": 'input: {path: "data/*.tar"}',
    "input.path": 'path: "data/*.tar"',
    "output": "output: runs/mine",
    "stages": "stages: [embed, noise]",
    "stages.python.stage": "- python: my_module:MyStage",
}


def _without_numbers(dotted: str) -> str:
    return ".".join(key for key in dotted.split(".") if not key.isdigit())


def _where(path: YamlPath, name: str, lines: Lines) -> str:
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), name)


def _keys_beside(path: YamlPath) -> tuple[str, ...]:
    model: type[BaseModel] = PipelineConfig
    for key in (key for key in path[:-1] if isinstance(key, str)):
        annotation = model.model_fields[key].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return tuple(model.model_fields)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(known)}" if known else "; it has no options"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
