"""What the plan of the embed step says of how pictures are decoded."""

from curate.execution import LocalRunner
from curate.plan import make_plan
from curate.plan.embed import embed_facts
from curate.plan.options import decode_options, embed_decode_options
from curate.plan.refine import _decode_facts
from curate.store import RunStore


def test_fast_decoding_is_asked_of_the_workers_and_told_in_every_file(pipeline):
    pipeline.raw["stages"] = [{"embed": {"decode": "fast"}}]
    pipeline.run()
    facts = RunStore(str(pipeline.output)).read_facts("embed/part-00000000.parquet")
    assert facts["decode"]["mode"] == "fast"


def test_another_decode_mode_embeds_again_and_the_same_one_does_not(pipeline):
    pipeline.raw["stages"] = ["embed"]
    assert len(pipeline.run().parts) == len(pipeline.run("stages.embed.decode=fast").parts) > 0
    assert not pipeline.run("stages.embed.decode=fast").parts
    assert pipeline.run("stages.embed.decode=exact").parts


def test_exact_decoding_keeps_the_fingerprints_that_it_always_had(pipeline, finished):
    config, spec = pipeline.config(), make_plan(finished.config(), LocalRunner(1).index).spec
    assert embed_facts(config, spec)["decode"] == {"mode": "exact", "max_image_pixels": 200_000_000}
    assert "mode" not in _decode_facts(embed_decode_options(config, spec))
    assert _decode_facts(embed_decode_options(pipeline.config("stages.embed.decode=fast"), spec))["mode"] == "fast"
    assert decode_options(pipeline.config("stages.embed.decode=fast"), spec).mode == "exact"
