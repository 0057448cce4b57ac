"""A tiny open_clip model with seeded random weights: encodes in milliseconds, under 1 MB, for end-to-end tests."""

from __future__ import annotations

import json
from pathlib import Path

from curate.models.encoder import EncoderOptions

IMAGE_SIZE = 32
EMBED_DIM = 16
BATCH_SIZE = 8

MODEL_CONFIG = {
    "embed_dim": EMBED_DIM,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    # The vocabulary is SimpleTokenizer's; nearly all of the checkpoint is its embedding table.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
}
PREPROCESS_CONFIG = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2]}


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
