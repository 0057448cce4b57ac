"""Python modules of the user's own, imported because a pipeline file names them.

What is hashed is what is executed: the module's file is read once, and its code runs from these bytes. So a module
that was edited is another one within the same process too, and no stale bytecode is ever taken for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import sys
import traceback
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from curate.errors import InputError

_EXECUTED = "__curate_executed__"
_MOST_FRAMES = 3


@dataclass(frozen=True)
class ImportedModule:
    """A module whose code has run.

    Attributes:
        module: the module.
        file: where its source is.
        folder: the entry of sys.path that it is found from.
        sha256: of its source, hex.
    """

    module: ModuleType
    file: Path
    folder: str
    sha256: str


def import_user_module(name: str, folder: str | None = None) -> ImportedModule:
    """Find a module in a folder or else in sys.path, and execute its source.

    The folder is added to the end of sys.path for what the module imports: there it hides nothing that is installed.

    Args:
        name: of the module, with dots.
        folder: where it is sought first; None: the current directory.

    Raises:
        InputError: there is no such module, it is no Python source, or it raises an exception.
    """
    first = folder or str(Path.cwd())
    if first not in sys.path:
        sys.path.append(first)
    importlib.invalidate_caches()
    spec = _spec(name, first)
    assert isinstance(spec.loader, SourceFileLoader)
    file = Path(spec.loader.path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be imported: {error}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    module = sys.modules.get(name)
    if module is None or vars(module).get(_EXECUTED) != (str(file), sha256):
        module = _executed(spec, data)
        vars(module)[_EXECUTED] = (str(file), sha256)
    is_package = spec.submodule_search_locations is not None
    root = file.parents[name.count(".") + is_package]
    return ImportedModule(module, file, str(root), sha256)


def _spec(name: str, first: str) -> ModuleSpec:
    # What was imported before under this name may be gone, or from another directory.
    known = sys.modules.pop(name, None)
    try:
        spec = PathFinder.find_spec(name, [first]) if "." not in name else None
        spec = spec or importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise InputError(f"cannot be imported: {error}; sought in {first} and in sys.path (PYTHONPATH)") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a package around the module is code of the user's own
        raise InputError(f"cannot be imported: {short_trace(error)}") from None
    finally:
        if known is not None:
            sys.modules[name] = known
    if spec is None:
        raise InputError(f"cannot be imported: there is no module '{name}' in {first} or in sys.path (PYTHONPATH)")
    if not isinstance(spec.loader, SourceFileLoader):
        raise InputError(f"cannot be imported: '{name}' is no Python source file (.py)")
    return spec


def _executed(spec: ModuleSpec, data: bytes) -> ModuleType:
    assert isinstance(spec.loader, SourceFileLoader)
    before = sys.modules.get(spec.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        exec(spec.loader.source_to_code(data, spec.loader.path), vars(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of the user's own may raise anything
        sys.modules.pop(spec.name)
        if before is not None:
            sys.modules[spec.name] = before
        raise InputError(f"cannot be imported: {short_trace(error, spec.loader.path)}") from None
    return module


def short_trace(error: BaseException, file: str | None = None) -> str:
    """An exception on one line: what it is, and the last places it came through, from this file of the user's on."""
    linecache.checkcache()
    frames = traceback.extract_tb(error.__traceback__)
    first = next((place for place, frame in enumerate(frames) if frame.filename == file), 0)
    shown = frames[first:][-_MOST_FRAMES:]
    places = [f"{Path(each.filename).name}:{each.lineno} in {each.name}: {each.line}" for each in shown]
    said = " ".join(str(error).split())
    return "; ".join([f"{type(error).__name__}: {said}" if said else type(error).__name__, *places])
