"""CoCa with a tiny open_clip config and seeded random weights, saved and loaded as a local checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from curate.completion.coca import Coca, concept_prompt
from curate.completion.decoders import Pictures
from curate.errors import InputError
from curate.models.towers import build_coca
from curate.models.weights import locate
from curate.noise.features import Features
from tests.tiny import IMAGE_SIZE, PREPROCESS_CONFIG, tiny_model

CONFIG = {
    "embed_dim": 16,
    "multimodal_cfg": {
        "width": 16, "context_length": 76, "vocab_size": 49408, "layers": 1, "dim_head": 8, "heads": 2,
        "n_queries": 8, "attn_pooler_heads": 2,
    },
    "vision_cfg": {
        "image_size": IMAGE_SIZE, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8, "output_tokens": True,
        "attentional_pool": True, "attn_pooler_heads": 2,
    },
    "text_cfg": {
        "context_length": 76, "vocab_size": 49408, "layers": 1, "heads": 2, "width": 16, "embed_cls": True,
        "output_tokens": True,
    },
    "custom_text": True,
}  # fmt: skip


def encode(captions) -> np.ndarray:
    return np.array([[len(caption), 1.0] for caption in captions], np.float32)


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> Coca:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder: Path = tmp_path_factory.mktemp("coca")
    config, checkpoint = folder / "coca.json", folder / "coca.safetensors"
    config.write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = {name: value for name, value in json.loads(json.dumps(CONFIG)).items() if name != "custom_text"}
        model = open_clip.CoCa(**given)
        for weight in model.parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, checkpoint)
    return Coca(build_coca(locate(str(config), str(checkpoint)), "fp32", "cpu"), encode, longest=6)


def pictures(rows: list[int], side: int = IMAGE_SIZE) -> Pictures:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, side, side, 3)).astype(np.uint8)[rows]
    nothing = np.zeros((len(rows), 0), np.float32)
    concepts = [[("dog", 2.0), ("ball", 1.0)] if row % 2 else [] for row in rows]
    keys, fold = np.array(rows, np.uint64), np.zeros(len(rows), np.int8)
    return Pictures(keys, fold, Features(*[nothing] * 6), nothing, concepts, pixels)


def test_writes_for_every_picture_whoever_stands_beside(coca: Coca):
    whole, part = coca(pictures(list(range(11)))), coca(pictures([9, 2]))
    assert part.captions == [whole.captions[9], whole.captions[2]]
    assert len(set(whole.captions)) > 1
    assert whole.text.shape == (11, 2)


def test_the_prompt_is_not_part_of_the_caption(coca: Coca):
    assert not any("a photo of" in caption for caption in coca(pictures(list(range(6)))).captions)


def test_prompt():
    assert concept_prompt([("dog", 2.0), ("ball", 1.0), ("sea", 0.5)], 2) == "dog, ball: a photo of"
    assert concept_prompt([], 2) == "a photo of"


def test_pictures_of_another_size(coca: Coca):
    with pytest.raises(InputError, match="coca needs pictures of 32 x 32 pixels; it got 16 x 16"):
        coca(pictures([0], side=16))


def test_a_model_without_a_decoder_is_named(tmp_path: Path):
    options = tiny_model(tmp_path)
    with pytest.raises(InputError, match="has no text decoder"):
        build_coca(locate(options.model, options.pretrained), "fp32", "cpu")
