"""The signals by name: which there are, which way they point, and what becomes of the ones a user picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from curate.errors import InputError

if TYPE_CHECKING:
    from curate.noise.mixture import MixtureKind

SignalName: TypeAlias = Literal[
    "clip_similarity",
    "clip_csls",
    "crossfit_similarity",
    "crossfit_csls",
    "itc_loss",
    "neighbour_disagreement",
    "neg_clip_loss",
    "rank_correlation",
    "topology",
    "negative_impact",
    "osa",
]
SIGNAL_NAMES: tuple[SignalName, ...] = get_args(SignalName)
HIGHER_IS_NOISIER: frozenset[SignalName] = frozenset({"itc_loss", "neighbour_disagreement"})
JOINT_ONLY: tuple[SignalName, ...] = ("clip_similarity", "clip_csls")
CROSSFIT: tuple[SignalName, ...] = ("crossfit_similarity", "crossfit_csls")
# Always computed: hints for trainers and the record rest on them, and they cost little.
ALWAYS: tuple[SignalName, ...] = (*CROSSFIT, "itc_loss", "negative_impact")

Signals: TypeAlias = Literal["default", "all"] | tuple[SignalName, ...]


def evidence_of(signals: Signals, joint_space: bool) -> tuple[SignalName, ...]:
    """The signals that noise_prob is made of.

    "default": agreement under cross-fitted models, and under the towers' own space where they have one. "all": every
    signal there is. One name: that signal alone, as its paper has it.

    Raises:
        InputError: a name needs towers that were trained together, and these were not.
    """
    if signals == "default":
        return (*JOINT_ONLY, *CROSSFIT) if joint_space else CROSSFIT
    chosen: Sequence[SignalName] = SIGNAL_NAMES if signals == "all" else signals
    without = [name for name in chosen if joint_space or name not in JOINT_ONLY]
    if not without or (signals != "all" and len(without) < len(chosen)):
        needing = ", ".join(name for name in chosen if name in JOINT_ONLY)
        raise InputError(
            f"noise.signals: {needing} compares images and captions in one space, and these towers were not trained "
            "together. Choose crossfit_similarity or crossfit_csls, or a CLIP model under encoder:"
        )
    return tuple(name for name in SIGNAL_NAMES if name in without)


def computed_signals(evidence: Sequence[SignalName], joint_space: bool) -> tuple[SignalName, ...]:
    """The evidence and what is always computed, in the order of SIGNAL_NAMES."""
    wanted = {*evidence, *ALWAYS, *(JOINT_ONLY if joint_space else ())}
    return tuple(name for name in SIGNAL_NAMES if name in wanted)


def published_mixture(evidence: Sequence[SignalName]) -> MixtureKind | None:
    """The mixture with which the paper of a single signal splits it; None: it has none, or there are several signals.

    NLIP fits two Gaussians to the loss (section 3.1 there), DSDMR to the cosine, GSC to the topology score.
    """
    if tuple(evidence) in (("itc_loss",), ("clip_similarity",), ("topology",)):
        return "gmm"
    return None
