from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.noise.fit import NoiseOptions, fit_noise
from curate.stages.noise import Noise
from tests.noise.synthetic import corpus, pictures


def as_table(sample, list_type=None):
    def vectors(rows):
        kind = list_type or pa.list_(pa.float16(), rows.shape[1])
        return pa.array([row.astype(np.float16) for row in rows], type=kind)

    count = len(sample.row_ids)
    return pa.table(
        {
            "row_id": list(sample.row_ids),
            "caption": ["a caption"] * count,
            "image_sha256": pictures(sample.row_ids),
            "status": ["ok"] * count,
            "image_embedding": vectors(sample.image),
            "text_embedding": vectors(sample.text),
        }
    )


@pytest.fixture(scope="module")
def fitted():
    everything, _ = corpus(rows=900, seed=1)
    sample, _ = corpus(rows=700, seed=1)
    model = fit_noise(sample, NoiseOptions(), seed=0)
    return Noise(model), as_table(everything)


def with_column(table, name, values):
    number = table.schema.get_field_index(name)
    return table.set_column(number, table.schema.field(number), pa.array(values, table.schema.field(number).type))


def test_columns_are_those_provided(fitted):
    stage, table = fitted
    made = stage(table)
    assert made.schema.equals(stage.provides, check_metadata=True)
    assert made.num_rows == table.num_rows
    assert made["noise_prob"].null_count == 0
    for field in stage.provides.field("signals").type:
        assert field.metadata[b"direction"] in (b"higher is cleaner", b"higher is noisier")
    probability = made["noise_prob"].to_numpy()
    assert ((probability >= 0) & (probability <= 1)).all()
    assert set(made["fold"].to_pylist()) == set(range(5))
    signals = made["signals"].combine_chunks()
    assert signals.field("clip_similarity").null_count == len(signals)
    assert signals.field("crossfit_csls").null_count == 0


def test_cutting_the_rows_into_batches_changes_no_byte(fitted):
    stage, table = fitted
    whole = stage(table)
    for size in (1, 7, 255, 256, 257, 600):
        rows = range(0, 40 if size == 1 else table.num_rows, size)
        pieces = pa.concat_tables([stage(table.slice(start, size)) for start in rows]).combine_chunks()
        assert ipc_bytes(pieces) == ipc_bytes(whole.slice(0, pieces.num_rows))


def ipc_bytes(table):
    """Values bit for bit, and nothing of how they lie in memory."""
    columns = [table["noise_prob"], table["fold"]]
    signals = table["signals"].combine_chunks()
    columns += [signals.field(number) for number in range(signals.type.num_fields)]
    values = [
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
        for column in columns
    ]
    return [array.tobytes() for array in values] + table["label"].to_pylist()


def test_rows_beside_it_do_not_matter(fitted):
    stage, table = fitted
    order = np.random.default_rng(0).permutation(table.num_rows)
    assert ipc_bytes(stage(table.take(order))) == ipc_bytes(stage(table).take(order))


def test_unusable_rows_are_null_and_leave_the_others_alone(fitted):
    stage, table = fitted
    whole = stage(table)
    status = table["status"].to_pylist()
    status[0], status[5] = "corrupt_image", None
    image = table["image_embedding"].to_pylist()
    image[1] = None
    image[2] = [float("nan")] * 48
    text = table["text_embedding"].to_pylist()
    text[300] = None
    broken = with_column(table, "status", status)
    broken = with_column(with_column(broken, "image_embedding", image), "text_embedding", text)
    made = stage(broken)
    unusable = [0, 1, 2, 5, 300]
    for column in made.column_names:
        assert [row for row, value in enumerate(made[column].to_pylist()) if value is None] == unusable
    usable = np.setdiff1d(np.arange(table.num_rows), unusable)
    assert ipc_bytes(made.take(usable)) == ipc_bytes(whole.take(usable))


def test_batches_without_a_usable_row(fitted):
    stage, table = fitted
    nothing = stage(with_column(table.slice(0, 3), "status", ["missing_image"] * 3))
    assert nothing.schema.equals(stage.provides, check_metadata=True)
    assert nothing["signals"].null_count == nothing["label"].null_count == 3
    assert stage(table.slice(0, 0)).num_rows == 0
    absent = with_column(table.slice(0, 2), "image_embedding", [None, None])
    assert stage(absent)["noise_prob"].null_count == 2


def test_embeddings_may_come_as_plain_lists_and_in_chunks(fitted):
    stage, table = fitted
    sample, _ = corpus(rows=900, seed=1)
    lists = as_table(sample, pa.list_(pa.float32()))
    chunked = pa.concat_tables([lists.slice(0, 10), lists.slice(10, 500), lists.slice(510)])
    assert ipc_bytes(stage(chunked)) == ipc_bytes(stage(table))


def test_labels_follow_the_thresholds(fitted):
    stage, table = fitted
    made = Noise(stage.model, clean_below=0.1, noisy_above=0.5)(table)
    for probability, label in zip(made["noise_prob"].to_pylist(), made["label"].to_pylist(), strict=True):
        assert label == ("clean" if probability < 0.1 else "noisy" if probability > 0.5 else "uncertain")
    assert {"clean", "noisy", "uncertain"} == set(made["label"].to_pylist())


@pytest.mark.parametrize(("clean", "noisy"), [(0.7, 0.3), (-0.1, 0.5), (0.3, 1.1)])
def test_thresholds_out_of_order_are_refused(fitted, clean, noisy):
    stage, _ = fitted
    with pytest.raises(InputError, match="clean_below <= noisy_above"):
        Noise(stage.model, clean_below=clean, noisy_above=noisy)
