"""The row stage that completes captions."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import embedding_matrix
from curate.completion.agreement import Agreement
from curate.completion.decoders import Decoder, Encode, Pictures, build_decoder
from curate.completion.fit import CompletionModel
from curate.completion.policy import CAPTION_VERSION, CaptionColumns, Proposal, complete
from curate.completion.propose import propose
from curate.noise.model import NoiseModel, identities
from curate.noise.similarity import Bools, Floats, have_direction
from curate.schema import CAPTION_SCHEMA, CONDITION_SCHEMA, NOISE_SCHEMA
from curate.where import parse_where

Rows = NDArray[np.intp]


class RowsToComplete:
    """Which rows get a caption: those with a picture whose own is missing, or doubtful and not learned from.

    Args:
        model: knows what was learned.
        seed: of the noise model.
        when: condition on a row's noise columns, caption and status.

    Raises:
        InputError: the condition is not understood.
    """

    def __init__(self, model: CompletionModel, seed: int, when: str) -> None:
        self.model, self.seed = model, seed
        self.condition = parse_where(when, CONDITION_SCHEMA)

    def __call__(self, batch: pa.Table) -> Rows:
        """Numbers of the rows of `batch`, ascending."""
        seen: Bools = pc.and_(batch["image_embedding"].is_valid(), batch["image_sha256"].is_valid()).to_numpy()
        captions: list[str | None] = batch["caption"].to_pylist()
        blank = np.array([not (caption and caption.strip()) for caption in captions], dtype=np.bool_)
        doubtful = np.zeros(batch.num_rows, dtype=np.bool_)
        numbered = batch.select(CONDITION_SCHEMA.names).append_column("_row", pa.array(np.arange(batch.num_rows)))
        doubtful[numbered.filter(self.condition)["_row"].to_numpy()] = True
        compared = batch["noise_prob"].is_valid().to_numpy()
        rows = np.nonzero(seen.astype(np.bool_) & (blank | (doubtful & compared)))[0]
        rows = rows[have_direction(embedding_matrix(batch["image_embedding"].take(rows)))] if len(rows) else rows
        return rows[~self.model.was_learned(self.identities(batch, rows))]

    def identities(self, batch: pa.Table, rows: Rows) -> NDArray[np.uint64]:
        """What the pairs of these rows are; uint64 [n]."""
        pictures, captions = (batch[name].take(rows).to_pylist() for name in ("image_sha256", "caption"))
        return identities(pictures, [caption or "" for caption in captions], self.seed)


class KeepCaptions:
    """Every caption stays as it is: there is nothing to complete any with."""

    name = "caption"
    version = CAPTION_VERSION
    requires = ("caption",)
    provides = CAPTION_SCHEMA

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        captions = batch["caption"]
        source = pc.if_else(captions.is_valid(), "original", None)
        chance = pc.if_else(captions.is_valid(), 0.0, None)
        nothing = pa.nulls(batch.num_rows)
        columns = (nothing, nothing, captions, source, chance)
        arrays = [column.cast(kind.type) for column, kind in zip(columns, self.provides, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self.provides)


class Caption:
    """Writes a caption where the original is doubtful, and keeps it where it is believed.

    A pair that the models learned from is never completed, whatever `when` says: its caption could come back from
    memory. Rows that are not completed have their original as `completed_caption`, and no synthetic one. A row's
    values depend on the row and the models alone: they are the same bytes whatever batch it comes in.

    Args:
        model: what `curate.completion.fit.fit_completion` made.
        noise: the noise model of the same run.
        encode: the text tower: captions -> embeddings float32 [n, dt], the same whoever stands beside.
        how: see `CaptionColumns`.
        decoder: instead of the one that `how` names: loaded from a checkpoint, or your own. One that looks at the
            pictures themselves finds them in the column `pixels`, square RGB as bytes, for every row of `rows`.

    Raises:
        InputError: the condition is not understood, or the decoder needs a captioner that was not fitted.
    """

    name = "caption"
    version = CAPTION_VERSION
    requires = (
        "caption", "image_sha256", "status", "image_embedding", "text_embedding", *NOISE_SCHEMA.names, "concepts",
    )  # fmt: skip
    provides = CAPTION_SCHEMA

    def __init__(
        self,
        model: CompletionModel,
        noise: NoiseModel,
        encode: Encode,
        how: CaptionColumns | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self.model, self.noise, self.how = model, noise, how or CaptionColumns()
        self.agreement = Agreement(noise)
        self.rows = RowsToComplete(model, noise.seed, self.how.when)
        self.decoder = decoder or build_decoder(
            self.how.decoder, model.bank, model.captioner, self.agreement, encode, model.seed
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        captions: list[str | None] = batch["caption"].to_pylist()
        completed, source = list(captions), [None if caption is None else "original" for caption in captions]
        synthetic: list[str | None] = [None] * len(captions)
        score: list[float | None] = [None] * len(captions)
        chance: list[float | None] = [None if caption is None else 0.0 for caption in captions]
        rows = self.rows(batch)
        if len(rows):
            proposal = self._proposal(batch, captions, rows)
            done = complete(proposal, self.model.threshold, self.how.policy)
            for place, row in enumerate(rows.tolist()):
                synthetic[row], score[row] = proposal.synthetic[place], float(proposal.synthetic_score[place])
                if done.source[place] != "original":
                    completed[row], source[row] = done.caption[place], done.source[place]
                    chance[row] = float(done.p_use_synthetic[place])
        columns = (synthetic, score, completed, source, chance)
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, self.provides, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self.provides)

    def _proposal(self, batch: pa.Table, captions: list[str | None], rows: Rows) -> Proposal:
        image = embedding_matrix(batch["image_embedding"].take(rows))
        checksums, originals = batch["image_sha256"].take(rows).to_pylist(), [captions[row] for row in rows]
        concepts = [
            [(named["name"], named["score"]) for named in held or ()]
            for held in batch["concepts"].take(rows).to_pylist()
        ]
        pictures = Pictures(
            identity=self.rows.identities(batch, rows),
            fold=self.noise.folds(checksums, [caption or "" for caption in originals], image),
            features=self.agreement.images(image),
            image=image,
            concepts=concepts,
            pixels=_squares(batch["pixels"].take(rows)) if "pixels" in batch.column_names else None,
        )
        noise = pc.fill_null(batch["noise_prob"].take(rows), 1.0).to_numpy().astype(np.float32)
        return propose(self.decoder, self.agreement, pictures, originals, self._texts(batch, rows), noise)

    def _texts(self, batch: pa.Table, rows: Rows) -> Floats:
        """Embeddings of the originals, zeros where there is none; float32 [n, dt]."""
        column = batch["text_embedding"].take(rows)
        there = column.is_valid().to_numpy().astype(np.bool_)
        text = np.zeros((len(rows), len(self.noise.fitted.reducer.text_mean)), dtype=np.float32)
        if there.any():
            text[there] = embedding_matrix(column.filter(pa.array(there)))
        return text


def _squares(pixels: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Square RGB pictures of one size as uint8 [n, side, side, 3]."""
    flat = np.frombuffer(b"".join(pixels.to_pylist()), dtype=np.uint8).reshape(len(pixels), -1)
    side = math.isqrt(flat.shape[1] // 3)
    return flat.reshape(len(pixels), side, side, 3)
