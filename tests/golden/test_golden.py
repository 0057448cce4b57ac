"""Runs written by earlier schema versions stay readable: these files are never written again."""

from pathlib import Path

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


def test_schema_version_1_is_what_this_version_writes():
    assert pq.read_schema(RUN_V1 / "annotations" / "part-00000000.parquet").equals(ANNOTATION_SCHEMA)
