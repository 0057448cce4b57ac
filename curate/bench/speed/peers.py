"""Peers: other projects' tools on the same images, each in its own environment, driven by its own interpreter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.bench.speed.child import ChildCommand, driver_child
from curate.bench.speed.workload import Workload, write_workload
from curate.errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPConfig

PEERS = {"clip_retrieval": "drive_clip_retrieval.py", "data_juicer": "drive_data_juicer.py"}
"""Driver script of each."""


def peer_child(name: str, python: Path, work: Workload, images: int, folder: Path) -> ChildCommand:
    """The first `images` pairs of the workload per measurement, by the same architecture with random weights."""
    model = json.loads(Path(work.model).read_text(encoding="utf-8"))["model_cfg"]
    share = write_workload(
        [work.shards], 0, images, images, (work.model, work.checkpoint, work.device), folder / "peers"
    )
    given = {
        "shards": [str(path) for path in sorted(Path(share.shards).parent.glob("*.tar"))],
        "files": _files(share, folder / "peers" / f"files-{images}"),
        "images": images,
        "towers": str(write_towers(model, folder / "peers" / f"towers-{Path(work.model).stem}")),
    }
    return driver_child(name, python, PEERS[name], given)


def _files(work: Workload, folder: Path) -> list[tuple[str, str]]:
    """Pictures as files, with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (image, caption) in enumerate(zip(*work.pairs(), strict=True)):
        file = folder / f"{number:09d}.jpg"
        file.write_bytes(image)
        files.append((str(file), caption))
    return files


def write_towers(model: dict[str, Any], folder: Path) -> Path:
    """A folder that transformers' CLIPModel and CLIPProcessor load: an open_clip architecture with random weights.

    Args:
        model: open_clip's model_cfg, of two Transformers.
        folder: where it goes; what lies there already is taken.

    Raises:
        InputError: transformers is not installed here.
    """
    if importlib.util.find_spec("transformers") is None:
        raise InputError(
            "--peer needs transformers, to write weights that peers can load: pip install curate[offline]"
        )
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPModel

    if (folder / "preprocessor_config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CLIPModel(_clip_config(model))
    made.config.save_pretrained(folder)
    tensors = {name: tensor.contiguous().clone() for name, tensor in made.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write_tokenizer(folder, int(model["text_cfg"]["context_length"]))
    side = int(model["vision_cfg"]["image_size"])
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "feature_extractor_type": "CLIPFeatureExtractor",
            "do_resize": True,
            "size": {"shortest_edge": side},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_normalize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    return folder


def _clip_config(model: dict[str, Any]) -> CLIPConfig:
    from transformers import CLIPConfig

    vision, text = model["vision_cfg"], model["text_cfg"]
    ids = {"bos_token_id": text["vocab_size"] - 2, "eos_token_id": text["vocab_size"] - 1}
    return CLIPConfig(
        projection_dim=model["embed_dim"],
        vision_config={
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
        },
        text_config={
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            **ids,
        },
    )


def _write_tokenizer(folder: Path, context_length: int) -> None:
    """CLIP's byte pairs, which open_clip has too, in the files that transformers reads."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}
    _write(folder / "vocab.json", {names.get(text, text): number for text, number in tokenizer.encoder.items()})
    merges = "\n".join(" ".join(pair) for pair in tokenizer.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "bos_token": start,
            "eos_token": end,
            "unk_token": end,
            "pad_token": end,
            "model_max_length": context_length,
        },
    )


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
