"""The two halves of a model, image tower and text tower, behind one small interface; and how each kind is built."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.models import weights
from curate.models.weights import OFFLINE, ModelFiles

if TYPE_CHECKING:
    import torch

TokenIds = NDArray[np.int64]

TEXT_BUCKETS = (16, 32, 64, 128)
"""Captions are padded to the first of these token counts that holds them, or to the tower's context length."""


class ImageTower(Protocol):
    """uint8 [n, h, w, 3] on the tower's device -> features [n, dim] of any float type."""

    dim: int

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features, not normalised."""
        ...


class TextTower(Protocol):
    """Captions -> token ids -> features [n, dim] of any float type.

    `lengths` are the context lengths that the tower may be run at, ascending. `tokenize` gives each caption's own ids,
    never more than the last of them; `__call__` takes them padded with 0 to one of the lengths, and their counts.
    """

    dim: int
    lengths: tuple[int, ...]

    def tokenize(self, captions: list[str]) -> list[TokenIds]:
        """Token ids of each caption, int64, without padding that the tower would not see anyway."""
        ...

    def __call__(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Features, not normalised."""
        ...


@dataclass(frozen=True)
class Towers:
    """A pair of towers and how its images are prepared (keys of open_clip's PreprocessCfg)."""

    image: ImageTower
    text: TextTower
    preprocess: Mapping[str, Any]
    joint_space: bool


def build_towers(files: ModelFiles, precision: str, device: str) -> Towers:
    """Load a pair of towers.

    Args:
        files: where model and weights are.
        precision: fp32, bf16 or fp16.
        device: cpu or cuda.

    Raises:
        InputError: the config or the checkpoint is not what open_clip can build from.
    """
    if files.model == OFFLINE:
        return _offline_towers(files, precision, device)
    return _open_clip_towers(files, precision, device)


def _dtype(precision: str) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _normalised(pixels: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 NHWC -> normalised NCHW; the memory stays NHWC, which is torch's channels_last."""
    return (pixels.permute(0, 3, 1, 2).float() * scale - shift).to(dtype)


def _scale_and_shift(preprocess: Mapping[str, Any], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    mean, std = (torch.tensor(preprocess[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))
    return 1 / (255 * std), mean / std


# The offline pair: EfficientNet-Lite0 (ImageNet) and all-MiniLM-L6-v2. They have never seen each other.

_LITE0_PREPROCESS = {
    "size": 224,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
_MINILM_CONTEXT = 256


def offline_text_tower(files: ModelFiles, precision: str, device: str) -> TextTower:
    """The text tower of the offline pair alone."""
    assert files.folder is not None, "the offline text tower lies in a folder"
    return _MiniLm(files.folder, precision, device)


def _offline_towers(files: ModelFiles, precision: str, device: str) -> Towers:
    image = _Lite0(files.weights[0], precision, device)
    return Towers(image, offline_text_tower(files, precision, device), _LITE0_PREPROCESS, joint_space=False)


class _Lite0:
    """EfficientNet-Lite0's pooled features, before any classifier."""

    def __init__(self, checkpoint: Path, precision: str, device: str) -> None:
        import timm
        import torch

        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        theirs = weights.read_state_dict(checkpoint)
        # The names differ (`_conv_stem` for `conv_stem`), the order and the shapes do not.
        model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
        model.reset_classifier(0)
        model.eval().requires_grad_(False)
        _fold_batch_norms(model)
        self._dtype = _dtype(precision)
        self._model = model.to(device=device, dtype=self._dtype, memory_format=torch.channels_last)
        self._scale, self._shift = _scale_and_shift(_LITE0_PREPROCESS, device)
        self.dim = 1280

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._model(_normalised(pixels, self._scale, self._shift, self._dtype))
        return features


def _fold_batch_norms(module: torch.nn.Module) -> None:
    """Multiply each batch norm into the convolution before it; timm's batch norm carries the activation, which stays.

    Half again as fast on a CPU, embeddings equal to float32 rounding.
    """
    from timm.layers import BatchNormAct2d
    from torch.nn import Conv2d
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    previous_name, previous = "", None
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNormAct2d) and isinstance(previous, Conv2d):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, child.act)
        else:
            _fold_batch_norms(child)
        previous_name, previous = name, child


class _MiniLm:
    """all-MiniLM-L6-v2, mean over the tokens, as sentence-transformers does."""

    def __init__(self, folder: Path, precision: str, device: str) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        # Truncation and padding are set here and never again: a tokenizer that changes is not safe to share.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MINILM_CONTEXT)
        model = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
        theirs = weights.read_state_dict(folder / "model.safetensors")
        unused = [name for name in theirs if name.startswith("pooler.") or name == "embeddings.position_ids"]
        model.load_state_dict({name: tensor for name, tensor in theirs.items() if name not in unused})
        self._model = model.eval().requires_grad_(False).to(device=torch.device(device), dtype=_dtype(precision))
        self.dim = 384
        self.lengths: tuple[int, ...] = (*TEXT_BUCKETS, _MINILM_CONTEXT)

    def tokenize(self, captions: list[str]) -> list[TokenIds]:
        return [np.array(encoding.ids, dtype=np.int64) for encoding in self._tokenizer.encode_batch(captions)]

    def __call__(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        import torch

        mask = torch.arange(tokens.shape[1], device=tokens.device) < counts[:, None]
        hidden = self._model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        features: torch.Tensor = (hidden.float() * mask[:, :, None]).sum(1) / counts[:, None]
        return features


# open_clip models.


def _open_clip_towers(files: ModelFiles, precision: str, device: str) -> Towers:
    model = _open_clip_model(files, precision, device)
    preprocess = _preprocess(model, files)
    image = _OpenClipImages(model, preprocess, precision, device)
    text = _OpenClipTexts(model, _open_clip_tokenizer(files))
    return Towers(image, text, preprocess, joint_space=True)


@dataclass(frozen=True)
class CocaModel:
    """An open_clip CoCa model.

    Attributes:
        model: with its weights, in eval mode.
        tokenizer: CLIP's; texts -> int64 [n, context].
        preprocess: how its images are prepared, keys of open_clip's PreprocessCfg.
        precision: fp32, bf16 or fp16.
        device: cpu or cuda.
    """

    model: Any
    tokenizer: Any
    preprocess: Mapping[str, Any]
    precision: str
    device: str

    def encode_images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [n, h, w, 3], RGB -> latent [n, dim] and what the text decoder looks at [n, queries, width]."""
        scale, shift = _scale_and_shift(self.preprocess, self.device)
        prepared = _normalised(pixels.to(self.device), scale, shift, _dtype(self.precision))
        latent, seen = self.model._encode_image(prepared)
        return latent, seen


def build_coca(files: ModelFiles, precision: str, device: str) -> CocaModel:
    """Load a model that writes captions.

    Args:
        files: of a model that was asked for in the section COCA.
        precision: fp32, bf16 or fp16.
        device: cpu or cuda.

    Raises:
        InputError: config and checkpoint do not fit.
    """
    model = _open_clip_model(files, precision, device)
    return CocaModel(model, _open_clip_tokenizer(files), _preprocess(model, files), precision, device)


@dataclass(frozen=True)
class TrainableTowers:
    """An open_clip model that can be trained, in float32.

    Attributes:
        model: takes normalised pixels and tokens, gives unit rows of both and 1 / temperature.
        tokenizer: texts -> int64 [n, context].
        normalise: uint8 [n, side, side, 3] on the model's device -> float32 [n, 3, side, side].
    """

    model: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    normalise: Callable[[torch.Tensor], torch.Tensor]


def build_trainable_towers(files: ModelFiles, device: str) -> TrainableTowers:
    """Load a pair of towers to be trained.

    Raises:
        InputError: they are no open_clip model of two towers, or config and checkpoint do not fit.
    """
    if files.model == OFFLINE or "multimodal_cfg" in files.config.get("model_cfg", {}):
        raise InputError(
            f"encoder.model: {files.model} is no open_clip model of an image and a text tower, which alone can be "
            "trained as a whole. Name another, or train heads (refine.trainable: heads, bench --model heads)."
        )
    return _trainable(_open_clip_model(files, "fp32", device), files, device)


def build_untrained_towers(files: ModelFiles, device: str, seed: int) -> TrainableTowers:
    """A pair of towers with open_clip's random initial weights: the same ones for the same seed.

    Args:
        files: of a model of two towers; only its config counts.
        device: cpu or cuda.
        seed: of the weights, drawn on the CPU.

    Raises:
        InputError: open_clip cannot build towers from the config.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _without_weights(files, "fp32")
    return _trainable(_placed(model, device), files, device)


def _trainable(model: Any, files: ModelFiles, device: str) -> TrainableTowers:
    import torch

    scale, shift = _scale_and_shift(_preprocess(model, files), device)
    return TrainableTowers(
        model,
        partial(_open_clip_tokenizer(files), context_length=int(model.context_length)),
        lambda pixels: _normalised(pixels, scale, shift, torch.float32),
    )


def _open_clip_model(files: ModelFiles, precision: str, device: str) -> Any:
    """The model with its weights, in eval mode.

    open_clip.create_model would do, but it fetches weights itself, takes a config only from a folder, and logs to the
    root logger.
    """
    import open_clip

    model = _without_weights(files, precision)
    _load_weights(model, files)
    if precision != "fp32":
        whole = "timm_model_name" in files.config["model_cfg"]["vision_cfg"] or isinstance(model, open_clip.CoCa)
        _lower_precision(model, _dtype(precision), whole)
    return _placed(model, device)


def _placed(model: Any, device: str) -> Any:
    import torch

    return model.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)


def _without_weights(files: ModelFiles, precision: str) -> Any:
    """The model as its config has it, with random weights."""
    import open_clip

    config = json.loads(json.dumps(files.config["model_cfg"]))
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    custom_text = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "multimodal_cfg" in config:
        kind = open_clip.CoCa
    else:
        kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    try:
        return kind(**config, cast_dtype=open_clip.get_cast_dtype(precision))
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{files.section.key}.model: open_clip cannot build {files.model} from its config: {error}"
        ) from error


def _load_weights(model: Any, files: ModelFiles) -> None:
    import open_clip

    path = files.weights[0]
    # open_clip falls back to an unrestricted torch.load in some cases; a file that passes here leaves it no cause.
    found = weights.read_state_dict(path)
    try:
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except (RuntimeError, KeyError, AttributeError, StopIteration) as error:
        raise InputError(
            f"{files.section.key}.pretrained: {path}: this checkpoint does not fit {files.model}: "
            f"{_misfit(set(model.state_dict()), set(found), error)}"
        ) from error


def _misfit(wanted: set[str], found: set[str], error: Exception) -> str:
    """Which weights are missing or unexpected; where all names are right, what open_clip says."""
    found = {name.removeprefix("module.") for name in found}
    differing = {"missing": sorted(wanted - found), "unexpected": sorted(found - wanted)}
    told = [f"{what}: {_first_few(names)}" for what, names in differing.items() if names]
    return "; ".join(told) or "\n".join(line[:300] for line in str(error).splitlines()[:4])


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _lower_precision(model: Any, dtype: torch.dtype, whole: bool) -> None:
    """As open_clip.create_model does: layer norms stay in float32.

    Args:
        model: an open_clip model.
        dtype: of its weights.
        whole: all weights are lowered. open_clip's own choice of weights knows nothing of timm's towers, and misses
            the queries of CoCa's poolers.
    """
    import open_clip
    from open_clip.transformer import LayerNormFp32

    if not whole:
        open_clip.convert_weights_to_lp(model, dtype=dtype)
        return
    model.to(dtype=dtype)
    for module in model.modules():
        if isinstance(module, LayerNormFp32):
            module.float()


def _preprocess(model: Any, files: ModelFiles) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise InputError(
            f"{files.section.key}.model: {files.model} takes images of {width} x {height}; only squares are supported"
        )
    merged: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), files.config.get("preprocess_cfg", {}))
    return {**merged, "size": int(height)}


class _OpenClipImages:
    """The image tower of an open_clip model."""

    def __init__(self, model: Any, preprocess: Mapping[str, Any], precision: str, device: str) -> None:
        self._model = model
        self._dtype = _dtype(precision)
        self._scale, self._shift = _scale_and_shift(preprocess, device)
        self.dim = _output_width(self, int(preprocess["size"]), device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._model.encode_image(_normalised(pixels, self._scale, self._shift, self._dtype))
        return features


def _output_width(tower: _OpenClipImages, side: int, device: str) -> int:
    import torch

    with torch.inference_mode():
        return int(tower(torch.zeros((1, side, side, 3), dtype=torch.uint8, device=device)).shape[1])


class _OpenClipTexts:
    """The text tower of an open_clip model.

    Where attention is causal and the features are read at the end-of-text token, whatever follows that token changes
    nothing: short captions run at a short context length, several times faster. Other towers get their full length.
    """

    def __init__(self, model: Any, tokenizer: Callable[..., torch.Tensor]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tokenizer_lock = threading.Lock()
        self._context = int(model.context_length)
        self._causal = _causal_text(model)
        shorter = [length for length in TEXT_BUCKETS if length < self._context] if self._causal is not None else []
        self.lengths: tuple[int, ...] = (*shorter, self._context)
        self.dim = _text_width(self, model)

    def tokenize(self, captions: list[str]) -> list[TokenIds]:
        # Hugging Face tokenizers change their state while they work.
        with self._tokenizer_lock:
            tokens = self._tokenizer(captions, context_length=self._context)
        rows = tokens.numpy()
        if self._causal is None:
            return list(rows)
        return [row[: end + 1] for row, end in zip(rows, rows.argmax(axis=1), strict=True)]

    def __call__(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        if self._causal is not None:
            return _causal_features(self._causal, tokens)
        features: torch.Tensor = self._model.encode_text(tokens)
        return features


def _text_width(tower: _OpenClipTexts, model: Any) -> int:
    import torch

    device = next(model.parameters()).device
    tokens = torch.zeros((1, tower.lengths[-1]), dtype=torch.long, device=device)
    with torch.inference_mode():
        return int(tower(tokens, torch.ones(1, dtype=torch.long, device=device)).shape[1])


def _causal_text(model: Any) -> Any:
    """The module of a causal text tower that is read at its end-of-text token; None for a tower of another kind."""
    from open_clip import CLIP
    from open_clip.transformer import TextTransformer

    text = model if isinstance(model, CLIP) else getattr(model, "text", None)
    if not isinstance(text, CLIP | TextTransformer) or getattr(text, "cls_emb", None) is not None:
        return None
    pooled_at = text.text_pool_type if isinstance(text, CLIP) else text.pool_type
    return text if pooled_at == "argmax" and text.attn_mask is not None else None


def _causal_features(text: Any, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's own text forward on a context of tokens.shape[1] instead of the full length."""
    import torch

    length = tokens.shape[1]
    dtype = text.transformer.get_cast_dtype()
    x = text.token_embedding(tokens).to(dtype) + text.positional_embedding[:length].to(dtype)
    x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
    features: torch.Tensor = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]
    projection = text.text_projection
    if projection is None:
        return features
    projected: torch.Tensor = (
        projection(features) if isinstance(projection, torch.nn.Linear) else features @ projection
    )
    return projected


def _open_clip_tokenizer(files: ModelFiles) -> Callable[..., torch.Tensor]:
    from open_clip.tokenizer import HFTokenizer

    from curate.models.clip_tokenizer import ClipTokenizer

    text_cfg = files.config["model_cfg"]["text_cfg"]
    options = text_cfg.get("tokenizer_kwargs", {})
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        simple: Callable[..., torch.Tensor] = ClipTokenizer(**options)
        return simple
    local = files.folder is not None and (files.folder / "tokenizer.json").is_file()
    source = str(files.folder) if local else name
    shared = {"tokenizer_mode": text_cfg.get("tokenizer_mode"), **options}
    tokenizer: Callable[..., torch.Tensor]
    try:
        tokenizer = HFTokenizer(source, local_files_only=True, **shared)
    except OSError:
        weights.require_hub(f"the tokenizer {name}", files.section)
        tokenizer = HFTokenizer(source, **shared)
    return tokenizer
