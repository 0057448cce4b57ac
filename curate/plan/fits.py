"""Fits that are there already: in this run directory, or in another that they are taken from."""

from __future__ import annotations

from typing import Any

from curate.errors import InputError
from curate.models.encoder import EncoderSpec
from curate.plan.step import FitStep, FitWork
from curate.steps import read_artifact_facts
from curate.store import RunStore


def is_fitted(store: RunStore, fit: str, wanted: str) -> bool:
    """Whether the artifacts with this fingerprint are there, complete."""
    found = read_artifact_facts(store, fit)
    return found is not None and found["fingerprint"] == wanted


def take_fit(run: str, name: str, work: FitWork, fit_rows: int, spec: EncoderSpec, store: RunStore) -> FitStep:
    """The fit of another run, taken as it is: the same towers, other pairs.

    Raises:
        InputError: there is none, or it is for other towers.
    """
    facts = read_artifact_facts(RunStore(run), name)
    if facts is None or not {"encoder", "fitted"} <= facts.keys():
        raise InputError(f"--fits-from {run}: no finished {name} fit there. Is it the directory of a finished run?")
    mine, theirs = scoring_identity(spec), facts["encoder"]
    if mine != theirs:
        other = ", ".join(
            f"{key}: {theirs.get(key)}, here {mine[key]}" for key in mine if theirs.get(key) != mine[key]
        )
        raise InputError(
            f"--fits-from {run}: its models are for other embeddings ({other}). Use the same encoder: there and here."
        )
    wanted = facts["fingerprint"]
    done = is_fitted(store, name, wanted)
    return FitStep(name, work, fit_rows, wanted, done, facts["fitted"], taken_from=run)


def scoring_identity(spec: EncoderSpec) -> dict[str, Any]:
    """What two encoders must share for the models of one to score the embeddings of the other."""
    held = spec.to_json()
    shared = ("model", "weights_sha256", "config_sha256", "resize_mode", "interpolation")
    return {name: held[name] for name in shared}
