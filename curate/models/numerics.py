"""The numerics that a plan chooses for a model and every worker has to honour."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

from curate.errors import CurateError, InputError
from curate.models.weights import ModelFiles, ModelSection

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16", "fp16")

_LIBRARIES = ("torch", "open_clip_torch", "timm", "transformers", "tokenizers", "pillow", "numpy")

_Spec = TypeVar("_Spec", bound="ModelSpec")


@dataclass(frozen=True)
class ModelSpec:
    """A model that looks at images, and the numerics it runs with; chosen once when planning.

    Attributes:
        model: open_clip name, stem of a local config's file name, or "offline"; never a path.
        pretrained: open_clip tag, "local" or "offline"; never a path.
        weights_sha256: hex digest of the weights.
        config_sha256: hex digest of the architecture and of the preprocessing it asks for.
        image_size: side of the square that the model takes, in pixels.
        mean, std: per channel (RGB), for pixels in [0, 1].
        interpolation: bicubic or bilinear.
        resize_mode: shortest (then crop), longest (then pad with `fill_color`) or squash.
        fill_color: grey level of the padding, 0 to 255.
        device: cpu or cuda.
        precision: fp32, bf16 or fp16.
        threads: torch threads in each calling thread.
        libraries: versions of the libraries that decide on the numbers, by distribution name.
    """

    model: str
    pretrained: str
    weights_sha256: str
    config_sha256: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: str
    fill_color: int
    device: str
    precision: str
    threads: int
    libraries: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As a mapping of JSON types (lists for tuples)."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    @classmethod
    def from_json(cls: type[_Spec], content: Mapping[str, Any]) -> _Spec:
        """The spec that `to_json` wrote."""
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})


def spec_of(files: ModelFiles, preprocess: Mapping[str, Any], device: str, precision: str) -> ModelSpec:
    """The spec of a model with one thread and the libraries of this machine.

    Args:
        files: of the model.
        preprocess: how its images are prepared (keys of open_clip's PreprocessCfg, `size` a number).
        device: cpu or cuda.
        precision: fp32, bf16 or fp16.
    """
    return ModelSpec(
        model=files.model,
        pretrained=files.pretrained,
        weights_sha256=files.weights_sha256(),
        config_sha256=files.config_sha256(),
        image_size=int(preprocess["size"]),
        mean=_three(preprocess["mean"]),
        std=_three(preprocess["std"]),
        interpolation=str(preprocess["interpolation"]),
        resize_mode=str(preprocess["resize_mode"]),
        fill_color=int(preprocess["fill_color"]),
        device=device,
        precision=precision,
        threads=1,
        libraries=_library_versions(),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def choose_device(asked: str) -> str:
    """The device for auto, cpu or cuda."""
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def check_precision(asked: str, device: str, section: ModelSection) -> None:
    """Whether a device computes in the precision that was asked for (auto, fp32, bf16, fp16).

    Raises:
        InputError: it does not.
    """
    if device != "cpu":
        return
    if asked == "fp16":
        raise InputError(f"{section.key}.precision: fp16 is for a GPU; on a CPU use auto, fp32 or bf16")
    if asked == "bf16" and not cpu_has_bf16():
        raise InputError(
            f"{section.key}.precision: this CPU has no bf16 instructions (avx512_bf16, amx); use auto or fp32"
        )


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16 itself; without that bf16 is slower than fp32."""
    import torch

    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def check_worker(spec: ModelSpec, section: ModelSection) -> None:
    """Whether this worker has the planned libraries, device and precision.

    Raises:
        CurateError: it has not.
    """
    _check_libraries(spec)
    _check_device(spec, section)


def check_files(spec: ModelSpec, files: ModelFiles) -> None:
    """Whether this worker has the planned weights and config.

    Raises:
        CurateError: it has others.
    """
    found = {"weights_sha256": files.weights_sha256(), "config_sha256": files.config_sha256()}
    for name, digest in found.items():
        planned = getattr(spec, name)
        if digest != planned:
            raise _cannot_honour(
                spec,
                f"{name} of {spec.model}/{spec.pretrained} is {digest[:16]}..., planned {planned[:16]}...",
                "Give every worker the same files",
            )


def _library_versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            log.debug("%s is not installed", name)
    return versions


def _check_libraries(spec: ModelSpec) -> None:
    here = _library_versions()
    differing = [
        f"{name} {here.get(name, 'missing')} here, {planned} planned"
        for name, planned in spec.libraries.items()
        if here.get(name) != planned
    ]
    if differing:
        raise _cannot_honour(spec, "; ".join(differing), "Install the same versions on every worker")


def _check_device(spec: ModelSpec, section: ModelSection) -> None:
    import torch

    if spec.device == "cuda" and not torch.cuda.is_available():
        raise _cannot_honour(spec, "the plan chose cuda and torch sees no GPU", "Set encoder.device: cpu")
    if spec.device == "cpu" and spec.precision == "bf16" and not cpu_has_bf16():
        raise _cannot_honour(
            spec, "the plan chose bf16, which this CPU cannot compute in", f"Set {section.key}.precision: fp32"
        )
    if spec.device == "cuda" and spec.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # TF32 rounds to 10 bits, which is not what fp32 promises.


def _cannot_honour(spec: ModelSpec, problem: str, remedy: str) -> CurateError:
    return CurateError(
        f"this worker cannot run {spec.model} as planned: {problem}. {remedy}, or plan again with what it has."
    )
