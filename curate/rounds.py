"""What the rounds of refinement did to a finished run, whether heads or whole towers learned in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CurateError
from curate.plan import NOISE_FIT, REFINE_FIT
from curate.steps import read_artifact_facts
from curate.store import RunStore


def rounds_of(store: RunStore, annotations: Sequence[str]) -> dict[str, Any]:
    """Figures of every round that the annotations rest on, JSON-able; empty where the run refines nothing.

    `rounds` holds, for each round from 1: `round`, `trusted` (pairs below `refine.trusted_below` after it), `entered`
    and `left` (pairs that came to be trusted, or ceased to), `mixture` (diagnostics of what was fitted to its scores,
    see `curate.noise.mixture.Mixture`), and for trained towers `epoch_losses`. `ended` says why there are no more.

    What an earlier run left behind under the same names is none of theirs. Towers: reads noise_prob of every round,
    part by part; O(pairs) time, one part in memory.

    Args:
        store: a run directory.
        annotations: names of its annotation files; parts have the same names in every step.

    Raises:
        CurateError: a file is broken, or the fit of a round is gone.
    """
    used = store.read_facts(annotations[0]) or {}
    if "refine" not in used:
        return {}
    if "refine_fit" not in used:
        return _tower_rounds(store, used["refine"], [name.rpartition("/")[2] for name in annotations])
    facts = read_artifact_facts(store, REFINE_FIT) or {}
    found: dict[str, Any] = facts["diagnostics"] if facts.get("fingerprint") == used["refine_fit"] else {}
    return found


def believed_artifact(rounds: Mapping[str, Any]) -> tuple[str, str]:
    """Where the posterior of noise_prob is: the name of a fit, and what its arrays' names begin with."""
    made = rounds.get("rounds", ())
    if not made:
        return NOISE_FIT, ""
    if "epoch_losses" in made[-1]:
        return f"{REFINE_FIT}-{made[-1]['round']}-noise", ""
    return REFINE_FIT, f"rounds.{len(made) - 1}."


def _tower_rounds(store: RunStore, how: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    ended = "all rounds done"
    before = NOISE_FIT
    for number in range(1, how["rounds"] + 1):
        name = f"{REFINE_FIT}-{number}"
        training = (read_artifact_facts(store, name) or {}).get("diagnostics", {"settled": True})
        if training["settled"]:
            few = training.get("moved") is None
            ended = f"too few trusted pairs: {training['trusted']:,}" if few and "trusted" in training else "settled"
            break
        scored = f"{name}-noise"
        fitted = read_artifact_facts(store, scored)
        if fitted is None:
            raise CurateError(f"{store.path(scored)}: the fit of this round is missing; run the pipeline again")
        made.append(
            {
                "round": number,
                **_moves(store, before, scored, parts, how["trusted_below"]),
                "mixture": fitted["diagnostics"],
                "epoch_losses": training["epoch_losses"],
            }
        )
        before = scored
    return {"ended": ended, "rounds": made, "options": dict(how)}


def _moves(store: RunStore, before: str, after: str, parts: Sequence[str], below: float) -> dict[str, int]:
    """How many pairs are trusted after a round, and how many it made so or no longer so."""
    threshold = pa.scalar(below, pa.float32())
    trusted = entered = left = 0
    for part in parts:
        was, now = (
            pc.less(store.read_table(f"{step}/{part}", ["noise_prob"]).column("noise_prob"), threshold)
            for step in (before, after)
        )
        trusted += pc.sum(now).as_py() or 0
        entered += pc.sum(pc.and_not(now, was)).as_py() or 0
        left += pc.sum(pc.and_not(was, now)).as_py() or 0
    return {"trusted": trusted, "entered": entered, "left": left}
