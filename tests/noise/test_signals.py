from __future__ import annotations

import pytest

from curate.errors import InputError
from curate.noise.signals import (
    CROSSFIT,
    HIGHER_IS_NOISIER,
    JOINT_ONLY,
    SIGNAL_NAMES,
    computed_signals,
    evidence_of,
    published_mixture,
)
from curate.schema import SIGNAL_DESCRIPTIONS, SIGNALS_TYPE


def test_names_and_directions_are_those_of_the_schema():
    assert SIGNAL_NAMES == tuple(field.name for field in SIGNALS_TYPE) == tuple(SIGNAL_DESCRIPTIONS)
    noisier = {field.name for field in SIGNALS_TYPE if field.metadata[b"direction"] == b"higher is noisier"}
    assert noisier == HIGHER_IS_NOISIER


def test_by_default_agreement_counts_in_every_space_there_is():
    assert evidence_of("default", joint_space=True) == (*JOINT_ONLY, *CROSSFIT)
    assert evidence_of("default", joint_space=False) == CROSSFIT


def test_all_signals_are_those_that_the_towers_have():
    assert evidence_of("all", joint_space=True) == SIGNAL_NAMES
    assert evidence_of("all", joint_space=False) == tuple(name for name in SIGNAL_NAMES if name not in JOINT_ONLY)


def test_the_order_in_which_signals_are_named_does_not_matter():
    assert evidence_of(("osa", "itc_loss"), True) == evidence_of(("itc_loss", "osa"), True) == ("itc_loss", "osa")


@pytest.mark.parametrize("chosen", [("clip_similarity",), ("clip_csls", "itc_loss"), JOINT_ONLY])
def test_a_signal_that_the_towers_do_not_have_is_named(chosen):
    with pytest.raises(InputError) as told:
        evidence_of(chosen, joint_space=False)
    assert all(name in str(told.value) for name in chosen if name in JOINT_ONLY)
    assert "itc_loss" not in str(told.value)
    assert "not trained together" in str(told.value)


def test_hints_and_agreement_are_always_computed():
    assert computed_signals(("osa",), joint_space=False) == (*CROSSFIT, "itc_loss", "negative_impact", "osa")
    assert set(computed_signals((), joint_space=True)) == {*JOINT_ONLY, *CROSSFIT, "itc_loss", "negative_impact"}


def test_only_a_single_signal_has_a_papers_mixture():
    assert published_mixture(("itc_loss",)) == published_mixture(("clip_similarity",)) == "gmm"
    assert published_mixture(("osa",)) is None
    assert published_mixture(("itc_loss", "topology")) is None
