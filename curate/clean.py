"""What a run directory holds and does not need: leftovers, parts and steps of earlier pipelines, intermediates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curate.errors import CurateError
from curate.lineage import PYTHON_PREFIX
from curate.manifest import read_parts
from curate.plan.step import CAPTION_FIT, CONCEPTS_FIT, DUPLICATES, EMBED, NOISE_FIT, REFINE_FIT
from curate.run_format import check_format, read_format, write_format
from curate.run_lineage import RunLineage, lineage_of
from curate.run_tree import RunTree, sorted_tree
from curate.state import remembered_config
from curate.store import INDEX_FOLDER, RunStore, part_file
from curate.summary import ANNOTATIONS
from curate.training import CHECKPOINT_FILE
from curate.verify import verify_run

_HELD = "annotations hold its columns"
_OLD_JOURNAL = "_state/done.jsonl"
# Embeddings and downloads are in no annotation: they are never dropped.
_HELD_BY_ANNOTATIONS = (NOISE_FIT, DUPLICATES, REFINE_FIT, CONCEPTS_FIT, CAPTION_FIT)


@dataclass(frozen=True)
class Needless:
    """A file that a run does not need: its name, its bytes, why."""

    name: str
    size: int
    why: str


def needless_files(store: RunStore) -> list[Needless]:
    """Temporary files of killed writers, and files of parts, steps and fits that are no longer of the run.

    What the remembered pipeline or the annotations rest on is never among them, nor what is not curate's.

    Raises:
        CurateError: there is no manifest, or a newer version of curate made the run.
    """
    check_format(store)
    tree = sorted_tree(store)
    made = lineage_of(store, tree)
    found = {each.name: each for each in _needless(store, tree, made)}
    return [found[name] for name in sorted(found)]


def intermediate_files(store: RunStore, needless: Sequence[Needless]) -> list[Needless]:
    """Files of steps whose columns the annotations hold as well; a further run of the pipeline would make them again.

    Embeddings, downloads and what rounds of trained towers left are kept: annotations do not hold them.

    Args:
        store: the run directory.
        needless: what goes anyway: it may be wrong.

    Raises:
        CurateError: something is wrong with the run, so that annotations may not hold what they should.
    """
    going = {each.name for each in needless} | {each.name.rpartition("/")[0] for each in needless}
    wrong = [finding for finding in verify_run(store, quick=True).findings if finding.file not in going]
    if wrong:
        raise CurateError(
            f"{store.url}: nothing is dropped while something is wrong: {wrong[0].file} {wrong[0].problem}. "
            "`curate verify` lists everything; run the pipeline again or clean the run first."
        )
    tree = sorted_tree(store)
    lineage = lineage_of(store, tree).lineage
    # What rounds of trained towers did is told from the noise step's files.
    kept = {NOISE_FIT} if lineage.trains_towers else set()
    steps = [step for step in lineage.steps if _is_held(step) and step not in kept]
    return [
        Needless(f"{step}/{name}", tree.files[f"{step}/{name}"], _HELD)
        for step in steps
        for name in tree.parts_of(step)
    ]


def remove(store: RunStore, files: Sequence[Needless], version: str) -> int:
    """Delete files; returns the bytes freed. Steps whose files are dropped are noted in the run's format file.

    Args:
        store: the run directory, locked.
        files: of `needless_files` and `intermediate_files`.
        version: of curate.

    Raises:
        CurateError: the run directory cannot be written.
    """
    dropped = {each.name.partition("/")[0] for each in files if each.why == _HELD}
    if dropped:
        # First: a kill in between must not make files look lost that were dropped.
        write_format(store, version, sorted(dropped | set(read_format(store).dropped)))
    for each in files:
        store.delete(each.name)
    return sum(each.size for each in files)


def _is_held(step: str) -> bool:
    return step in _HELD_BY_ANNOTATIONS or step.startswith(PYTHON_PREFIX)


def _needless(store: RunStore, tree: RunTree, made: RunLineage) -> Iterator[Needless]:
    for name in tree.temporary:
        yield Needless(name, tree.files[name], "left by a writer that was killed")
    parts = {part_file("", number)[1:] for number in read_parts(store)}
    steps = _needed_steps(store, made)
    for step in tree.folders:
        for name in tree.parts_of(step):
            file = f"{step}/{name}"
            if made.annotated and not _is_needed(step, steps):
                yield Needless(file, tree.files[file], "of a step that is no longer in the pipeline")
            elif name not in parts:
                yield Needless(file, tree.files[file], "of a part that is no longer in the input")
    for file, size in tree.files.items():
        if file.startswith("artifacts/") and file not in tree.temporary:
            fit, _, name = file.removeprefix("artifacts/").partition("/")
            said = made.fits.get(fit)
            if made.annotated and fit not in made.lineage.artifacts and not _is_needed(fit, steps):
                yield Needless(file, size, "of a fit that is no longer in the pipeline")
            elif said is not None and name == CHECKPOINT_FILE and name not in said.get("files", ()):
                yield Needless(file, size, "checkpoint of a training that is done")
        elif file == _OLD_JOURNAL:
            yield Needless(file, size, "index of an earlier version of curate")
        elif file.startswith(f"{INDEX_FOLDER}/") and not tree.parts_of(file.rpartition("/")[2].removesuffix(".json")):
            yield Needless(file, size, "index of a step that has no files")


def _needed_steps(store: RunStore, made: RunLineage) -> set[str]:
    """Names of steps and fits, those of the pipeline that is going to be gone on with among them."""
    steps = {*made.lineage.folders, *made.lineage.artifacts}
    config = remembered_config(store)
    if config is None:
        return steps
    named = {EMBED, ANNOTATIONS}
    for name in _HELD_BY_ANNOTATIONS:
        if getattr(config.stages, NOISE_FIT if name == DUPLICATES else name) is not None:
            named.add(name)
    if config.stages.python:
        named.add(PYTHON_PREFIX)
    if config.stages.refine is not None and config.stages.refine.trainable != "heads":
        named.add(f"{REFINE_FIT}-")
    return steps | named


def _is_needed(name: str, steps: set[str]) -> bool:
    prefixes = [each for each in (PYTHON_PREFIX, f"{REFINE_FIT}-") if each in steps]
    return name in steps or any(name.startswith(prefix) for prefix in prefixes)
