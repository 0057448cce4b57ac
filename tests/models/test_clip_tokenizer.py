"""The ids are open_clip's own for every text, and a word of a hundred thousand letters takes seconds."""

import random
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from curate.models.clip_tokenizer import MOST_REMEMBERED, ClipTokenizer, merged


@pytest.fixture(scope="module")
def theirs():
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def ours():
    return ClipTokenizer()


def test_tokens_of_captions_are_open_clips(ours, theirs):
    captions = [
        "",
        " ",
        "a dog's ball",
        "Crème brûlée &amp; tea 2024!!",
        "狗在草地上",
        "<end_of_text> x",
        "\x00\x1b[31m",
        "👩‍👩‍👧 " * 40,
    ]
    for context in (None, 8, 77):
        assert torch.equal(ours(captions, context), theirs(captions, context))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=300) | st.text("abé!1 ", max_size=300), min_size=1, max_size=3), st.integers(3, 80))
def test_any_text_has_open_clips_tokens(ours, theirs, texts, context):
    assert torch.equal(ours(texts, context), theirs(texts, context))


@pytest.mark.parametrize("letters", ["ab", "abcdefghijklmnopqrstuvwxyz", "aeiotnsrhl", "ĠÃ©¶æľĢ", "a", "ha"])
def test_long_words_are_merged_as_open_clip_does(theirs, letters):
    draw = random.Random(0)
    for length in (1, 2, 3, 65, 400):
        word = "".join(draw.choice(letters) for _ in range(length))
        assert " ".join(merged(word, theirs.bpe_ranks)) == theirs.bpe(word)


def test_a_word_of_a_hundred_thousand_letters_takes_seconds(ours):
    draw = random.Random(0)
    word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=100_000))
    begun = time.process_time()
    ids = ours([word])
    assert time.process_time() - begun < 20
    assert ids.shape == (1, 77)
    assert ids[0, -1] == ours.eot_token_id


def test_words_are_not_remembered_without_end(ours):
    ours.cache.update({f"w{number}": "w" for number in range(MOST_REMEMBERED + 1)})
    assert ours(["a dog"])[0, 3] == ours.eot_token_id
    assert len(ours.cache) < 10
