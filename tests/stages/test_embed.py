"""Which rows get which embeddings, and that the columns survive Parquet and pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.models.encoder import Encoder, load_encoder, resolve_encoder
from curate.stages.embed import Embed
from tests.tiny import EMBED_DIM, IMAGE_SIZE, tiny_model

ROW_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    options = tiny_model(tmp_path_factory.mktemp("tiny"))
    return load_encoder(options, resolve_encoder(options))


def some_pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)


def batch(images: list[bytes | None], captions: list[str | None], statuses: list[str] | None = None) -> pa.Table:
    return pa.table(
        {
            "pixels": pa.array(images, pa.binary(ROW_BYTES)),
            "caption": pa.array(captions, pa.string()),
            "status": pa.array(statuses or ["ok"] * len(images), pa.string()),
        }
    )


def embeddings(table: pa.Table, column: str) -> list[np.ndarray | None]:
    return [None if value is None else np.array(value, np.float16) for value in table.column(column).to_pylist()]


def test_each_half_of_a_pair_is_embedded_if_it_can_be(encoder: Encoder) -> None:
    pixels = some_pixels(4)
    images = [pixels[0].tobytes(), None, pixels[2].tobytes(), pixels[3].tobytes()]
    captions = ["a dog", "a cat", None, " \t\n"]
    stage = Embed(encoder)
    made = stage(batch(images, captions, ["ok", "corrupt_image", "missing_caption", "empty_caption"]))
    assert made.schema.equals(stage.provides)
    made.validate(full=True)
    image, text = embeddings(made, "image_embedding"), embeddings(made, "text_embedding")
    assert [value is None for value in image] == [False, True, False, False]
    assert [value is None for value in text] == [False, False, True, True]
    for row in (0, 2, 3):
        assert image[row].tobytes() == encoder.encode_images(pixels[row : row + 1]).tobytes()
    assert np.stack(text[:2]).tobytes() == encoder.encode_texts(["a dog", "a cat"]).tobytes()


def test_a_caption_marked_as_not_utf8_is_not_guessed(encoder: Encoder) -> None:
    made = Embed(encoder)(batch([None], ["caf\ufffd"], ["caption_not_utf8"]))
    assert made.column("text_embedding").to_pylist() == [None]


@pytest.mark.parametrize("rows", [0, 3])
def test_batches_without_anything_to_embed(encoder: Encoder, rows: int) -> None:
    made = Embed(encoder)(batch([None] * rows, [None] * rows))
    assert made.num_rows == rows
    assert made.column("image_embedding").null_count == made.column("text_embedding").null_count == rows
    empty = batch([None], [None]).schema.empty_table()
    assert Embed(encoder)(empty).num_rows == 0


def test_slices_and_chunks_are_read_where_they_are(encoder: Encoder) -> None:
    pixels = some_pixels(6)
    table = batch([image.tobytes() for image in pixels], list("abcdef"))
    expected = Embed(encoder)(table)
    assert Embed(encoder)(table.slice(2, 3)).equals(expected.slice(2, 3))
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 5)])
    assert chunked.column("pixels").num_chunks == 2
    assert Embed(encoder)(chunked).equals(expected)
    assert Embed(encoder)(chunked.slice(2, 3)).equals(expected.slice(2, 3))


def test_parquet_and_pandas_read_the_columns(encoder: Encoder, tmp_path: Path) -> None:
    made = Embed(encoder)(batch([some_pixels(1)[0].tobytes(), None], [None, "a dog"]))
    pq.write_table(made, tmp_path / "made.parquet")
    back = pq.read_table(tmp_path / "made.parquet")
    assert back.equals(made)
    assert back.schema.field("image_embedding").type == pa.list_(pa.float16())
    frame = pd.read_parquet(tmp_path / "made.parquet")
    assert frame["image_embedding"][0].dtype == np.float16
    assert frame["image_embedding"][1] is None
    assert frame["text_embedding"][1].shape == (EMBED_DIM,)
