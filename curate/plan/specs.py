"""Models as they are resolved, remembered in the run directory: resolving may load them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from curate.config import CocaConfig, PipelineConfig
from curate.models.coca import resolve_coca
from curate.models.encoder import EncoderSpec, resolve_encoder
from curate.models.numerics import ModelSpec
from curate.plan.options import coca_options, encoder_options
from curate.store import RunStore

ENCODER_FILE = "_state/encoder.json"
COCA_FILE = "_state/coca.json"
_Spec = TypeVar("_Spec", bound=ModelSpec)


def remembered_encoder(config: PipelineConfig, store: RunStore) -> EncoderSpec:
    """The towers, resolved.

    Raises:
        InputError: they cannot be had.
    """
    asked, options = config.encoder, encoder_options(config)
    return remembered(store, ENCODER_FILE, EncoderSpec, asked.model_dump(), lambda: resolve_encoder(options))


def remembered_coca(coca: CocaConfig, store: RunStore, device: str) -> ModelSpec:
    """A CoCa checkpoint for this device, resolved.

    Raises:
        InputError: it cannot be had.
    """
    asked, options = {**coca.model_dump(), "device": device}, coca_options(coca)
    return remembered(store, COCA_FILE, ModelSpec, asked, lambda: resolve_coca(options, device))


def remembered(
    store: RunStore, file: str, kind: type[_Spec], options: dict[str, Any], resolve: Callable[[], _Spec]
) -> _Spec:
    """The spec as an earlier run resolved it if nothing about it changed: resolving may load the model."""
    asked = {"options": options, "files": _file_stamps(options["model"], options["pretrained"])}
    known = store.read_object(file)
    if known is not None and known.get("asked") == asked:
        spec = kind.from_json(known["spec"])
        if all(version(name) == found for name, found in spec.libraries.items()):
            return spec
    spec = resolve()
    store.write_json(file, {"asked": asked, "spec": spec.to_json()})
    return spec


def _file_stamps(*names: str | None) -> list[str]:
    files = [Path(name) for name in names if name]
    return [f"{file.stat().st_size}-{file.stat().st_mtime_ns}" for file in files if file.is_file()]
