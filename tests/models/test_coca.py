"""Which CoCa is loaded, and what the user is told when it cannot be had."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from curate.errors import CurateError, InputError
from curate.models import numerics
from curate.models.coca import CocaOptions, load_coca, resolve_coca
from curate.models.numerics import ModelSpec
from tests.tiny import COCA_CONFIG, COCA_IMAGE_SIZE, tiny_coca, tiny_model


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> CocaOptions:
    return tiny_coca(tmp_path_factory.mktemp("coca"))


@pytest.fixture(scope="module")
def spec(options: CocaOptions) -> ModelSpec:
    return resolve_coca(options, "cpu")


def test_the_spec_survives_json_and_names_no_path(options: CocaOptions, spec: ModelSpec):
    text = json.dumps(spec.to_json())
    assert ModelSpec.from_json(json.loads(text)) == spec
    assert str(Path(options.model).parent) not in text
    assert (spec.model, spec.pretrained, spec.image_size) == ("coca", "local", COCA_IMAGE_SIZE)
    assert (spec.device, spec.precision) == ("cpu", "fp32")


@pytest.mark.parametrize(("asked", "device", "chosen"), [("auto", "cuda", "fp16"), ("auto", "cpu", "fp32")])
def test_the_precision_follows_the_device(options: CocaOptions, asked: str, device: str, chosen: str):
    assert resolve_coca(dataclasses.replace(options, precision=asked), device).precision == chosen


def test_a_checkpoint_that_does_not_fit_is_named_with_what_is_wrong(options: CocaOptions, tmp_path: Path):
    import torch
    from safetensors.torch import load_file

    tensors = load_file(str(options.pretrained))
    tensors["text_decoder.surplus"] = tensors.pop("text_decoder.text_projection")
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(InputError) as caught:
        resolve_coca(dataclasses.replace(options, pretrained=str(tmp_path / "other.pt")), "cpu")
    assert str(caught.value) == (
        f"caption.coca.pretrained: {tmp_path / 'other.pt'}: this checkpoint does not fit coca: "
        "missing: text_decoder.text_projection; unexpected: text_decoder.surplus"
    )


def test_a_checkpoint_with_weights_of_another_shape_is_named(options: CocaOptions, tmp_path: Path):
    import torch
    from safetensors.torch import load_file

    tensors = load_file(str(options.pretrained))
    tensors["text_decoder.text_projection"] = tensors["text_decoder.text_projection"][:, :-1]
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(
        InputError, match=r"does not fit coca: (.*\n)*.*size mismatch for text_decoder.text_projection"
    ):
        resolve_coca(dataclasses.replace(options, pretrained=str(tmp_path / "other.pt")), "cpu")


def test_the_checkpoint_of_towers_does_not_fit(options: CocaOptions, tmp_path: Path):
    towers = tiny_model(tmp_path)
    with pytest.raises(InputError, match=r"tiny.safetensors: .* does not fit coca: missing: .* more; unexpected: "):
        resolve_coca(dataclasses.replace(options, pretrained=str(towers.pretrained)), "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "offline"}, "caption.coca.model: offline has no text decoder"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, "caption.coca.model: ViT-B-32 has no text decoder"),
        ({"model": "coca_roberta-ViT-B-32"}, "has a text tower from Hugging Face"),
        ({"model": "coca_ViT-B-23"}, "caption.coca.model: .* Did you mean coca_ViT-B-32"),
        ({"model": "coca_ViT-B-32", "pretrained": "laion"}, "caption.coca.pretrained: .* mscoco_finetuned"),
        ({"model": "coca_ViT-B-32", "pretrained": None}, "caption.coca.pretrained: .*has no weights without it"),
        ({"model": "no/such.json"}, "caption.coca.model: no/such.json: no such file"),
        ({"pretrained": "no/such.pt"}, "caption.coca.pretrained: no/such.pt: no such file"),
        ({"precision": "fp16"}, "caption.coca.precision: fp16 is for a GPU"),
    ],
)
def test_wrong_options_are_said(options: CocaOptions, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        resolve_coca(dataclasses.replace(options, **changes), "cpu")


def test_a_config_without_a_text_decoder_is_no_coca(tmp_path: Path):
    towers = tiny_model(tmp_path)
    with pytest.raises(InputError, match=r"caption.coca.model: .*tiny.json has no text decoder"):
        resolve_coca(CocaOptions(towers.model, towers.pretrained), "cpu")


def test_a_config_that_open_clip_cannot_build(options: CocaOptions, tmp_path: Path):
    (tmp_path / "bad.json").write_text(json.dumps({**COCA_CONFIG, "multimodal_cfg": {"depth": 3}}))
    with pytest.raises(InputError, match=r"caption.coca.model: open_clip cannot build bad .*depth"):
        resolve_coca(dataclasses.replace(options, model=str(tmp_path / "bad.json")), "cpu")


def test_without_a_hub_the_user_is_told_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(CurateError, match=r"coca_ViT-B-32.* cannot be reached.*pretrained: path.*decoder: default"):
        resolve_coca(CocaOptions("coca_ViT-B-32", "laion2b_s13b_b90k"), "cpu")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 .* planned 0000"),
        ({"libraries": {"torch": "1.0.0"}}, "torch .* here, 1.0.0 planned"),
        ({"precision": "bf16"}, "Set caption.coca.precision: fp32"),
        ({"device": "cuda"}, "sees no GPU"),
    ],
)
def test_a_worker_that_cannot_honour_the_spec_says_so(
    options: CocaOptions, spec: ModelSpec, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(numerics, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(CurateError, match=f"cannot run coca as planned.*{message}"):
        load_coca(options, dataclasses.replace(spec, **changes))
