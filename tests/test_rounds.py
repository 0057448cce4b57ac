"""What the rounds of refinement did is told alike for heads and for towers, and an earlier run's rounds are not."""

import numpy as np
import pyarrow as pa
import pytest

from curate.rounds import believed_artifact, rounds_of
from curate.store import RunStore, part_file

ANNOTATIONS = [part_file("annotations", 0), part_file("annotations", 1)]
TOWERS = {"trainable": "full", "rounds": 3, "trusted_below": 0.5}


def mixture(share):
    return {"noise_share": share, "separable": "yes"}


@pytest.fixture
def store(tmp_path):
    return RunStore(str(tmp_path))


def annotate(store, **facts):
    for name in ANNOTATIONS:
        store.write_table(name, pa.table({"row_id": ["a"]}), {"fingerprint": "x", **facts})


def scores(store, step, *parts):
    for number, values in enumerate(parts):
        store.write_table(part_file(step, number), pa.table({"noise_prob": pa.array(values, pa.float32())}), {})


def trained(store, number, **diagnostics):
    store.write_json(
        f"artifacts/refine-{number}/artifact.json", {"fingerprint": "t", "files": [], "diagnostics": diagnostics}
    )


def fitted(store, name, **diagnostics):
    store.write_json(f"artifacts/{name}/artifact.json", {"fingerprint": "f", "files": [], "diagnostics": diagnostics})


def test_a_run_without_refinement_has_none(store):
    annotate(store)
    fitted(store, "refine", rounds=[{"round": 1}], ended="settled")
    assert rounds_of(store, ANNOTATIONS) == {}
    assert believed_artifact({}) == ("noise", "")


def test_rounds_of_heads_are_those_that_annotations_come_from(store):
    annotate(store, refine={"loss": "nitc"}, refine_fit="f")
    made = {"rounds": [{"round": 1, "mixture": mixture(0.2)}], "ended": "settled"}
    fitted(store, "refine", **made)
    assert rounds_of(store, ANNOTATIONS) == made
    assert believed_artifact(made) == ("refine", "rounds.0.")
    annotate(store, refine={"loss": "nitc"}, refine_fit="another")
    assert rounds_of(store, ANNOTATIONS) == {}


def test_rounds_of_towers_say_who_entered_and_who_left(store):
    annotate(store, refine=TOWERS)
    scores(store, "noise", [0.1, 0.6, None], [0.9, 0.2])
    scores(store, "refine-1-noise", [0.1, 0.4, None], [0.3, 0.8])
    scores(store, "refine-2-noise", [0.1, 0.4, None], [0.7, 0.8])
    trained(store, 1, settled=False, moved=None, trusted=2, epoch_losses=[3.0, 2.0])
    trained(store, 2, settled=False, moved=0.6, trusted=3, epoch_losses=[3.0, 1.0])
    trained(store, 3, settled=True, moved=0.001, trusted=2)
    fitted(store, "refine-1-noise", **mixture(0.3))
    fitted(store, "refine-2-noise", **mixture(0.2))
    found = rounds_of(store, ANNOTATIONS)
    first, second = found["rounds"]
    assert {name: first[name] for name in ("round", "trusted", "entered", "left")} == {
        "round": 1,
        "trusted": 3,
        "entered": 2,
        "left": 1,
    }
    assert (second["trusted"], second["entered"], second["left"]) == (2, 0, 1)
    assert second["mixture"] == mixture(0.2)
    assert second["epoch_losses"] == [3.0, 1.0]
    assert found["ended"] == "settled"
    assert believed_artifact(found) == ("refine-2-noise", "")


def test_rounds_of_towers_beyond_those_asked_for_are_an_earlier_runs(store):
    annotate(store, refine={**TOWERS, "rounds": 1})
    for step in ("noise", "refine-1-noise"):
        scores(store, step, np.zeros(2), np.zeros(2))
    for number in (1, 2):
        trained(store, number, settled=False, moved=None, trusted=4, epoch_losses=[1.0])
        fitted(store, f"refine-{number}-noise", **mixture(0.1))
    found = rounds_of(store, ANNOTATIONS)
    assert [each["round"] for each in found["rounds"]] == [1]
    assert found["ended"] == "all rounds done"


def test_towers_that_nobody_could_teach_say_so(store):
    annotate(store, refine=TOWERS)
    trained(store, 1, settled=True, moved=None, trusted=7)
    found = rounds_of(store, ANNOTATIONS)
    assert found["rounds"] == []
    assert found["ended"] == "too few trusted pairs: 7"
    assert believed_artifact(found) == ("noise", "")
