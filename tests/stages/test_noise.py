from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.schema import FIELDS_TYPE
from curate.stages.noise import Noise, NoiseColumns, margin_share
from tests.noise.synthetic import corpus, joined, quick_fit, taken


def as_table(sample, list_type=None):
    def vectors(rows):
        kind = list_type or pa.list_(pa.float16(), rows.shape[1])
        return pa.array([row.astype(np.float16) for row in rows], type=kind)

    count = len(sample.captions)
    fields = [[{"name": "other", "value": "z"}, {"name": "site", "value": f"{row % 2}"}] for row in range(count)]
    return pa.table(
        {
            "row_id": [f"row:{row}" for row in range(count)],
            "caption": list(sample.captions),
            "image_sha256": list(sample.image_sha256),
            "status": ["ok"] * count,
            "image_embedding": vectors(sample.image),
            "text_embedding": vectors(sample.text),
            "fields": pa.array(fields, FIELDS_TYPE),
        }
    )


@pytest.fixture(scope="module")
def everything():
    return corpus(rows=400, seed=1)[0]


@pytest.fixture(scope="module")
def fitted(everything):
    return Noise(quick_fit(taken(everything, range(300)))), as_table(everything)


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
    for size in (1, 7, 63, 64, 65, 399):
        rows = range(0, 40 if size == 1 else table.num_rows, size)
        pieces = pa.concat_tables([stage(table.slice(start, size)) for start in rows]).combine_chunks()
        assert ipc_bytes(pieces) == ipc_bytes(whole.slice(0, pieces.num_rows))


def ipc_bytes(table):
    """Values bit for bit, and nothing of how they lie in memory."""
    signals = table["signals"].combine_chunks()
    texts = ("label", "memory_image", "memory_text")
    columns = [table[name] for name in table.column_names if name not in ("signals", *texts)]
    columns += [signals.field(number) for number in range(signals.type.num_fields)]
    return [np.asarray(column).tobytes() for column in columns] + [table[name].to_pylist() for name in texts]


def test_rows_beside_it_do_not_matter(fitted):
    stage, table = fitted
    order = np.random.default_rng(0).permutation(table.num_rows)
    assert ipc_bytes(stage(table.take(order))) == ipc_bytes(stage(table).take(order))


def test_unusable_rows_are_null_and_leave_the_others_alone(fitted):
    stage, table = fitted
    whole = stage(table)
    values = {name: table[name].to_pylist() for name in table.column_names}
    values["status"][0], values["status"][5] = "corrupt_image", None
    values["image_embedding"][1] = None
    values["image_embedding"][2] = [float("nan")] * 48
    values["image_embedding"][3] = [0.0] * 48
    values["text_embedding"][300] = None
    values["text_embedding"][301] = [0.0] * 32
    values["caption"][302] = values["image_sha256"][303] = None
    made = stage(pa.table({name: pa.array(values[name], table[name].type) for name in values}))
    unusable = [0, 1, 2, 3, 5, 300, 301, 302, 303]
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


def test_embeddings_may_come_as_plain_lists_and_in_chunks(fitted, everything):
    stage, table = fitted
    lists = as_table(everything, pa.list_(pa.float32()))
    chunked = pa.concat_tables([lists.slice(0, 10), lists.slice(10, 200), lists.slice(210)])
    assert ipc_bytes(stage(chunked)) == ipc_bytes(stage(table))


def test_labels_follow_the_thresholds(fitted):
    stage, table = fitted
    made = Noise(stage.model, NoiseColumns(clean_below=0.01, noisy_above=0.9))(table)
    for probability, label in zip(made["noise_prob"].to_pylist(), made["label"].to_pylist(), strict=True):
        assert label == (
            "clean" if probability < np.float32(0.01) else "noisy" if probability > np.float32(0.9) else "uncertain"
        )
    assert {"clean", "noisy", "uncertain"} == set(made["label"].to_pylist())


@pytest.mark.parametrize(("clean", "noisy"), [(0.7, 0.3), (-0.1, 0.5), (0.3, 1.1)])
def test_thresholds_out_of_order_are_refused(clean, noisy):
    with pytest.raises(InputError, match="clean_below <= noisy_above"):
        NoiseColumns(clean_below=clean, noisy_above=noisy)


def test_hints_follow_the_probability(fitted):
    stage, table = fitted
    how = NoiseColumns(smoothing=0.4, margin_image=0.5, margin_text=0.1)
    made = Noise(stage.model, how)(table)
    probability = made["noise_prob"].to_numpy()
    np.testing.assert_allclose(made["smoothing"].to_numpy(), 0.4 * probability, rtol=1e-6)
    order = np.argsort(probability)
    for name, base in (("margin_image", 0.5), ("margin_text", 0.1)):
        margin = made[name].to_numpy()
        assert ((margin >= 0) & (margin <= base)).all()
        assert (np.diff(margin[order]) <= 0).all()
        np.testing.assert_allclose(margin, base * (10 ** (1 - probability.astype(float)) - 1) / 9, atol=1e-6)
    impact = made["signals"].combine_chunks().field("negative_impact").to_numpy()
    expected = [np.tanh(ratio) if ratio < 1 else 1 for ratio in impact.astype(float)]
    np.testing.assert_allclose(made["weight"].to_numpy(), expected, rtol=1e-5)


def test_memory_entries_are_clean_pairs_of_other_folds_by_name(fitted):
    stage, table = fitted
    made = stage(table).to_pandas().set_index(table["row_id"].to_pandas())
    captions = table.to_pandas().set_index("row_id")["caption"]
    for column in ("memory_image", "memory_text"):
        named = made[column]
        assert named.notna().all()
        entries = made.loc[named]
        assert (entries["fold"].to_numpy() != made["fold"].to_numpy()).all()
        assert (entries["noise_prob"] < 0.5).all()
        assert (captions.loc[named].to_numpy() != captions.to_numpy()).all()
        assert named.nunique() > 50
    assert set(made["memory_image"]) <= {f"row:{row}" for row in range(300)}
    assert (made["memory_image"] != made["memory_text"]).any()


def test_memory_entries_are_not_named_where_the_fit_was_not_told_whose_rows_it_saw(fitted):
    stage, table = fitted
    made = Noise(replace(stage.model, row_ids=None))(table)
    assert made["memory_image"].null_count == made["memory_text"].null_count == table.num_rows
    assert made["weight"].null_count == 0


def test_margins_span_their_range():
    ends = margin_share(np.array([0, 0.5, 1], np.float32))
    np.testing.assert_allclose(ends, [0, (10**0.5 - 1) / 9, 1], atol=1e-6)


def test_pairs_are_judged_by_the_posterior_of_their_stratum():
    clean, _ = corpus(rows=200, mismatched=0.1)
    dirty, _ = corpus(rows=200, mismatched=0.6)
    order = [row for pair in zip(range(200), range(200, 400), strict=True) for row in pair]
    sample = taken(joined(clean, replace(dirty, image_sha256=[f"b {name}" for name in dirty.image_sha256])), order)
    model = quick_fit(replace(sample, strata=[f"{row % 2}" for row in range(400)]), stratum_pairs=100)
    assert model.strata == ("0", "1")
    by_site, by_none = Noise(model, by="site")(as_table(sample)), Noise(model)(as_table(sample))
    unknown = Noise(model, by="absent")(as_table(sample))
    assert ipc_bytes(unknown) == ipc_bytes(by_none)
    assert by_site["noise_rank"].equals(by_none["noise_rank"])
    own, pooled = by_site["noise_prob"].to_numpy(), by_none["noise_prob"].to_numpy()
    scores = model.score(sample.image_sha256, sample.captions, sample.image, sample.text, ["0", "1"] * 200)
    assert own.tobytes() == scores.noise_prob.tobytes()
    assert own[::2].mean() < pooled[::2].mean()
    assert ipc_bytes(Noise(model, by="site")(as_table(sample).slice(7, 30))) == ipc_bytes(by_site.slice(7, 30))
