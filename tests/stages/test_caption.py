from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate.completion.fit import CompletionSample, fit_completion
from curate.completion.policy import CaptionColumns, Policy
from curate.errors import InputError
from curate.schema import CONCEPTS_TYPE
from curate.stages.caption import Caption, KeepCaptions
from curate.stages.noise import Noise
from tests.completion.test_fit import QUICK, encode, said
from tests.noise.synthetic import corpus, quick_fit
from tests.stages.test_noise import as_table, with_column


@pytest.fixture(scope="module")
def fitted() -> tuple[Caption, pa.Table]:
    pairs, _ = corpus(rows=240, mismatched=0.3)
    pairs = replace(pairs, captions=[said(int(caption.split()[1])) for caption in pairs.captions])
    model = quick_fit(pairs)
    table = as_table(pairs, pa.list_(pa.float16()))
    noise = Noise(model)(table)
    concepts = [[{"name": caption.split()[-1], "score": 1.0}] for caption in pairs.captions]
    for column in noise.schema.names:
        table = table.append_column(noise.schema.field(column), noise[column])
    table = table.append_column("concepts", pa.array(concepts, CONCEPTS_TYPE))
    sample = CompletionSample(
        pairs.image_sha256, pairs.captions, pairs.image, pairs.text, noise["noise_prob"].to_numpy(),
        noise["fold"].to_numpy(), [[(held[0]["name"], 1.0)] for held in concepts],
    )  # fmt: skip
    completion = replace(fit_completion(sample, model, QUICK, 0), threshold=0.0)
    return Caption(
        completion, model, encode, CaptionColumns(decoder="consensus", policy=Policy(accept_quantile=0.0, margin=0.0))
    ), table


def test_doubtful_rows_get_a_caption_and_learned_ones_never(fitted):
    stage, table = fitted
    made = stage(table)
    assert made.schema.equals(stage.provides, check_metadata=True)
    noise = table["noise_prob"].to_numpy()
    written = made["synthetic_caption"].is_valid().to_numpy()
    np.testing.assert_array_equal(written, noise >= QUICK.trusted_below)
    assert set(made["caption_source"].to_pylist()) == {"original", "synthetic"}


def test_without_a_model_every_caption_stays_and_nothing_is_written(fitted):
    table = with_column(fitted[1], "caption", [None, " ", *fitted[1]["caption"].to_pylist()[2:]])
    made = KeepCaptions()(table)
    assert made.schema.equals(Caption.provides, check_metadata=True)
    assert made["completed_caption"].to_pylist() == table["caption"].to_pylist()
    assert made["caption_source"].to_pylist() == [None] + ["original"] * 239
    assert made["p_use_synthetic"].to_pylist() == [None] + [0.0] * 239
    assert made["synthetic_caption"].null_count == made["synthetic_score"].null_count == 240


def test_whoever_is_not_completed_keeps_the_original(fitted):
    stage, table = fitted
    for row, made in zip(table["caption"].to_pylist(), stage(table).to_pylist(), strict=True):
        if made["caption_source"] == "original":
            assert (made["completed_caption"], made["p_use_synthetic"]) == (row, 0.0)
        else:
            assert made["completed_caption"] == made["synthetic_caption"]


@pytest.mark.parametrize("decoder", ["default", "consensus"])
def test_same_bytes_whatever_the_batch(fitted, decoder):
    table = fitted[1]
    stage = Caption(fitted[0].model, fitted[0].noise, encode, CaptionColumns(decoder=decoder))
    pieces = [stage(table.slice(start, 37)) for start in range(0, 240, 37)]
    assert pa.concat_tables(pieces).combine_chunks().equals(stage(table).combine_chunks())


def test_no_caption_is_completed_and_no_picture_is_not(fitted):
    stage, table = fitted
    captions = table["caption"].to_pylist()
    captions[0], captions[1], captions[2] = None, " ", None
    broken = with_column(table, "caption", captions)
    broken = with_column(broken, "text_embedding", [None, None, None, *broken["text_embedding"].to_pylist()[3:]])
    broken = with_column(broken, "image_embedding", [*broken["image_embedding"].to_pylist()[:2], None,
                                                     *broken["image_embedding"].to_pylist()[3:]])  # fmt: skip
    for column in ("noise_prob", "label"):
        broken = with_column(broken, column, [None, None, None, *broken[column].to_pylist()[3:]])
    made = stage(broken).slice(0, 3).to_pylist()
    assert made[0]["synthetic_caption"]
    assert made[1]["synthetic_caption"]
    assert made[2] == dict.fromkeys(stage.provides.names)


def test_a_condition_that_is_not_understood(fitted):
    stage, _ = fitted
    with pytest.raises(InputError, match="colour"):
        Caption(stage.model, stage.noise, encode, CaptionColumns(when="colour == 1"))
