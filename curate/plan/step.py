"""The kinds of step that a plan consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from curate.completion.policy import DecoderName
from curate.concepts.fit import ConceptOptions
from curate.concepts.vocabulary import Vocabulary
from curate.noise.fit import NoiseOptions
from curate.noise.refine import RefineOptions
from curate.schema import SCHEMA_VERSION
from curate.steps import PartWork
from curate.store import DoneIndex, fingerprint
from curate.training import TrainWork

EMBED = "embed"
NOISE_FIT = "noise"
REFINE_FIT = "refine"
CONCEPTS_FIT = "concepts"
CAPTION_FIT = "caption"
DUPLICATES = "duplicates"


@dataclass(frozen=True)
class RowStep:
    """A step that leaves one column file per part.

    Attributes:
        name: folder of the column files.
        work: carries out one part.
        fingerprints: the wanted fingerprint of every part's file.
        facts: provenance for the files' schema metadata.
        done: numbers of the parts whose file is there with the wanted fingerprint.
        fit: name of the fit that must be complete before.
        round: the training whose round of refinement it belongs to; its columns are in no annotation.
    """

    name: str
    work: PartWork
    fingerprints: dict[int, str]
    facts: dict[str, Any]
    done: frozenset[int]
    fit: str | None = None
    round: str | None = None


@dataclass(frozen=True)
class NoiseFitWork:
    """How a noise model is fitted.

    Attributes:
        options: of the fit.
        by: kept field whose values are strata.
        embed: the step whose embeddings count.
        joint_space: whether its towers were trained together.
    """

    options: NoiseOptions
    by: str | None
    embed: str
    joint_space: bool


@dataclass(frozen=True)
class RefineFitWork:
    """How the rounds of refinement go.

    Attributes:
        noise: how the model that they go on from was fitted.
        options: of the rounds.
    """

    noise: NoiseFitWork
    options: RefineOptions


@dataclass(frozen=True)
class ConceptsFitWork:
    """How a concept model is fitted.

    Attributes:
        options: of the fit.
        vocabulary: names that were given; None: they are mined.
        believed: the step whose noise_prob weighs pairs, noise or refine; None: there is none.
    """

    options: ConceptOptions
    vocabulary: Vocabulary | None
    believed: str | None


@dataclass(frozen=True)
class CaptionFitWork:
    """How a captioner is fitted.

    Attributes:
        decoder: what is to write.
        trusted_below: pairs with a lower noise_prob are learned from.
        accept_quantile: of their agreement, which an accepted caption reaches.
        believed: the step whose noise_prob counts, noise or refine.
    """

    decoder: DecoderName
    trusted_below: float
    accept_quantile: float
    believed: str


FitWork: TypeAlias = NoiseFitWork | RefineFitWork | ConceptsFitWork | CaptionFitWork


@dataclass(frozen=True)
class FitStep:
    """A step that reads embeddings of a bounded sample and leaves artifacts, or takes them from another run.

    Attributes:
        name: name of the artifacts' folder.
        work: what to fit, and how.
        fit_rows: most pairs to fit on.
        fingerprint: the wanted fingerprint of the artifacts.
        done: whether they are there.
        fitted: provenance: options, bound of the sample and seed, of the run that fitted them.
        taken_from: run directory that already holds them; None: they are fitted here.
        round: the training whose round of refinement it belongs to.
    """

    name: str
    work: FitWork
    fit_rows: int
    fingerprint: str
    done: bool
    fitted: dict[str, Any]
    taken_from: str | None = None
    round: str | None = None


@dataclass(frozen=True)
class TrainStep:
    """A step that trains the towers on the trusted pairs and leaves their weights, unless labels have settled.

    Attributes:
        name: name of the artifacts' folder.
        work: the training.
        fingerprint: the wanted fingerprint of the artifacts.
        done: whether they are there.
        before: the training of the round before; None: this is the first.
        compared: noise steps of the two rounds before, whose noise_prob says whether labels have settled.
        settled: smallest share of pairs that must have entered or left the trusted ones.
    """

    name: str
    work: TrainWork
    fingerprint: str
    done: bool
    before: str | None
    compared: tuple[str, str] | None
    settled: float


@dataclass(frozen=True)
class DuplicatesStep:
    """A step that compares all pairs of the corpus and leaves one column file per part.

    Attributes:
        name: folder of the column files.
        fit: name of the fit whose picture fingerprints are compared.
        fingerprint: the wanted fingerprint of every part's file: each depends on all parts.
        facts: provenance for the files' schema metadata.
        done: whether all files are there with the wanted fingerprint.
        seed: of the order in which pictures lead clusters.
    """

    name: str
    fit: str
    fingerprint: str
    facts: dict[str, Any]
    done: bool
    seed: int


Step: TypeAlias = RowStep | FitStep | TrainStep | DuplicatesStep


def row_step(
    name: str,
    work: PartWork,
    identity: dict[int, Any],
    facts: dict[str, Any],
    done: DoneIndex,
    fit: str | None = None,
    training: str | None = None,
) -> RowStep:
    """A step whose files depend on its facts and, part by part, on `identity`; says which of them are there."""
    common = {"step": name, "schema_version": SCHEMA_VERSION, **facts}
    wanted = {number: fingerprint({**common, "from": value}) for number, value in identity.items()}
    finished = frozenset(number for number, value in wanted.items() if done.fingerprint(name, number) == value)
    return RowStep(name, work, wanted, common, finished, fit, training)


def annotating(steps: Sequence[Step]) -> list[RowStep | DuplicatesStep]:
    """The steps whose columns annotations may have: none of those within a round."""
    kinds = [step for step in steps if isinstance(step, RowStep | DuplicatesStep)]
    return [step for step in kinds if isinstance(step, DuplicatesStep) or step.round is None]


def fingerprint_of(step: RowStep | DuplicatesStep, number: int) -> str:
    """The wanted fingerprint of a step's file for a part."""
    return step.fingerprint if isinstance(step, DuplicatesStep) else step.fingerprints[number]
