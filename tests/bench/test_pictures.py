"""Pixels of a corpus: those of its pairs, in its order, and no more than memory is meant for them."""

from __future__ import annotations

import numpy as np
import pytest

from curate.bench.noise import load_corpus
from curate.bench.pictures import corpus_pixels
from curate.errors import InputError
from curate.execution import LocalRunner
from curate.plan import decode_options, make_plan
from curate.stages.decode import Decode
from tests.conftest import SilentProgress


@pytest.fixture
def plan(finished, tmp_path):
    copy = finished.copied_to(tmp_path)
    return make_plan(copy.config(), LocalRunner(1).index)


def test_pixels_are_those_of_the_pairs_in_their_order(plan):
    decode = decode_options(plan.config, plan.spec)
    corpus = load_corpus(plan, LocalRunner(1), SilentProgress(), "shapes")
    pixels = corpus_pixels(plan, decode)
    assert pixels.shape == (len(corpus.pairs), decode.size, decode.size, 3)
    of_checksum: dict[str, bytes] = {}
    for part in plan.manifest.parts.values():
        for batch in plan.source.read(plan.manifest.shards[part.shard], part, 100):
            decoded = Decode(decode)(batch)
            checksums = decoded.column("image_sha256").to_pylist()
            of_checksum |= dict(zip(checksums, decoded.column("pixels").to_pylist(), strict=True))
    assert [row.tobytes() for row in pixels] == [of_checksum[checksum] for checksum in corpus.image_sha256]
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) > 100


def test_too_many_pictures_are_said(plan):
    with pytest.raises(InputError, match=r"160 pictures of 32 x 32 pixels take .* GiB of memory.*--input"):
        corpus_pixels(plan, decode_options(plan.config, plan.spec), most_bytes=100_000)
