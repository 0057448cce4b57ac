"""Is a run directory what its manifest says, and what curate left there? Reads it, changes nothing.

A part at a time: every column file against its digests, the manifest's rows, the schema and the files that it was made
from; the annotations against the columns of all steps. Neither input nor encoder is needed.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.columns import overlaid
from curate.digest import FACTS_KEY, digests_of_parquet, promised_digest
from curate.errors import CurateError, InputError
from curate.expected_columns import column_problem, is_current
from curate.lineage import common_facts
from curate.manifest import ERRORS_FILE, read_parts
from curate.plan.step import DUPLICATES, EMBED
from curate.run_format import read_format
from curate.run_lineage import RunLineage, lineage_of
from curate.run_tree import Finding, RunTree, sorted_tree
from curate.schema import ANNOTATION_SCHEMA, annotation_table, row_id
from curate.sources.base import Part
from curate.sources.urls import DOWNLOAD
from curate.steps import ARTIFACT_FILE, SELF_DIGEST, artifact_folder, facts_digest
from curate.store import MANIFEST_FILE, DoneFile, RunStore, fingerprint, part_file, read_index
from curate.summary import ANNOTATIONS

WORKERS = 4
"""Parts that are looked at at once."""
_IN_MEMORY = 64 << 20
"""A file up to this size is read once and held; a larger one is read a piece at a time."""
_AGAIN = "delete the file and run the pipeline again: it redoes this part"
_AGAIN_ALL = "run the pipeline again: it redoes what is not right"
_CLEAN = "curate clean removes it"


@dataclass(frozen=True)
class Checked:
    """What was looked at in one folder.

    Attributes:
        name: of the step, or what the files are.
        files, rows, bytes: how many; rows of column files only.
        unsigned: files that an earlier version wrote, without a digest of their own.
    """

    name: str
    files: int
    rows: int
    bytes: int
    unsigned: int = 0


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        run: the run directory.
        quick: whether only names, sizes and footers were looked at.
        checked: what was looked at.
        findings: what is wrong, by file; empty: nothing.
        notes: what could not be looked at, and why; nothing wrong.
        seconds: it took.
    """

    run: str
    quick: bool
    checked: tuple[Checked, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"ok": self.ok, **asdict(self)}


def verify_run(store: RunStore, quick: bool = False, workers: int = WORKERS) -> Verified:
    """Check a run directory against its manifest.

    Memory: the files of `workers` parts, and a few bytes for each file.

    Args:
        store: the run directory.
        quick: look at names, sizes and footers only, not at values.
        workers: parts that are looked at at once.

    Raises:
        InputError: it is no run directory.
        CurateError: a newer version of curate made it, or it cannot be reached.
    """
    started = time.monotonic()
    dropped = read_format(store).dropped
    tree = sorted_tree(store)
    if MANIFEST_FILE not in tree.files and not tree.parts_of(ANNOTATIONS):
        raise InputError(f"{store.url}: is no run directory: it has neither a manifest nor annotations")
    check = _Check(store, tree, quick, dropped, workers, lineage_of(store, tree))
    findings = _by_file(check.findings())
    return Verified(store.url, quick, check.checked(), findings, tuple(check.notes()), time.monotonic() - started)


def _by_file(findings: Iterator[Finding]) -> tuple[Finding, ...]:
    """One finding for each file, with all that is wrong with it."""
    found: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        found[finding.file].append(finding)
    return tuple(
        Finding(file, "; ".join(dict.fromkeys(each.problem for each in found[file])), found[file][0].advice)
        for file in sorted(found)
    )


@dataclass(frozen=True)
class _FileFacts:
    """What the footer of a column file says, made small: there is one for every file of the run."""

    fingerprint: str
    common: str
    rows: int
    size: int
    signed: bool


@dataclass(frozen=True)
class _Seen:
    """What was seen of one part, by step."""

    number: int
    seen: dict[str, _FileFacts]


@dataclass
class _Check:
    """One look at one run directory."""

    store: RunStore
    tree: RunTree
    quick: bool
    dropped: tuple[str, ...]
    workers: int
    made: RunLineage
    _seen: dict[str, dict[int, _FileFacts]] = field(default_factory=lambda: defaultdict(dict))

    def findings(self) -> Iterator[Finding]:
        yield from self.tree.findings()
        manifest = list(self._manifest())
        yield from manifest
        yield from self._artifacts()
        if self._parts is None:
            return
        yield from self._names()
        with ThreadPoolExecutor(self.workers) as pool:
            for look, found in pool.map(self._part, self._parts):
                for step, seen in look.seen.items():
                    self._seen[step][look.number] = seen
                yield from found
        yield from self._configurations()
        yield from self._duplicates()

    def checked(self) -> tuple[Checked, ...]:
        folders = [
            Checked(
                step,
                len(seen),
                sum(each.rows for each in seen.values()),
                sum(each.size for each in seen.values()),
                sum(not each.signed for each in seen.values()),
            )
            for step, seen in ((step, self._seen[step]) for step in self.made.lineage.folders if self._seen.get(step))
        ]
        others = [name for name in self.tree.files if name in (MANIFEST_FILE, ERRORS_FILE)]
        fits = [name for name in self.tree.files if name.startswith("artifacts/")]
        rows = 0 if self._parts is None else sum(part.rows for part in self._parts.values())
        return (
            Checked("manifest", len(others), rows, sum(self.tree.files[name] for name in others)),
            *folders,
            Checked("artifacts", len(fits), 0, sum(self.tree.files[name] for name in fits)),
        )

    def notes(self) -> Iterator[str]:
        unsigned = sum(not each.signed for seen in self._seen.values() for each in seen.values())
        if unsigned and not self.quick:
            yield (
                f"{unsigned:,} files were written by an earlier version of curate, without a digest of their own: a "
                "changed value is found only where files contradict each other"
            )
        for step in self._dropped_steps:
            yield f"{step}: was dropped by curate clean --intermediate; a further run would make it again"
        if self.made.lineage.rounds < self.made.lineage.rounds_planned:
            yield "refine: labels settled early, so its fingerprints cannot be made again"

    @cached_property
    def _parts(self) -> dict[int, Part] | None:
        """The manifest; None: it cannot be read."""
        try:
            return read_parts(self.store)
        except (CurateError, TypeError, LookupError):
            return None

    @cached_property
    def _index(self) -> dict[str, dict[str, DoneFile]]:
        return {step: read_index(self.store, step) for step in self.made.lineage.folders}

    @cached_property
    def _dropped_steps(self) -> list[str]:
        return [step for step in self.dropped if not self.tree.parts_of(step)]

    def _manifest(self) -> Iterator[Finding]:
        for name in (MANIFEST_FILE, ERRORS_FILE):
            if name not in self.tree.files:
                yield Finding(name, "is missing", _AGAIN_ALL)
                continue
            problem = _signature_problem(self.store, name)
            if problem is not None:
                yield Finding(name, problem, "delete it and run the pipeline again: it is made anew from the input")
            elif name == MANIFEST_FILE and self._parts is None:
                yield Finding(name, "is not the manifest of a run", "delete it and run the pipeline again")
        if MANIFEST_FILE in self.tree.files and ERRORS_FILE in self.tree.files:
            cuttings = {(self.store.read_facts(name) or {}).get("cutting") for name in (MANIFEST_FILE, ERRORS_FILE)}
            if len(cuttings) > 1:
                yield Finding(ERRORS_FILE, "is of another cutting of the input than the manifest", _AGAIN_ALL)

    def _names(self) -> Iterator[Finding]:
        """Files that are missing, and files that nobody asked for."""
        assert self._parts is not None
        lineage = self.made.lineage
        wanted = {part_file("", number)[1:] for number in self._parts}
        for step in lineage.folders:
            if step in self._dropped_steps or step in self.tree.linked:
                continue
            there = set(self.tree.parts_of(step))
            for name in sorted(wanted - there - self.tree.links_in(step)):
                yield Finding(f"{step}/{name}", "is missing", _AGAIN_ALL)
            for name in sorted(there - wanted):
                yield Finding(f"{step}/{name}", "is of a part that the manifest does not have", _CLEAN)
        for step in self.tree.folders:
            if step not in lineage.folders and self.tree.parts_of(step):
                yield Finding(step, "is of a step that the annotations do not rest on", f"{_CLEAN}; or run again")

    def _part(self, number: int) -> tuple[_Seen, list[Finding]]:
        """One part in all steps."""
        assert self._parts is not None
        look = _PartLook(self, number, self._parts[number])
        found = list(look.findings())
        # The look itself holds the part's columns.
        return _Seen(number, look.seen), found

    def _configurations(self) -> Iterator[Finding]:
        """All parts of a step are made alike."""
        for step, seen in self._seen.items():
            usual, _ = Counter(each.common for each in seen.values()).most_common(1)[0]
            for number, each in seen.items():
                if each.common != usual:
                    yield Finding(
                        part_file(step, number), "was made with another configuration than other parts", _AGAIN_ALL
                    )

    def _duplicates(self) -> Iterator[Finding]:
        """Each file of duplicates depends on all parts."""
        embedded, marked = self._seen.get(EMBED, {}), self._seen.get(DUPLICATES, {})
        assert self._parts is not None
        if not marked or not all(number in embedded for number in self._parts):
            return
        first = next(iter(marked))
        facts = self.store.read_facts(part_file(DUPLICATES, first)) or {}
        origin = [embedded[number].fingerprint for number in self._parts]
        wanted = self.made.lineage.fingerprint_of_duplicates(facts, origin)
        for number, each in marked.items():
            if wanted is not None and each.fingerprint != wanted:
                yield Finding(part_file(DUPLICATES, number), _WRONG_FINGERPRINT, _AGAIN_ALL)

    def _artifacts(self) -> Iterator[Finding]:
        lineage = self.made.lineage
        for fit in lineage.artifacts:
            if fit not in self.tree.fits:
                yield Finding(f"{artifact_folder(fit)}/{ARTIFACT_FILE}", "is missing", _FIT_AGAIN)
        for fit in self.tree.fits:
            if fit not in lineage.artifacts and self.made.annotated is not None:
                yield Finding(artifact_folder(fit), "is a fit that the annotations do not rest on", _CLEAN)
                continue
            yield from self._artifact(fit)

    def _artifact(self, fit: str) -> Iterator[Finding]:
        folder = artifact_folder(fit)
        said = self.made.fits.get(fit)
        if said is None:
            yield Finding(f"{folder}/{ARTIFACT_FILE}", "cannot be read", _FIT_AGAIN)
            return
        if SELF_DIGEST in said and said[SELF_DIGEST] != facts_digest(said):
            yield Finding(f"{folder}/{ARTIFACT_FILE}", "was edited: it is not what was written", _FIT_AGAIN)
        digests = said.get("digests", {})
        for name in said.get("files", []):
            file = f"{folder}/{name}"
            if file not in self.tree.files:
                yield Finding(file, "is missing", _FIT_AGAIN)
            elif not self.tree.files[file]:
                yield Finding(file, "is empty", _FIT_AGAIN)
            elif not self.quick and name in digests and self.store.digest(file) != digests[name]:
                yield Finding(file, "was changed: its digest is not the one it was written with", _FIT_AGAIN)
        for name in self.tree.files:
            if name.startswith(f"{folder}/") and name.rpartition("/")[2] not in (
                ARTIFACT_FILE,
                *said.get("files", []),
            ):
                yield Finding(name, "is no file of this fit", _CLEAN)

    def index_of(self, step: str, name: str) -> DoneFile | None:
        return self._index.get(step, {}).get(name)


_FIT_AGAIN = "delete the folder of the fit and run the pipeline again: it fits anew"
_WRONG_FINGERPRINT = (
    "does not follow from the files it was made from: it is of another part, of another run, or out of date"
)


@dataclass
class _PartLook:
    """One part of a run in all steps, those first that others were made from."""

    check: _Check
    number: int
    part: Part
    seen: dict[str, _FileFacts] = field(default_factory=dict)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _columns: dict[str, pa.Table] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        for step in self.check.made.lineage.folders:
            name = part_file(step, self.number)
            if name not in self.check.tree.files or step in self.check.tree.linked:
                continue
            problems: list[str] = []
            try:
                problems.extend(self._file(step, name, self.check.tree.files[name]))
            except (OSError, pa.ArrowException, ValueError, LookupError, TypeError, AttributeError) as error:
                # What was found before it stays in the list.
                problems.append(f"cannot be read: {_first_line(error)}")
            if problems:
                yield Finding(name, "; ".join(problems), _AGAIN)

    def _file(self, step: str, name: str, size: int) -> Iterator[str]:
        if not size:
            yield "is empty"
            return
        with self._opened(name, size) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            schema, footer = parquet.schema_arrow, parquet.metadata
            text = (schema.metadata or {}).get(FACTS_KEY)
            if text is None:
                yield "was not written by curate: it does not say how it was made"
                return
            facts = json.loads(text)
            self._facts[step] = facts
            promised = promised_digest(schema.metadata, footer.metadata)
            common = fingerprint(common_facts(step, facts))
            self.seen[step] = _FileFacts(facts["fingerprint"], common, footer.num_rows, size, promised is not None)
            changed = list(self._changed(file, step, name, text, promised))
            yield from changed
            if footer.num_rows != self.part.rows:
                yield f"has {footer.num_rows:,} rows, its part has {self.part.rows:,}"
            problem = column_problem(step, schema, facts)
            if problem is not None:
                yield problem
            yield from self._descent(step, facts)
            if not self.check.quick:
                yield from self._values(step, parquet, facts, promised is None or bool(changed))

    @contextmanager
    def _opened(self, name: str, size: int) -> Iterator[BinaryIO]:
        if size <= _IN_MEMORY and not self.check.quick:
            yield io.BytesIO(self.check.store.read_bytes(name))
        else:
            with self.check.store.open(name) as file:
                yield file

    def _changed(self, file: BinaryIO, step: str, name: str, facts: bytes, promised: str | None) -> Iterator[str]:
        """Whether the bytes are those that were written."""
        if self.check.quick:
            return
        now = digests_of_parquet(file, facts)
        known = self.check.index_of(step, name.rpartition("/")[2])
        if promised is not None and promised != now.content:
            yield "was changed: its content has not the digest it was written with"
        elif known is not None and known.digest is not None and known.digest != now.whole:
            yield "is not the file that the run wrote: the index has another digest"

    def _descent(self, step: str, facts: dict[str, Any]) -> Iterator[str]:
        """Whether the fingerprint is what follows from the files before."""
        lineage = self.check.made.lineage
        fit = lineage.fit_of(step, facts)
        if (
            fit is not None
            and fit[0] in self.check.made.fits
            and self.check.made.fits[fit[0]]["fingerprint"] != fit[1]
        ):
            yield f"was made with another fit than the one in {artifact_folder(fit[0])}"
        if step == DUPLICATES:
            return
        wanted = lineage.fingerprint(step, self.number, self.part, self._facts)
        if wanted is not None and wanted != facts["fingerprint"]:
            yield _WRONG_FINGERPRINT

    def _values(self, step: str, parquet: pq.ParquetFile, facts: dict[str, Any], read_all: bool) -> Iterator[str]:
        wanted = [name for name in parquet.schema_arrow.names if read_all or _is_needed(step, name)]
        try:
            table = parquet.read(columns=wanted)
        except (OSError, pa.ArrowException) as error:
            yield f"a page is damaged: {_first_line(error)}"
            return
        if step in (DOWNLOAD, EMBED, ANNOTATIONS):
            problem = _order_problem(table, self.part)
            if problem is not None:
                yield problem
        if step != ANNOTATIONS:
            if table.num_rows == self.part.rows:
                self._columns[step] = table
        elif is_current(facts) and set(self.check.made.lineage.steps) <= self._columns.keys():
            yield from self._contradictions(table)

    def _contradictions(self, annotations: pa.Table) -> Iterator[str]:
        """Columns of the annotations that are not those of the steps."""
        columns = overlaid(*(self._columns[step] for step in self.check.made.lineage.steps))
        if columns.num_rows != annotations.num_rows:
            return
        own = [field for field in annotations.schema if field.name not in ANNOTATION_SCHEMA.names]
        merged = annotation_table(columns, pa.schema([each for each in own if each.name in columns.column_names]))
        other = [
            name
            for name in merged.column_names
            if name in annotations.column_names and not _same(merged[name], annotations[name])
        ]
        if other:
            yield f"contradicts the files of its steps in {', '.join(other)}"


def _is_needed(step: str, column: str) -> bool:
    """Whether the annotations or the order of rows are checked by a column: embeddings and pictures are not."""
    if step == DOWNLOAD:
        return column == "row_id"
    return column not in ("image_embedding", "text_embedding")


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    # NaN is not equal to itself for Arrow.
    return bool(one.equals(other)) or repr(one.to_pylist()) == repr(other.to_pylist())


def _order_problem(table: pa.Table, part: Part) -> str | None:
    """Whether the rows are those of the part, in the order of the input."""
    wanted = [row_id(part.shard, row) for row in range(part.first_row, part.first_row + part.rows)]
    found = table.column("row_id").to_pylist()
    if found == wanted:
        return None
    if sorted(map(str, found)) == sorted(wanted):
        return "its rows stand in another order than those of the input"
    count = Counter(found)
    twice = next((each for each in found if count[each] > 1), None)
    missing = next((each for each in wanted if each not in count), None)
    told = [f"row {twice} is there twice" if twice else "", f"row {missing} is missing" if missing else ""]
    return ", ".join(each for each in told if each) or "it has rows that its part does not have"


def _signature_problem(store: RunStore, name: str) -> str | None:
    """What is wrong with a small Parquet file at the root of the run."""
    try:
        file = io.BytesIO(store.read_bytes(name))
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow.metadata or {}
        if FACTS_KEY not in schema:
            return "was not written by curate: it does not say how it was made"
        promised = promised_digest(schema, parquet.metadata.metadata)
        if promised is not None and promised != digests_of_parquet(file, schema[FACTS_KEY]).content:
            return "was changed: its content has not the digest it was written with"
        parquet.read()
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"cannot be read: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
