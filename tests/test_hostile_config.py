"""Whatever a pipeline file holds: a config, or an InputError with the line, in time; nothing in it is executed."""

import contextlib
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.bench.hostile.pipelines import PIPELINE_TEXTS
from curate.config import PipelineConfig, parse_config
from curate.errors import InputError

GOOD = "input: {path: a.tar}\noutput: out\nstages: [embed]\n"
SECONDS = 10.0
HOSTILE = [text for texts in PIPELINE_TEXTS.values() for text in texts]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[-20:]!r}")
def test_a_hostile_file_is_refused_in_time_with_a_short_message(text, tmp_path):
    canary = tmp_path / "canary"
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_config(text.replace("{canary}", str(canary)), "p.yaml")
    assert time.process_time() - begun < SECONDS
    assert str(caught.value).startswith("p.yaml")
    assert len(str(caught.value)) < 2000
    assert not canary.exists()


@pytest.mark.parametrize("value", ["2001-99-99", "9" * 5000, "!!int x", '"\\0"'])
def test_a_hostile_override_is_refused(value):
    with pytest.raises(InputError, match="not valid YAML"):
        parse_config(GOOD, "p.yaml", [f"seed={value}"])


def known_paths(model=PipelineConfig, path=()):
    """Paths of all keys of a pipeline file, stages by name."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                yield from known_paths(kind, (*path, name))


PATHS = sorted(set(known_paths()))
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates() | st.binary(max_size=3)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=8
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PATHS), values)
def test_any_value_at_any_key_gives_a_config_or_an_input_error(path, value):
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)
    text = " ".join(text.removesuffix("...\n").split("\n"))
    with contextlib.suppress(InputError):
        assert isinstance(parse_config(GOOD, "p.yaml", [f"{'.'.join(path)}={text}"]), PipelineConfig)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["input", "output", "stages", "encoder", "seed"]) | scalars, values, max_size=6)
)
def test_any_mapping_gives_a_config_or_an_input_error(mapping):
    with contextlib.suppress(InputError):
        assert isinstance(parse_config(yaml.safe_dump(mapping), "p.yaml"), PipelineConfig)
