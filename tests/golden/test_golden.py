"""Runs written by earlier schema versions stay readable: these files are never written again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.models.encoder import resolve_encoder
from curate.plan import encoder_options
from curate.schema import ANNOTATION_SCHEMA
from curate.store import METADATA_KEY, RunStore
from curate.summary import find_pairs, summarize
from curate.verify import verify_run
from tests.conftest import worked_on
from tests.golden.write import golden_pipeline

ALL_STEPS = Path(__file__).parent / "run-v1-all-steps"
"""Complete, with every step; `write.py` says how it was made."""
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


def test_a_complete_run_of_version_1_is_read_by_every_command(curate, tmp_path):
    run = shutil.copytree(ALL_STEPS, tmp_path / "run")
    summary = summarize(RunStore(str(run)))
    assert summary.pairs == 120
    assert summary.refine["ended"]
    assert curate("inspect", run, "--key", "000000003")[0] == 0
    assert curate("inspect", run, "--completions", "2")[0] == 0
    assert curate("report", run)[0] == 0
    assert "noise_prob" in (run / "report.html").read_text()
    assert (
        curate("export", run, "--format", "parquet", "--where", "noise_prob < 0.5", "--out", tmp_path / "out")[0] == 0
    )
    kept = pd.read_parquet(tmp_path / "out")
    assert 0 < len(kept) < 120
    assert verify_run(RunStore(str(run))).findings == ()


def test_a_complete_run_of_version_1_is_gone_on_with_and_nothing_is_redone(tmp_path):
    made = golden_pipeline(tmp_path / "inputs", tmp_path / "run")
    config = made.config()
    facts = json.loads(pq.read_schema(ALL_STEPS / "embed" / "part-00000000.parquet").metadata[METADATA_KEY])
    if resolve_encoder(encoder_options(config)).to_json() != facts["encoder"]:
        pytest.skip("the run was made with other versions of libraries: another numerics profile is done anew")
    shutil.copytree(ALL_STEPS, made.output)
    before = made.contents()
    assert worked_on(made.run()) == set()
    after = made.contents()
    assert after.pop("format.json")
    assert after == before
