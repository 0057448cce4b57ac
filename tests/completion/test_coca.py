"""CoCa with a tiny open_clip config and seeded random weights, saved and loaded as a local checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.completion.coca import Coca, concept_prompt
from curate.completion.decoders import Pictures
from curate.errors import InputError
from curate.models.coca import CocaOptions, load_coca, resolve_coca
from curate.noise.features import Features
from tests.tiny import COCA_IMAGE_SIZE, tiny_coca

NAMES = ["dog", "ball", "sea", "a wooden table under a tree", "street sign"]


def encode(captions) -> np.ndarray:
    return np.array([[len(caption), 1.0] for caption in captions], np.float32)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> CocaOptions:
    return tiny_coca(tmp_path_factory.mktemp("coca"))


@pytest.fixture(scope="module")
def coca(options: CocaOptions) -> Coca:
    return Coca(load_coca(options, resolve_coca(options, "cpu")), encode, longest=6)


def pictures(rows: list[int], side: int = COCA_IMAGE_SIZE) -> Pictures:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, side, side, 3)).astype(np.uint8)[rows]
    nothing = np.zeros((len(rows), 0), np.float32)
    concepts = [[(name, 1.0) for name in (NAMES + NAMES)[row % 5 : row % 5 + row % 4]] for row in rows]
    keys, fold = np.array(rows, np.uint64), np.zeros(len(rows), np.int8)
    return Pictures(keys, fold, Features(*[nothing] * 6), nothing, concepts, pixels)


def test_writes_for_every_picture_whoever_stands_beside(coca: Coca):
    whole, part = coca(pictures(list(range(20)))), coca(pictures([9, 2]))
    assert part.captions == [whole.captions[9], whole.captions[2]]
    assert len(set(whole.captions)) > 10
    assert all(whole.captions)
    assert whole.text.shape == (20, 2)


def test_captions_are_open_clips_own(coca: Coca):
    """The same model, picture by picture and token by token, without padding or batches."""
    import torch

    model, tokenizer, given = coca.coca.model, coca.coca.tokenizer, pictures(list(range(8)))
    expected = []
    with torch.inference_mode():
        for row, named in enumerate(given.concepts):
            latent, seen = coca.coca.encode_images(torch.from_numpy(given.pixels[row : row + 1]))
            prompt = tokenizer([concept_prompt(named, 3)])[0]
            ids = prompt[: int(prompt.argmax())].tolist()
            text = list(ids)
            for step in range(6):
                logits = model(None, torch.tensor([text]), image_latent=latent, image_embs=seen, output_labels=False)[
                    "logits"
                ][0, -1]
                logits[[0, ids[0], *([] if step else [tokenizer.eot_token_id])]] = -torch.inf
                if int(logits.argmax()) == tokenizer.eot_token_id:
                    break
                text.append(int(logits.argmax()))
            expected.append(" ".join(tokenizer.decode(text[len(ids) :]).split()))
    assert coca(given).captions == expected


def test_no_pictures_no_captions(coca: Coca):
    assert coca(pictures([])).captions == []


def test_the_prompt_is_not_part_of_the_caption(coca: Coca):
    assert not any("a photo of" in caption for caption in coca(pictures(list(range(6)))).captions)


def test_concepts_change_what_is_written(coca: Coca):
    given = pictures([3, 7, 11])
    without = coca(replace(given, concepts=[[], [], []]))
    assert without.captions != coca(given).captions
    assert without.captions == replace(coca, concepts=0)(given).captions


def test_prompt():
    assert concept_prompt([("dog", 2.0), ("ball", 1.0), ("sea", 0.5)], 2) == "dog, ball: a photo of"
    assert concept_prompt([], 2) == "a photo of"


def test_a_prompt_longer_than_the_context_loses_its_last_concepts(coca: Coca):
    given = pictures([0])
    one, many = (replace(given, concepts=[[("a very long name " * 4, 1.0)] * most]) for most in (1, 20))
    assert replace(coca, concepts=20, longest=50)(many).captions == replace(coca, concepts=1, longest=50)(one).captions


def test_a_caption_longer_than_the_context_is_refused(coca: Coca):
    with pytest.raises(InputError, match=r"caption.coca.longest: .* at most 72 fit"):
        replace(coca, longest=73)


def test_pictures_of_another_size(coca: Coca):
    with pytest.raises(InputError, match="coca needs pictures of 24 x 24 pixels; it got 16 x 16"):
        coca(pictures([0], side=16))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_write_too(options: CocaOptions, precision: str):
    from curate.models.towers import build_coca
    from curate.models.weights import COCA, locate

    lower = Coca(build_coca(locate(options.model, options.pretrained, COCA), precision, "cpu"), encode, longest=6)
    assert all(lower(pictures(list(range(4)))).captions)
