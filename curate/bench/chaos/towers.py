"""Tiny open_clip towers with seeded random weights: `python -m curate.bench.chaos.towers FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

MODEL_FILE = "tiny.json"
WEIGHTS_FILE = "tiny.safetensors"

_MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    # The vocabulary is SimpleTokenizer's; nearly all of the checkpoint is its embedding table.
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
_PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2]}


def write_towers(folder: Path) -> None:
    """Write `MODEL_FILE`, an open_clip model config, and `WEIGHTS_FILE`, its weights.

    Raises:
        OSError: the folder cannot be written.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = json.dumps({"model_cfg": _MODEL, "preprocess_cfg": _PREPROCESSING})
    (folder / MODEL_FILE).write_text(config, encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(_MODEL)))
        # Initial weights are made for training: so small that all captions would come out nearly the same.
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=1.0 if "embedding" in name else 2 * weight.shape[-1] ** -0.5)
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE)


if __name__ == "__main__":
    write_towers(Path(sys.argv[1]))
