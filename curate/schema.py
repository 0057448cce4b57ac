"""Columns and status codes: the contract between sources, stages and whoever reads the annotations."""

from __future__ import annotations

import pyarrow as pa

from curate.status import CAPTION_PROBLEMS as CAPTION_PROBLEMS
from curate.status import HAS_PICTURE as HAS_PICTURE
from curate.status import STATUS_DESCRIPTIONS as STATUS_DESCRIPTIONS
from curate.status import Status as Status

SCHEMA_VERSION = 1

# A list and not a map: Hugging Face's datasets refuses a file with a map column, and pandas does not write one back.
FIELDS_TYPE = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.string())]))

# What a source yields for every pair, before anything is decoded. `status` holds what the source alone can tell.
SOURCE_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("caption_bytes", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("duplicate_key", pa.bool_(), nullable=False),
        pa.field("fields", FIELDS_TYPE),
        pa.field("image", pa.large_binary()),
    ]
)

# What the download of a part of a table leaves.
DOWNLOAD_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("image", pa.large_binary()),
        pa.field("http_status", pa.int16()),
        pa.field("error", pa.string()),
    ]
)


def row_id(shard: str, row: int) -> str:
    """Identity of a pair: unique in a run, stable under reordering, cutting and adding of inputs."""
    return f"{shard}:{row}"


DIRECTION = b"direction"
HIGHER_IS_CLEANER = {DIRECTION: b"higher is cleaner"}
HIGHER_IS_NOISIER = {DIRECTION: b"higher is noisier"}

SIGNAL_DIRECTIONS = {
    "clip_similarity": HIGHER_IS_CLEANER,
    "clip_csls": HIGHER_IS_CLEANER,
    "crossfit_similarity": HIGHER_IS_CLEANER,
    "crossfit_csls": HIGHER_IS_CLEANER,
    "itc_loss": HIGHER_IS_NOISIER,
    "neighbour_disagreement": HIGHER_IS_NOISIER,
    "neg_clip_loss": HIGHER_IS_CLEANER,
    "rank_correlation": HIGHER_IS_CLEANER,
    "topology": HIGHER_IS_CLEANER,
    "negative_impact": HIGHER_IS_CLEANER,
    "osa": HIGHER_IS_CLEANER,
}
SIGNALS_TYPE = pa.struct(
    [pa.field(name, pa.float32(), metadata=direction) for name, direction in SIGNAL_DIRECTIONS.items()]
)

SIGNAL_DESCRIPTIONS: dict[str, str] = {
    "clip_similarity": "cosine of the image and caption embeddings; null when the towers were not trained together",
    "clip_csls": "clip_similarity corrected for hubs (CSLS), zero-shot and after a residual adapter, in standard "
    "deviations of shuffled pairs; null when the towers were not trained together",
    "crossfit_similarity": "mean cosine under five models fitted on folds without the pair and its near-twins: linear "
    "CCA, kernel ridge and neighbour regression, both ways",
    "crossfit_csls": "crossfit_similarity corrected for hubs (CSLS), in standard deviations of shuffled pairs",
    "itc_loss": "contrastive loss of heads warmed up on the noisy corpus itself (NLIP's memorization effect), in nats",
    "neighbour_disagreement": "LEMoN: distance of image and caption, and of each from what similar pairs have",
    "neg_clip_loss": "similarity less what image and caption score with a batch of others (negCLIPLoss)",
    "rank_correlation": "REPAIR: rank correlation of the pair's distances to reference images and reference captions",
    "topology": "GSC: do similarities to reference images and to reference captions have the same pattern",
    "negative_impact": "NPC: loss of the nearest certainly clean pairs before over after learning this pair; below 1 "
    "it harms them",
    "osa": "OSA: similarity above that of shuffled pairs, 0 below",
}

NOISE_SCHEMA = pa.schema(
    [
        pa.field("signals", SIGNALS_TYPE),
        pa.field("noise_prob", pa.float32(), metadata=HIGHER_IS_NOISIER),
        pa.field("noise_rank", pa.float32(), metadata=HIGHER_IS_NOISIER),
        pa.field("label", pa.string()),
        pa.field("smoothing", pa.float32(), metadata=HIGHER_IS_NOISIER),
        pa.field("margin_image", pa.float32(), metadata=HIGHER_IS_CLEANER),
        pa.field("margin_text", pa.float32(), metadata=HIGHER_IS_CLEANER),
        pa.field("weight", pa.float32(), metadata=HIGHER_IS_CLEANER),
        pa.field("memory_image", pa.string()),
        pa.field("memory_text", pa.string()),
        pa.field("fold", pa.int8()),
    ]
)

# What is believed of a pair, and hints for trainers that follow from it: refinement says all of it anew.
BELIEFS = ("noise_prob", "noise_rank", "label", "smoothing", "margin_image", "margin_text", "weight")
REFINE_SCHEMA = pa.schema(
    [
        *(NOISE_SCHEMA.field(name) for name in BELIEFS),
        pa.field("noise_prob_unrefined", pa.float32(), metadata=HIGHER_IS_NOISIER),
        pa.field("rejected_in_round", pa.int8()),
    ]
)

# The best first.
CONCEPTS_TYPE = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("score", pa.float32())]))
CONCEPTS_SCHEMA = pa.schema([pa.field("concepts", CONCEPTS_TYPE)])

# What the picture shows where the caption does not; the original caption is never touched.
CAPTION_SCHEMA = pa.schema(
    [
        pa.field("synthetic_caption", pa.string()),
        pa.field("synthetic_score", pa.float32(), metadata=HIGHER_IS_CLEANER),
        pa.field("completed_caption", pa.string()),
        pa.field("caption_source", pa.string()),
        pa.field("p_use_synthetic", pa.float32()),
    ]
)

# What a condition on doubtful captions may name.
CONDITION_SCHEMA = pa.schema([SOURCE_SCHEMA.field("caption"), SOURCE_SCHEMA.field("status"), *NOISE_SCHEMA])

DUPLICATES_SCHEMA = pa.schema(
    [
        pa.field("duplicate_of", pa.string()),
        pa.field("near_duplicate_cluster", pa.string()),
    ]
)

ANNOTATION_SCHEMA = pa.schema(
    [
        SOURCE_SCHEMA.field("row_id"),
        SOURCE_SCHEMA.field("key"),
        SOURCE_SCHEMA.field("caption"),
        NOISE_SCHEMA.field("noise_prob"),
        NOISE_SCHEMA.field("noise_rank"),
        NOISE_SCHEMA.field("label"),
        CONCEPTS_SCHEMA.field("concepts"),
        *CAPTION_SCHEMA,
        SOURCE_SCHEMA.field("status"),
        SOURCE_SCHEMA.field("error"),
        SOURCE_SCHEMA.field("fields"),
        NOISE_SCHEMA.field("signals"),
        NOISE_SCHEMA.field("smoothing"),
        NOISE_SCHEMA.field("margin_image"),
        NOISE_SCHEMA.field("margin_text"),
        NOISE_SCHEMA.field("weight"),
        NOISE_SCHEMA.field("memory_image"),
        NOISE_SCHEMA.field("memory_text"),
        REFINE_SCHEMA.field("noise_prob_unrefined"),
        REFINE_SCHEMA.field("rejected_in_round"),
        NOISE_SCHEMA.field("fold"),
        DUPLICATES_SCHEMA.field("duplicate_of"),
        DUPLICATES_SCHEMA.field("near_duplicate_cluster"),
        SOURCE_SCHEMA.field("duplicate_key"),
        SOURCE_SCHEMA.field("caption_bytes"),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("image_sha256", pa.string()),
        SOURCE_SCHEMA.field("shard"),
        SOURCE_SCHEMA.field("row"),
    ]
)

COLUMN_DESCRIPTIONS: dict[str, str] = {
    "row_id": "identity of the pair, unique in the run: shard:row",
    "key": "the pair's key as it came",
    "caption": "the caption as it came; null where there is none or it is not valid UTF-8",
    "noise_prob": "probability in [0, 1] that image and caption grossly mismatch; null where status is not ok",
    "noise_rank": "share of pairs that seem cleaner, in [0, 1]: an order of all pairs that holds for near misses too; "
    "null where status is not ok",
    "label": "clean, uncertain or noisy, by noise_prob and the configured thresholds; null where status is not ok",
    "concepts": "what the image shows, by models that never saw it: names of the vocabulary with their scores, the "
    "best first; null where there is no readable image",
    "synthetic_caption": "what was written for the picture, believed or not; null where nothing was",
    "synthetic_score": "agreement of synthetic_caption with the picture by models that never saw it, in standard "
    "deviations of shuffled pairs",
    "completed_caption": "the caption to train with: the synthetic one, or a merged one, where it was believed, else "
    "the original; null where the run completes no captions",
    "caption_source": "where completed_caption comes from: original, synthetic or merged",
    "p_use_synthetic": "hint for trainers that mix: probability of taking completed_caption instead of caption (NLIP)",
    "status": "why the pair can or cannot be used",
    "error": "what is wrong, in words; null where status is ok",
    "fields": "fields of the input named in input.keep, as text, in that order, without those that are null; null "
    "where input.keep names none",
    "signals": "what noise_prob comes from, each in its published orientation",
    "smoothing": "hint for trainers, NLIP's label smoothing: omega = lambda * noise_prob",
    "margin_image": "hint for trainers, dynamic margin of a ranking loss with an image as anchor (after DSDMR), in "
    "[0, 0.3]",
    "margin_text": "hint for trainers, the same with a caption as anchor, in [0, 0.2]",
    "weight": "hint for trainers, NPC's confidence: 1, or tanh of signals.negative_impact where that is below 1; with "
    "the stage refine, of the negative impact in the space of the last round's heads",
    "memory_image": "row_id of the pair's memory entry by image (NPC): of the certainly clean pairs that the noise "
    "models were fitted on, without the pair's fold and its twins, the one with the most similar picture; with "
    "--fits-from it is a pair of the other run; null where there is none or the models do not say",
    "memory_text": "row_id of the memory entry by caption, likewise the one with the most similar caption",
    "noise_prob_unrefined": "noise_prob as the noise stage had it, before refinement; null where the run refines "
    "nothing",
    "rejected_in_round": "round of refinement that last put the pair among the noisy, 0 being the noise stage; where "
    "label is not noisy it came back later; null: none did, or the run refines nothing",
    "duplicate_of": "row_id of the first pair with the same picture bytes and the same caption; null for that one and "
    "for pairs that occur once",
    "near_duplicate_cluster": "16 hex digits shared by all pairs whose pictures are the same or nearly the same; null "
    "where no other pair shares it",
    "fold": "cross-fitting fold: the pair's scores come from models that saw nothing of this fold",
    "duplicate_key": "another pair of the same shard has the same key; both are kept",
    "caption_bytes": "the caption's bytes where they are not valid UTF-8, else null",
    "width": "width of the image in pixels as stored; null where unknown",
    "height": "height of the image in pixels as stored; null where unknown",
    "image_sha256": "SHA-256 of the image file's bytes; null where there is no image",
    "shard": "input file, relative to the fixed part of the input path",
    "row": "position of the pair in its shard, from 0",
}


def annotation_table(columns: pa.Table, more: pa.Schema | None = None) -> pa.Table:
    """The columns of `ANNOTATION_SCHEMA` in order, null where no stage made them, and those of `more` behind them."""
    schema = pa.schema([*ANNOTATION_SCHEMA, *(more or ())])
    arrays = [
        columns.column(field.name).cast(field.type)
        if field.name in columns.column_names
        else pa.nulls(columns.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
