"""`curate bench captions`: flat records of every decoder, the truth and the policy, that can be made again."""

from __future__ import annotations

import numpy as np
import pytest

from curate.bench.captions import TRUTH, CaptionBench, bench_captions, check_decoders
from curate.bench.noise import Condition, Corpus
from curate.completion.policy import Policy
from curate.concepts.fit import ConceptOptions
from curate.concepts.words import english_tokenizer
from curate.corpora.pairs import Pair
from curate.errors import InputError
from tests.completion.test_fit import COLOURS, QUICK, THINGS, encode
from tests.noise.synthetic import SMALL, corpus

pytest.importorskip("sacrebleu")
RECORD = ["bench", "corpus", "kind", "rate", "seed", "method", "subset", "metric", "value", "unit"]


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    sample, _ = corpus(rows=320, mismatched=0.0)
    said = [f"a {COLOURS[row % 6]} {THINGS[row // 6 % 6]} number {row}" for row in range(320)]
    return Corpus(
        tuple(Pair(str(row), caption) for row, caption in enumerate(said)),
        tuple(sample.image_sha256), sample.image, sample.text, False, "small",
    )  # fmt: skip


def test_records(pairs: Corpus):
    bench = CaptionBench(SMALL, ConceptOptions(), QUICK, Policy(), english_tokenizer(), encode)
    told: list[str] = []
    decoders = check_decoders(["nearest", "gru"])
    records = list(bench_captions(pairs, bench, [Condition("random", 0.3, 0)], decoders, told.append))
    assert told == ["random 0.3, seed 0"]
    assert all(list(record) == RECORD for record in records)
    found = {(record["method"], record["metric"]): record["value"] for record in records}
    assert found[TRUTH, "cider_d"] == pytest.approx(1000)
    assert found[TRUTH, "recall_at_1"] == 1
    assert found["nearest", "new_words"] == found["gru", "new_words"] == 0
    assert 0 <= found["default", "clean_changed"] <= 1
    assert found["gru", "captions_per_second"] > 0
    assert np.isfinite([value for value in found.values() if value is not None]).all()


def test_decoders_are_named():
    assert check_decoders(["default", "default"]) == ["default"]
    assert "default" in check_decoders(["all"])
    with pytest.raises(InputError, match="--decoder magic: choose among all, default"):
        check_decoders(["magic"])
