"""The concepts stage: a list for every image that can be read, null for the others."""

import numpy as np
import pyarrow as pa
import pytest

from curate.concepts.model import ConceptModel
from curate.concepts.vocabulary import Vocabulary
from curate.schema import CONCEPTS_SCHEMA
from curate.stages.concepts import ConceptColumns, Concepts
from tests.concepts.synthetic import corpus, fitted

SAMPLE, SHOWN = corpus()


@pytest.fixture(scope="module")
def stage():
    return Concepts(fitted(SAMPLE), ConceptColumns(top_k=4))


def batch(images, pictures=None):
    """Rows of embeddings, None where there is no image."""
    values = [None if image is None else image.astype(np.float16).tolist() for image in images]
    checksums = pictures or [None if image is None else f"new-{row}" for row, image in enumerate(images)]
    embeddings = pa.array(values, pa.list_(pa.float16()))
    return pa.table({"image_sha256": pa.array(checksums, pa.string()), "image_embedding": embeddings})


def test_a_row_has_names_and_scores_the_best_first(stage):
    table = stage(batch([SAMPLE.image[0], SAMPLE.image[1]]))
    assert table.schema == CONCEPTS_SCHEMA
    for row in table["concepts"].to_pylist():
        assert len({concept["name"] for concept in row}) == 4
        scores = [concept["score"] for concept in row]
        assert scores == sorted(scores, reverse=True)


def test_rows_without_a_usable_image_are_null_and_keep_their_place(stage):
    table = stage(batch([None, SAMPLE.image[0], np.full(40, np.nan), np.zeros(40), SAMPLE.image[1]]))
    assert table["concepts"].is_valid().to_pylist() == [False, True, False, False, True]
    alone = stage(batch([SAMPLE.image[1]], ["new-4"]))
    assert table["concepts"][4].as_py() == alone["concepts"][0].as_py()


@pytest.mark.parametrize("size", [0, 3])
def test_a_batch_without_images(stage, size):
    assert stage(batch([None] * size))["concepts"].to_pylist() == [None] * size


def test_a_slice_of_a_larger_table_is_the_same(stage):
    whole = batch([SAMPLE.image[row] if row % 3 else None for row in range(40)])
    assert stage(whole.slice(10, 20))["concepts"].to_pylist() == stage(whole)["concepts"].to_pylist()[10:30]


def test_without_a_model_everything_is_null():
    model = ConceptModel(0, Vocabulary((), (), ()), None, {"verdict": "no concepts"})
    assert Concepts(model)(batch([SAMPLE.image[0]]))["concepts"].to_pylist() == [None]


def test_values_can_be_written_and_read(stage, tmp_path):
    import pyarrow.parquet as pq

    table = stage(batch([None, SAMPLE.image[0]]))
    pq.write_table(table, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")["concepts"].to_pylist() == table["concepts"].to_pylist()
