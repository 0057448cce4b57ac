"""What keeping fields costs a run: the embed step and what hangs on it, and nothing where nothing is kept."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from curate.execution import LocalRunner
from curate.plan import make_plan
from curate.store import METADATA_KEY, fingerprint
from tests.conftest import Pipeline


@pytest.fixture
def embedding(shards, tiny_encoder, tmp_path):
    return Pipeline(shards, tmp_path / "run", tiny_encoder, stages=["embed"])


def facts_of(pipeline, name):
    return json.loads(pq.read_schema(pipeline.output / name).metadata[METADATA_KEY])


def embed_fingerprints(pipeline, *overrides):
    plan = make_plan(pipeline.config(*overrides), LocalRunner(1).index)
    return plan.steps[0].fingerprints


def test_the_cut_is_known_by_the_options_it_always_had(embedding):
    embedding.run("input.keep=[caption]")
    options = {
        "format": "webdataset",
        "path": None,
        "part_rows": 25,
        "columns": {"image": None, "caption": None, "key": None},
        "caption_json_key": None,
        "image_root": None,
    }
    assert facts_of(embedding, "manifest.parquet")["cutting"] == fingerprint(options)


def test_keeping_fields_embeds_again_but_reads_and_cuts_nothing_anew(embedding):
    embedding.run()
    manifest = (embedding.output / "manifest.parquet").stat().st_mtime_ns
    indexed = []

    class Spy(LocalRunner):
        def index(self, source, shards):
            indexed.extend(shards)
            return super().index(source, shards)

    heard = embedding.run("input.keep=[caption, nowhere]", runner=Spy(1))
    assert indexed == []
    assert (embedding.output / "manifest.parquet").stat().st_mtime_ns == manifest
    assert {name for name, _ in heard.parts} >= {"embed", "annotations"}
    assert facts_of(embedding, "annotations/part-00000000.parquet")["keep"] == ["caption", "nowhere"]
    table = pd.read_parquet(embedding.output / "annotations")
    found = [{field["name"]: field["value"] for field in row} for row in table.fields]
    assert found == [{"caption": caption} for caption in table.caption]
    assert embedding.run("input.keep=[caption, nowhere]").parts == []


def test_an_empty_keep_leaves_the_embed_step_as_it_was(embedding):
    embedding.run()
    facts = facts_of(embedding, "embed/part-00000000.parquet")
    assert "keep" not in facts
    assert embed_fingerprints(embedding) == embed_fingerprints(embedding, "input.keep=[]")
    different = {
        embed_fingerprints(embedding, f"input.keep={keep}")[0] for keep in ("[]", "[a]", "[b]", "[a, b]", "[b, a]")
    }
    assert len(different) == 5
    assert pd.read_parquet(embedding.output / "annotations").fields.isna().all()
