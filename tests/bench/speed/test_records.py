import json

import pytest

from curate.bench.speed.measure import decode_records, race_records
from curate.bench.speed.records import environment, median_record, ratios, shared_limit
from curate.bench.speed.tables import speed_tables


def answers(images: int, *seconds: float) -> list[dict]:
    return [{"images": images, "seconds": each} for each in seconds]


def test_the_median_counts_and_the_spread_is_told():
    found = median_record("decode", "images_per_second", [10.0, 100.0, 20.0], "images/s", method="exact")
    assert (found["value"], found["low"], found["high"], found["repeats"]) == (20.0, 10.0, 100.0, 3)
    assert found["method"] == "exact"


def test_ratios_are_taken_round_by_round():
    # The machine was half as fast in the second round: the ratio is not.
    assert ratios([100, 50], [200, 100]) == [0.5, 0.5]


def test_the_limit_shares_the_cores_between_model_and_decoding():
    assert shared_limit([100.0], [300.0]) == pytest.approx([75.0])


def test_a_race_has_speeds_the_limit_and_every_ratio():
    held = {
        "end_to_end_local": answers(100, 2.0, 2.0, 4.0),
        "bare_loop": answers(100, 1.0, 1.0, 2.0),
        "decode_all_cores": answers(100, 0.5, 0.5, 1.0),
        "eager_loop": answers(10, 1.0, 1.0, 2.0),
    }
    found = {(r["metric"], r["method"]): r["value"] for r in race_records(held, {}, 0)}
    assert found["images_per_second", "end_to_end_local"] == 50
    assert found["images_per_second", "limit"] == pytest.approx(100 / 1.5)
    assert found["end_to_end/bare_loop", "local"] == 0.5
    assert found["end_to_end/limit", "local"] == pytest.approx(0.75)
    assert found["end_to_end/eager_loop", "local"] == 5
    assert not any(metric == "end_to_end/decode_all_cores" for metric, _ in found)


def test_who_cannot_run_says_why():
    held = {"end_to_end_local": answers(100, 2.0)}
    (_, refused) = race_records(held, {"clip_retrieval": "No module named pkg_resources"}, 0)
    assert refused["value"] is None
    assert refused["error"] == "No module named pkg_resources"
    (table,) = speed_tables([refused])
    assert "No module named pkg_resources" in table.rows[0][3]


def test_decoding_is_compared_with_the_exact_one():
    held = {"decode_exact": answers(100, 1.0, 2.0), "decode_fast": answers(100, 0.5, 0.5)}
    found = {(r["metric"], r.get("method")): r["value"] for r in decode_records(held, {}, 1024)}
    assert found["images_per_second_per_core", "exact"] == 75
    assert found["fast/exact", None] == 3


def test_the_machine_stands_in_the_first_record():
    found = environment({"model": "ViT-B-32"})
    assert found["metric"] == "environment"
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0
    assert found["versions"]["torch"]
    assert json.loads(json.dumps(found)) == found
