"""Runs written by earlier schema versions stay readable: these files are never written again."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.schema import ANNOTATION_SCHEMA
from curate.store import RunStore
from curate.summary import find_pairs, summarize

RUN_V1 = Path(__file__).parent / "run-v1"


def test_a_run_of_schema_version_1_can_be_inspected():
    store = RunStore(str(RUN_V1))
    summary = summarize(store)
    assert summary.pairs == 25
    assert sum(summary.labels.values()) == 25
    assert summary.noise["method"]
    (pair,) = find_pairs(store, "000000003")
    assert pair["signals"]["crossfit_csls"] is not None


def test_every_column_of_schema_version_1_is_still_there_with_its_type():
    _assert_still_there(pq.read_schema(RUN_V1 / "annotations" / "part-00000000.parquet"), ANNOTATION_SCHEMA)


def _assert_still_there(old, new):
    names = {field.name for field in new}
    for field in old:
        assert field.name in names
        now = new.field(field.name)
        if pa.types.is_struct(field.type):
            _assert_still_there(field.type, now.type)
        else:
            assert (now.type, now.nullable, now.metadata) == (field.type, field.nullable, field.metadata), field.name
