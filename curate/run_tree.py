"""What lies in a run directory, sorted by what it is: column files, fits, leftovers, links, and what is strange."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from curate.manifest import ERRORS_FILE
from curate.run_format import FORMAT_FILE
from curate.steps import ARTIFACT_FILE
from curate.store import MANIFEST_FILE, TEMPORARY_PREFIX, RunStore, TreeEntry

REPORT_FILE = "report.html"
_AT_ROOT = {MANIFEST_FILE, ERRORS_FILE, FORMAT_FILE, REPORT_FILE}
_STEP = re.compile(
    r"downloads|embed|noise|duplicates|refine|refine-\d+-(embed|noise)|concepts|caption|python-.+|annotations"
)
_PART = re.compile(r"part-\d{8,}\.parquet")
_STATE = re.compile(r"_state/(lock|[^/]+\.jsonl?|(owners|done)/[^/]+\.json)")
_RUNS_CODE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".py", ".pyc", ".so"}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: the file, what is wrong with it, what to do."""

    file: str
    problem: str
    advice: str


@dataclass(frozen=True)
class RunTree:
    """The files of a run directory.

    Attributes:
        files: bytes of every file, by name; links are left out.
        links: links, by name.
    """

    files: Mapping[str, int]
    links: Mapping[str, TreeEntry]

    @cached_property
    def folders(self) -> list[str]:
        """Names of the steps that have a folder."""
        tops = dict.fromkeys(name.partition("/")[0] for name in self.files if "/" in name)
        return [name for name in tops if _STEP.fullmatch(name)]

    @cached_property
    def _parts(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(self.files):
            step, _, file = name.partition("/")
            if _STEP.fullmatch(step) and _PART.fullmatch(file):
                found.setdefault(step, []).append(file)
        return found

    def parts_of(self, step: str) -> list[str]:
        """Bare names of a step's column files, in order."""
        return self._parts.get(step, [])

    def links_in(self, step: str) -> set[str]:
        """Bare names of links in a step's folder."""
        return {name.partition("/")[2] for name in self.links if name.startswith(f"{step}/")}

    @property
    def linked(self) -> set[str]:
        """Folders of steps that are links."""
        return {name for name in self.links if "/" not in name}

    @cached_property
    def fits(self) -> list[str]:
        """Names of the fits that say that they are complete."""
        names = (PurePosixPath(name).parts for name in self.files)
        return [
            parts[1] for parts in names if len(parts) == 3 and (parts[0], parts[2]) == ("artifacts", ARTIFACT_FILE)
        ]

    @cached_property
    def temporary(self) -> list[str]:
        """What writers left that were killed."""
        return [name for name in self.files if PurePosixPath(name).name.startswith(TEMPORARY_PREFIX)]

    def findings(self) -> Iterator[Finding]:
        """Leftovers, links out of the run, and what is not curate's. What a fit does not list is told elsewhere."""
        for name in self.temporary:
            yield Finding(name, "was left by a writer that was killed", "curate clean or the next run removes it")
        for name, link in self.links.items():
            if link.leads_out:
                problem = f"is a link out of the run directory, to {link.link}"
                yield Finding(name, problem, "put the file itself there, or delete the link and run again")
        strange = Counter(_whole(name) for name in self.files if not self._is_known(name))
        for name, files in strange.items():
            told = f" ({files:,} files)" if name not in self.files else ""
            yield Finding(
                name,
                f"is not curate's{told}{_danger(name)}",
                "nothing is read from it: move it elsewhere or delete it",
            )

    def _is_known(self, name: str) -> bool:
        if name in _AT_ROOT or name in self.temporary or _STATE.fullmatch(name):
            return True
        parts = PurePosixPath(name).parts
        if parts[0] == "artifacts":
            return len(parts) == 3
        return len(parts) == 2 and bool(_STEP.fullmatch(parts[0]) and _PART.fullmatch(parts[1]))


def _whole(name: str) -> str:
    """A folder that is strange as a whole is named once."""
    top, slash, _ = name.partition("/")
    known = not slash or top in ("_state", "artifacts") or _STEP.fullmatch(top)
    return name if known else top


def _danger(name: str) -> str:
    if PurePosixPath(name).suffix.lower() in _RUNS_CODE:
        return ", and a program that loads it may execute what is in it"
    return ""


def sorted_tree(store: RunStore) -> RunTree:
    """Look at all names in a run directory."""
    entries = store.tree()
    links = {entry.name: entry for entry in entries if entry.link is not None}
    return RunTree({entry.name: entry.size for entry in entries if entry.link is None}, links)
