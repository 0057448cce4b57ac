"""The lineage of a run directory: which steps its annotations rest on, told by the files themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.errors import CurateError
from curate.lineage import PYTHON_PREFIX, Lineage, common_facts
from curate.plan.step import CAPTION_FIT, CONCEPTS_FIT, DUPLICATES, EMBED, NOISE_FIT, REFINE_FIT
from curate.run_tree import RunTree
from curate.sources.urls import DOWNLOAD
from curate.steps import ARTIFACT_FILE, artifact_folder
from curate.store import RunStore
from curate.summary import ANNOTATIONS

_ORDER = (EMBED, NOISE_FIT, DUPLICATES, REFINE_FIT, CONCEPTS_FIT, CAPTION_FIT)
# A handful tells: whoever compares every file finds the others.
_ASKED = 9


@dataclass(frozen=True)
class RunLineage:
    """What a run is made of.

    Attributes:
        lineage: of its files; where there are no annotations, the steps that have a folder.
        fits: what the artifact.json of every complete fit says, by the fit's name.
        annotated: whether there are annotations that say what they rest on.
    """

    lineage: Lineage
    fits: Mapping[str, Mapping[str, Any]]
    annotated: bool


def lineage_of(store: RunStore, tree: RunTree) -> RunLineage:
    """Ask a run's annotations what they rest on. Broken files are passed over."""
    fits = _fits(store, tree)
    facts = _annotated(store, tree)
    if facts is None:
        steps = [step for step in _ORDER if tree.parts_of(step)]
        own = [step for step in tree.folders if step.startswith(PYTHON_PREFIX)]
        facts = {}
    else:
        steps = [step for step in _ORDER if step in facts["versions"]]
        own = [step for step in facts["versions"] if step.startswith(PYTHON_PREFIX)]
    towers = "refine" in facts and "refine_fit" not in facts
    planned = int(facts["refine"]["rounds"]) if towers else 0
    rounds = 0
    while rounds < planned and _was_trained(fits, f"{REFINE_FIT}-{rounds + 1}"):
        rounds += 1
    lineage = Lineage(
        steps=(*steps, *_in_order(store, tree, own, facts)),
        rounds=rounds,
        rounds_planned=planned,
        downloads=bool(tree.parts_of(DOWNLOAD)),
        fits={fit: str(said["fingerprint"]) for fit, said in fits.items()},
    )
    return RunLineage(lineage, fits, bool(facts))


def _annotated(store: RunStore, tree: RunTree) -> dict[str, Any] | None:
    """What most annotation files say of how they were made; None: there are none that say anything."""
    found: Counter[str] = Counter()
    for name in tree.parts_of(ANNOTATIONS)[:_ASKED]:
        facts = store.read_facts(f"{ANNOTATIONS}/{name}")
        if facts is not None:
            found[json.dumps(common_facts(ANNOTATIONS, facts), sort_keys=True)] += 1
    if not found:
        return None
    usual: dict[str, Any] = json.loads(found.most_common(1)[0][0])
    return usual if isinstance(usual.get("versions"), dict) else None


def _in_order(store: RunStore, tree: RunTree, own: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    """Stages of the user's own in the order of their columns in the annotations."""
    if len(own) < 2:
        return list(own)
    schemas = (store.find_schema(f"{ANNOTATIONS}/{name}") for name in tree.parts_of(ANNOTATIONS))
    columns: list[str] = next((schema.names for schema in schemas if schema is not None), [])
    place = {name: number for number, name in enumerate(columns)}

    def first_column(step: str) -> int:
        return min((place.get(name, 0) for name in facts.get(step, {}).get("provides", ())), default=0)

    return sorted(own, key=first_column)


def _fits(store: RunStore, tree: RunTree) -> dict[str, dict[str, Any]]:
    said = {fit: _read_said(store, fit) for fit in tree.fits}
    return {fit: each for fit, each in said.items() if isinstance(each, dict) and "fingerprint" in each}


def _read_said(store: RunStore, fit: str) -> Any:
    """What a fit says; None: it cannot be understood."""
    try:
        return store.read_json(f"{artifact_folder(fit)}/{ARTIFACT_FILE}")
    except CurateError:
        return None


def _was_trained(fits: Mapping[str, Mapping[str, Any]], training: str) -> bool:
    return training in fits and not fits[training].get("diagnostics", {}).get("settled", True)
