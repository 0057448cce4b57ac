"""curate: offline curation of noisy web image-text corpora."""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    from curate.stages.python import Stage

__all__ = ["CurateError", "InputError", "Stage"]
__version__ = version("curate")

# A library says nothing unless its user asks for it.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Imported when they are first used: `import curate` costs nothing.
_HOMES = {"Stage": "curate.stages.python"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
