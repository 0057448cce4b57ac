"""Tiny open_clip models with seeded random weights: encode and write in milliseconds, for end-to-end tests."""

from __future__ import annotations

import json
from pathlib import Path

from curate.models.coca import CocaOptions
from curate.models.encoder import EncoderOptions

IMAGE_SIZE = 32
EMBED_DIM = 16
BATCH_SIZE = 8
COCA_IMAGE_SIZE = 24

MODEL_CONFIG = {
    "embed_dim": EMBED_DIM,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    # The vocabulary is SimpleTokenizer's; nearly all of the checkpoint is its embedding table.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
}
PREPROCESS_CONFIG = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2]}


COCA_CONFIG = {
    "embed_dim": EMBED_DIM,
    "multimodal_cfg": {
        "width": 16, "context_length": 76, "vocab_size": 49408, "layers": 1, "dim_head": 8, "heads": 2,
        "n_queries": 8, "attn_pooler_heads": 2,
    },
    "vision_cfg": {
        "image_size": COCA_IMAGE_SIZE, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8,
        "output_tokens": True, "attentional_pool": True, "attn_pooler_heads": 2,
    },
    "text_cfg": {
        "context_length": 76, "vocab_size": 49408, "layers": 1, "heads": 2, "width": 16, "embed_cls": True,
        "output_tokens": True,
    },
    "custom_text": True,
}  # fmt: skip


def tiny_model(folder: Path, seed: int = 0) -> EncoderOptions:
    """Write `tiny.json` and `tiny.safetensors` to a folder; options that load them on the CPU in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "tiny.json"
    config.write_text(json.dumps({"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}))
    checkpoint = folder / "tiny.safetensors"
    _write_weights(checkpoint, seed)
    return EncoderOptions(
        model=str(config), pretrained=str(checkpoint), precision="fp32", device="cpu", batch_size=BATCH_SIZE
    )


def tiny_coca(folder: Path, seed: int = 0) -> CocaOptions:
    """The same for a tiny CoCa: `coca.json` and `coca.safetensors`; it takes smaller pictures than the tiny towers."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config, checkpoint = folder / "coca.json", folder / "coca.safetensors"
    config.write_text(json.dumps({"model_cfg": COCA_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}))
    given = {name: value for name, value in json.loads(json.dumps(COCA_CONFIG)).items() if name != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CoCa(**given)
        for weight in model.parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, checkpoint)
    return CocaOptions(str(config), str(checkpoint), "fp32", longest=6)


def _write_weights(checkpoint: Path, seed: int) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**json.loads(json.dumps(MODEL_CONFIG)))
        # Initial weights are made for training: so small that all captions would come out nearly the same.
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=1.0 if "embedding" in name else 2 * weight.shape[-1] ** -0.5)
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, checkpoint)
