"""curate: offline curation of noisy web image-text corpora.

`run` a pipeline, `open` what it left, write a `Stage` of your own: docs/python.md, docs/write-a-stage.md.
"""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    from curate.api import decode_picture, open, run
    from curate.config import PipelineConfig
    from curate.opened_run import Pair, Run
    from curate.stages.python import Stage

__all__ = ["CurateError", "InputError", "Pair", "PipelineConfig", "Run", "Stage", "decode_picture", "open", "run"]
__version__ = version("curate")

# A library says nothing unless its user asks for it.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Imported when they are first used: `import curate` costs nothing.
_HOMES = {
    "Pair": "curate.opened_run",
    "PipelineConfig": "curate.config",
    "Run": "curate.opened_run",
    "Stage": "curate.stages.python",
    "decode_picture": "curate.api",
    "open": "curate.api",
    "run": "curate.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
