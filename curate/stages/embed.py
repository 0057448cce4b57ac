"""Pixels and captions -> embeddings."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.columns import pixel_matrix
from curate.limits import MAX_CAPTION_CHARACTERS
from curate.models.encoder import Encoder
from curate.schema import Status


class Embed:
    """Row stage: unit-norm float16 embeddings of every image that has pixels and every caption that has words.

    Columns: `image_embedding` and `text_embedding`, lists of float16; null where there is nothing to embed,
    each for itself: a broken image does not take its caption's embedding away, nor the reverse.
    """

    name = "embed"
    version = 1
    requires = ("pixels", "caption", "status")
    # Not fixed-size lists: pyarrow before 26 cannot read those back from Parquet where one is null.
    provides = pa.schema([pa.field(name, pa.list_(pa.float16())) for name in ("image_embedding", "text_embedding")])

    def __init__(self, encoder: Encoder, max_caption_characters: int = MAX_CAPTION_CHARACTERS) -> None:
        """Embed with `encoder`; longer captions are not embedded."""
        self._encoder = encoder
        self._max_caption_characters = max_caption_characters

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        return pa.Table.from_arrays([self._images(batch), self._texts(batch)], schema=self.provides)

    def _images(self, batch: pa.Table) -> pa.Array:
        column = batch.column("pixels")
        usable = column.is_valid().to_numpy()
        pixels = pixel_matrix(column, self._encoder.spec.image_size)
        kept = pixels if usable.all() else pixels[usable]
        return _embedding_column(self._encoder.encode_images(kept), usable)

    def _texts(self, batch: pa.Table) -> pa.Array:
        rows = zip(batch.column("caption").to_pylist(), batch.column("status").to_pylist(), strict=True)
        captions = [caption if self._has_words(caption, status) else None for caption, status in rows]
        usable = np.array([caption is not None for caption in captions], dtype=bool)
        embeddings = self._encoder.encode_texts([caption for caption in captions if caption is not None])
        return _embedding_column(embeddings, usable)

    def _has_words(self, caption: str | None, status: str) -> bool:
        # Not by status alone: that of a pair with a broken image says nothing of its caption.
        if caption is None or len(caption) > self._max_caption_characters:
            return False
        return bool(caption.strip()) and status != Status.CAPTION_NOT_UTF8


def _embedding_column(embeddings: NDArray[np.float16], usable: NDArray[np.bool_]) -> pa.Array:
    """Embeddings of the usable rows -> a column of all rows, null elsewhere."""
    ends = np.cumsum(usable) * embeddings.shape[1]
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(embeddings.reshape(-1)), mask=pa.array(~usable))
