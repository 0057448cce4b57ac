"""What the fingerprint of a column file follows from, told by the files of a run alone.

A file holds the facts that its fingerprint was made of. With the manifest and the fingerprints of the files before it
that fingerprint can be made again: a file of another part, configuration or run does not fit its neighbours. Neither
the input nor the encoder is needed for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.plan.python import column_homes
from curate.plan.step import CAPTION_FIT, CONCEPTS_FIT, DUPLICATES, EMBED, NOISE_FIT, REFINE_FIT
from curate.sources.base import Part
from curate.sources.urls import DOWNLOAD, TABLE
from curate.store import CONTENT, FAILED, fingerprint
from curate.summary import ANNOTATIONS

Facts = Mapping[str, Any]

PYTHON_PREFIX = "python-"
_TOLD = {DOWNLOAD: (TABLE, CONTENT, FAILED)}
_OF_FIT = {
    NOISE_FIT: ("fit", NOISE_FIT),
    REFINE_FIT: ("refine_fit", REFINE_FIT),
    CONCEPTS_FIT: ("concepts_fit", CONCEPTS_FIT),
    CAPTION_FIT: ("caption_fit", CAPTION_FIT),
}


@dataclass(frozen=True)
class Lineage:
    """The steps of a run and how they hang together.

    Attributes:
        steps: whose columns the annotations hold, in the order of the plan: embed first.
        rounds: how many rounds of trained towers were done; their steps are in no annotation.
        rounds_planned: how many there would have been.
        downloads: whether the pictures were downloaded.
        fits: fingerprint of every complete fit.
    """

    steps: tuple[str, ...]
    rounds: int = 0
    rounds_planned: int = 0
    downloads: bool = False
    fits: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> list[str]:
        """All steps that leave column files, each behind those that it depends on."""
        rounds = [f"{REFINE_FIT}-{n}-{step}" for n in range(1, self.rounds + 1) for step in (EMBED, NOISE_FIT)]
        before = [DOWNLOAD] if self.downloads else []
        last = self.steps.index(REFINE_FIT) if REFINE_FIT in self.steps else len(self.steps)
        return [*before, *self.steps[:last], *rounds, *self.steps[last:], ANNOTATIONS]

    @property
    def artifacts(self) -> list[str]:
        """All fits that the steps need."""
        trainings = [f"{REFINE_FIT}-{number}" for number in range(1, self.rounds + 1)]
        settled = [f"{REFINE_FIT}-{number}" for number in range(self.rounds + 1, self.rounds_planned + 1)]
        rounds = [*trainings, *(f"{name}-{NOISE_FIT}" for name in trainings), *settled]
        of_steps = [step for step in self.steps if step in _OF_FIT and not (step == REFINE_FIT and self.trains_towers)]
        return [*of_steps, *rounds]

    @property
    def trains_towers(self) -> bool:
        """Whether refinement trains towers, round by round, and not heads on their embeddings."""
        return self.rounds_planned > 0

    def fit_of(self, step: str, facts: Facts) -> tuple[str, str] | None:
        """(name of the fit that a step's file was made with, its fingerprint as the file has it); None: no fit."""
        if step.startswith(f"{REFINE_FIT}-"):
            training, _, kind = step.rpartition("-")
            return (training, facts.get("trained", "")) if kind == EMBED else (step, facts.get("fit", ""))
        if step not in _OF_FIT or (step == REFINE_FIT and self.trains_towers):
            return None
        key, fit = _OF_FIT[step]
        return fit, facts.get(key, "")

    def fingerprint(self, step: str, number: int, part: Part, files: Mapping[str, Facts]) -> str | None:
        """The fingerprint that a step's file for a part must have; None: not enough is known to tell.

        Args:
            step: not duplicates, whose files depend on all parts: see `fingerprint_of_duplicates`.
            number, part: the part as the manifest has it.
            files: facts of the part's files, by step.
        """
        facts = files[step]
        wanted = self._before(step)
        if wanted is None or not set(wanted) <= files.keys():
            return None
        before = [files[each]["fingerprint"] for each in wanted]
        if step == DOWNLOAD:
            origin: Any = [part.shard, part.first_row, part.checksum]
        elif step == EMBED or step.endswith(f"-{EMBED}"):
            downloaded = {"downloaded": files[DOWNLOAD].get(CONTENT)} if self.downloads else {}
            origin = {**dataclasses.asdict(part), **downloaded}
        elif step.startswith(PYTHON_PREFIX):
            read = self._read_by(step, files)
            if not set(read) <= files.keys():
                return None
            origin = [files[each]["fingerprint"] for each in read]
        else:
            origin = before[0] if self._hangs_on_one(step) else before
        return fingerprint({**common_facts(step, facts), "from": origin})

    def fingerprint_of_duplicates(self, facts: Facts, embedded: Sequence[str]) -> str | None:
        """The fingerprint that every file of duplicates must have, from the embed files' in order of the parts."""
        if NOISE_FIT not in self.fits:
            return None
        common = common_facts(DUPLICATES, facts)
        return fingerprint({**common, "fit": self.fits[NOISE_FIT], "from": list(embedded)})

    def _hangs_on_one(self, step: str) -> bool:
        return step not in (CAPTION_FIT, ANNOTATIONS) and not (step == REFINE_FIT and self.trains_towers)

    def _before(self, step: str) -> list[str] | None:
        """The steps that a step depends on, in order; None: nobody can tell."""
        if step == DOWNLOAD:
            return []
        if step == EMBED or step.endswith(f"-{EMBED}"):
            return [DOWNLOAD] if self.downloads else []
        if step == REFINE_FIT and self.trains_towers:
            # Rounds that were not done count too, but left no file.
            return self._scored() if self.rounds == self.rounds_planned else None
        if step.startswith(f"{REFINE_FIT}-"):
            return [f"{step.rpartition('-')[0]}-{EMBED}"]
        if step == REFINE_FIT:
            return [NOISE_FIT]
        if step == CAPTION_FIT:
            return [each for each in (NOISE_FIT, REFINE_FIT, CONCEPTS_FIT) if each in self.steps]
        if step == ANNOTATIONS:
            return list(self.steps)
        return [EMBED]

    def _scored(self) -> list[str]:
        return [NOISE_FIT, *(f"{REFINE_FIT}-{number}-{NOISE_FIT}" for number in range(1, self.rounds + 1))]

    def _read_by(self, step: str, files: Mapping[str, Facts]) -> list[str]:
        """The steps whose columns a stage of the user's own requires, embed first."""
        earlier = self.steps[: self.steps.index(step)]
        home = column_homes(earlier)
        for each in earlier:
            if each.startswith(PYTHON_PREFIX) and each in files:
                home |= dict.fromkeys(files[each][each]["provides"], each)
        named = [home[name] for name in files[step][step]["requires"] if name in home]
        return list(dict.fromkeys([EMBED, *named]))


def common_facts(step: str, facts: Facts) -> dict[str, Any]:
    """What the files of a step have in common: without a file's fingerprint and what is known only when it is made."""
    own = ("fingerprint", *_TOLD.get(step, ()))
    return {name: value for name, value in facts.items() if name not in own}
