"""From path patterns to shards: braces, globs, folders, in local and remote stores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product, zip_longest

from curate.errors import InputError
from curate.sources.base import Shard
from curate.sources.stores import Entry, LocalStore, Store, open_store

MAX_BRACE_EXPANSION = 1_000_000

_MAGIC = re.compile(r"[*?\[]")
_NUMBERS = re.compile(r"^(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?$")
_LETTERS = re.compile(r"^([A-Za-z])\.\.([A-Za-z])$")


@dataclass(frozen=True)
class _Match:
    """What one pattern names: files, and the fixed folder their names start behind."""

    scheme: str
    prefix: str
    uris: dict[str, str]
    entries: dict[str, Entry]

    def fixed_components(self) -> list[str]:
        rooted = next(iter(self.entries)).startswith("/")
        return self.prefix.split("/") if self.prefix or rooted else []


def list_files(patterns: tuple[str, ...], extensions: tuple[str, ...]) -> list[Shard]:
    """All files the patterns name, each once, sorted by name.

    A folder means all files in it, at any depth, with one of `extensions` (lower case, with dot). So does a glob whose
    last component has no extension of its own (`data/*`). Files and folders whose name begins with "_" or "." are
    passed over, unless the pattern itself spells that first character.

    Raises:
        InputError: a pattern names nothing, a brace list names a file that is not there, or a store is out of reach.
    """
    if not patterns:
        raise InputError("input.path is empty. Give a file, a folder, a pattern such as data/*.tar, or a list.")
    matches = [_match(pattern, extensions) for pattern in patterns]
    names = _relative_names(matches)
    return [
        Shard(name=name, uri=uri, size=entry.size, stamp=entry.stamp)
        for name, (uri, entry) in sorted(names.items(), key=lambda item: item[0])
    ]


def expand_braces(pattern: str) -> list[str]:
    """`x-{a,b}` and `x-{08..10}` written out, as a shell does; other braces stay as they are.

    Raises:
        InputError: more than a million results.
    """
    brace = _first_brace(pattern)
    if brace is None:
        return [pattern]
    start, end, choices = brace
    middles = [middle for choice in choices for middle in expand_braces(choice)]
    tails = expand_braces(pattern[end:])
    if len(middles) * len(tails) > MAX_BRACE_EXPANSION:
        raise InputError(f"{pattern}: the braces stand for more than {MAX_BRACE_EXPANSION:,} names. Use a * instead.")
    return [pattern[:start] + middle + tail for middle, tail in product(middles, tails)]


def _first_brace(pattern: str) -> tuple[int, int, list[str]] | None:
    """Position and choices of the first brace that stands for several names."""
    for start, character in enumerate(pattern):
        if character != "{":
            continue
        end = _closing_brace(pattern, start)
        choices = _choices(pattern[start + 1 : end - 1]) if end else None
        if end and choices:
            return start, end, choices
    return None


def _closing_brace(pattern: str, start: int) -> int | None:
    depth = 0
    for position in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[position], 0)
        if depth == 0:
            return position + 1
    return None


def _choices(inside: str) -> list[str] | None:
    if numbers := _NUMBERS.match(inside):
        return _number_range(numbers[1], numbers[2], int(numbers[3] or 1))
    if letters := _LETTERS.match(inside):
        first, last = sorted((ord(letters[1]), ord(letters[2])))
        return [chr(code) for code in range(first, last + 1)]
    parts = _split_top_level(inside)
    return parts if len(parts) > 1 else None


def _number_range(first: str, last: str, step: int) -> list[str]:
    low, high = sorted((int(first), int(last)))
    if (high - low) // max(step, 1) >= MAX_BRACE_EXPANSION:
        raise InputError(f"{{{first}..{last}}} stands for more than {MAX_BRACE_EXPANSION:,} names. Use a * instead.")
    padded = any(len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}d}" for number in range(low, high + 1, max(step, 1))]


def _split_top_level(inside: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for position, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(inside[begin:position])
            begin = position + 1
    return [*parts, inside[begin:]]


def _match(pattern: str, extensions: tuple[str, ...]) -> _Match:
    store, path = open_store(pattern)
    whole = store.entry(path) if _is_variable(path) and isinstance(store, LocalStore) else None
    if whole is not None:  # the name really contains brackets or braces
        return _matched(store, _parent(path), [whole])
    if not _is_variable(path):
        return _match_plain(pattern, store, path, extensions)
    prefix = _fixed_prefix(path)
    expansions = expand_braces(path)
    globs = [expansion for expansion in expansions if _MAGIC.search(expansion)]
    plain = [expansion for expansion in expansions if not _MAGIC.search(expansion)]
    entries = _named_files(pattern, store, plain, extensions)
    for expansion in globs:
        entries.extend(_glob(store, prefix, expansion, extensions))
    if not entries:
        raise InputError(_nothing_matches(pattern, store, prefix, extensions))
    return _matched(store, prefix, entries)


def _match_plain(pattern: str, store: Store, path: str, extensions: tuple[str, ...]) -> _Match:
    entry = store.entry(path)
    if entry is None:
        raise InputError(_nothing_matches(pattern, store, _parent(path), extensions))
    if not entry.is_dir:
        return _matched(store, _parent(path), [entry])
    files = list(_folder_files(store, path, extensions))
    if not files:
        raise InputError(_nothing_matches(pattern, store, path, extensions))
    return _matched(store, path, files)


def _matched(store: Store, prefix: str, entries: list[Entry]) -> _Match:
    return _Match(
        scheme=store.scheme,
        prefix=prefix,
        uris={entry.path: store.uri(entry.path) for entry in entries},
        entries={entry.path: entry for entry in entries},
    )


def _is_variable(path: str) -> bool:
    return bool(_MAGIC.search(path)) or _first_brace(path) is not None


def _fixed_prefix(path: str) -> str:
    """The folder before the first wildcard or brace."""
    magic = _MAGIC.search(path)
    brace = _first_brace(path)
    return _parent(path[: min(magic.start() if magic else len(path), brace[0] if brace else len(path))])


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _named_files(pattern: str, store: Store, paths: list[str], extensions: tuple[str, ...]) -> list[Entry]:
    """The files and folders a brace list or range spells out; each must be there."""
    found: list[Entry] = []
    missing: list[str] = []
    listings: dict[str, dict[str, Entry]] = {}
    for path in paths:
        folder = _parent(path)
        if folder not in listings:
            listings[folder] = {entry.path: entry for entry in store.list_dir(folder)}
        entry = listings[folder].get(path)
        if entry is None:
            missing.append(path)
        elif entry.is_dir:
            found.extend(_folder_files(store, path, extensions))
        else:
            found.append(entry)
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise InputError(
            f"input.path {pattern!r} spells out {len(paths)} names, of which {len(missing)} do not exist: {shown}. "
            "Correct the braces, bring the files, or use a * to take what is there."
        )
    return found


def _glob(store: Store, prefix: str, pattern: str, extensions: tuple[str, ...]) -> Iterator[Entry]:
    components = pattern[len(prefix) :].lstrip("/").split("/")
    components = [name for name, after in zip_longest(components, components[1:]) if (name, after) != ("**", "**")]
    loose = not _has_extension(components[-1])
    for entry in _walk(store, prefix, components, ()):
        if not loose or entry.name.lower().endswith(extensions):
            yield entry


def _has_extension(component: str) -> bool:
    """Whether a pattern says itself what kind of file it wants, as `*.tar` does and `00*` does not."""
    stem, dot, extension = component.rpartition(".")
    return bool(dot and stem and extension) and extension != "*"


def _folder_files(store: Store, folder: str, extensions: tuple[str, ...]) -> Iterator[Entry]:
    for entry in _walk(store, folder, ["**", "*"], ()):
        if entry.name.lower().endswith(extensions):
            yield entry


def _walk(store: Store, folder: str, components: list[str], above: tuple[str, ...]) -> Iterator[Entry]:
    """Files below `folder` that match the components; `above` are the real folders already entered (link loops)."""
    here = os.path.realpath(folder) if store.scheme == "file" else folder
    if here in above:
        return
    entries = store.list_dir(folder)
    if components[0] != "**":
        yield from _select(store, entries, components)
        return
    yield from _select(store, entries, components[1:] or ["*"])
    for entry in entries:
        if entry.is_dir and not _is_hidden(entry.name, "**"):
            yield from _walk(store, entry.path, components, (*above, here))


def _select(store: Store, entries: list[Entry], components: list[str]) -> Iterator[Entry]:
    head, rest = components[0], components[1:]
    for entry in entries:
        if _is_hidden(entry.name, head) or not fnmatchcase(entry.name, head):
            continue
        if entry.is_dir and rest:
            yield from _walk(store, entry.path, rest, ())
        elif not entry.is_dir and not rest:
            yield entry


def _is_hidden(name: str, component: str) -> bool:
    return name[0] in "_." and component[0:1] != name[0]


def _relative_names(matches: list[_Match]) -> dict[str, tuple[str, Entry]]:
    """Shard names behind the folder that all patterns share; behind the scheme too if patterns differ in it."""
    schemes = {match.scheme for match in matches}
    common = _common_components(matches) if len(schemes) == 1 else 0
    names: dict[str, tuple[str, Entry]] = {}
    for match in matches:
        for path, entry in match.entries.items():
            name = "/".join(path.split("/")[common:])
            if len(schemes) > 1:
                name = f"{match.scheme}/{path.split('://')[-1].lstrip('/')}"
            names[_printable_name(name)] = (match.uris[path], entry)
    return names


def _common_components(matches: list[_Match]) -> int:
    """How many leading path components all patterns share before their first wildcard."""
    count = 0
    for components in zip(*(match.fixed_components() for match in matches), strict=False):
        if len(set(components)) > 1:
            break
        count += 1
    return count


def _printable_name(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _nothing_matches(pattern: str, store: Store, folder: str, extensions: tuple[str, ...]) -> str:
    looked, missing = _nearest_folder(store, folder)
    names = [entry.name + ("/" if entry.is_dir else "") for entry in store.list_dir(looked)]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    there = f"which holds {len(names)} entries ({shown})" if names else "which is empty"
    if missing:
        there += f" and no folder {missing!r}"
    return (
        f"input.path {pattern!r} matches no file. Looked in {store.uri(looked) or '/'}, {there}. "
        f"Correct input.path, or bring {' or '.join(extensions)} files there "
        "(files and folders whose name begins with _ or . are passed over)."
    )


def _nearest_folder(store: Store, folder: str) -> tuple[str, str]:
    """The deepest existing folder of a path, and the component that is missing in it ("" if none is)."""
    missing = ""
    while "/" in folder and store.entry(folder) is None:
        folder, _, missing = folder.rpartition("/")
    return folder, missing
