"""A newcomer's path, command by command, ends with a model that has trained on the exported pairs."""

import json

import pandas as pd

from tests.docs.snippets import losses


def test_the_first_steps_lead_from_a_corpus_to_a_trained_model(first_steps):
    told = losses(first_steps.printed)
    assert len(told) == 20
    assert all(0 < loss < 10 for loss in told)
    assert (first_steps.folder / "logs" / "first-steps" / "checkpoints" / "epoch_1.pt").stat().st_size > 0


def test_what_is_trained_on_is_what_was_kept(first_steps):
    annotations = pd.read_parquet(first_steps.folder / "runs" / "clipart" / "annotations")
    sizes = json.loads((first_steps.folder / "kept" / "sizes.json").read_text())
    assert sum(sizes.values()) == (annotations.noise_prob < 0.5).sum() < len(annotations)


def test_there_is_a_page_to_look_at(first_steps):
    assert "data:image/jpeg" in (first_steps.folder / "runs" / "clipart" / "report.html").read_text(encoding="utf-8")
