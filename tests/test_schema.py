"""The schema files are what the code says, and every column and status is documented."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.schema import (
    ANNOTATION_SCHEMA,
    COLUMN_DESCRIPTIONS,
    SIGNAL_DESCRIPTIONS,
    SIGNALS_TYPE,
    STATUS_DESCRIPTIONS,
    Status,
    annotation_table,
    row_id,
)
from curate.schema_files import schema_files


def test_schema_files_are_in_step_with_the_code(pytestconfig):
    for name, text in schema_files().items():
        found = (pytestconfig.rootpath / "schemas" / name).read_text(encoding="utf-8")
        assert found == text, "regenerate: python -m curate.schema_files schemas"


def test_every_column_signal_and_status_is_documented():
    assert set(COLUMN_DESCRIPTIONS) == set(ANNOTATION_SCHEMA.names)
    assert set(SIGNAL_DESCRIPTIONS) == {field.name for field in SIGNALS_TYPE}
    assert set(STATUS_DESCRIPTIONS) == set(Status)


def test_columns_that_no_stage_made_are_null():
    identity = pa.table(
        {
            "row_id": ["a.tar:0"],
            "key": ["0"],
            "caption": ["a cat"],
            "caption_bytes": pa.nulls(1, pa.binary()),
            "status": ["ok"],
            "error": pa.nulls(1, pa.string()),
            "duplicate_key": [False],
            "shard": ["a.tar"],
            "row": [0],
            "image_embedding": [[1.0]],
        }
    )
    table = annotation_table(identity)
    assert table.schema.equals(ANNOTATION_SCHEMA)
    assert table.column("noise_prob").null_count == 1
    assert table.column("caption").to_pylist() == ["a cat"]


def test_row_ids_differ_between_shards_and_rows():
    assert len({row_id("a.tar", 1), row_id("a.tar", 2), row_id("b.tar", 1)}) == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ANNOTATION_SCHEMA.names), unique=True), st.integers(0, 5), st.randoms())
def test_any_columns_in_any_order_become_the_schema_row_by_row(names, rows, order):
    order.shuffle(names)
    columns = {name: pa.nulls(rows, ANNOTATION_SCHEMA.field(name).type) for name in names}
    columns["stranger"] = pa.array(range(rows), pa.int64())
    table = annotation_table(pa.table(columns))
    assert table.schema.equals(ANNOTATION_SCHEMA)
    assert table.num_rows == rows
