"""curate from Python: what the commands do, without a word on the terminal."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import yaml

import curate
from curate.errors import CurateError, InputError
from tests.conftest import Pipeline
from tests.corpus import make_pairs


@pytest.fixture
def raw(finished, tmp_path):
    """The finished pipeline with a run directory of its own."""
    return {**finished.raw, "output": str(tmp_path / "run")}


def contents(folder: Path) -> dict[str, bytes]:
    return Pipeline(folder, folder, {}).contents()


def test_a_run_from_python_has_the_bytes_of_a_run_from_anywhere_and_says_nothing(finished, raw, tmp_path, capfd):
    threads = [each["num_threads"] for each in threadpoolctl.threadpool_info()]
    run = curate.run(raw)
    assert contents(tmp_path / "run") == finished.contents()
    assert len(run) == 160
    assert run.url == raw["output"]
    assert capfd.readouterr() == ("", "")
    assert [each["num_threads"] for each in threadpoolctl.threadpool_info()][: len(threads)] == threads


def test_a_pipeline_is_a_path_a_dict_or_a_config(raw, tmp_path):
    raw = {**raw, "stages": ["embed"]}
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(raw))
    for given in (str(file), file, curate.PipelineConfig.model_validate({**raw, "stages": {"embed": {}}})):
        assert curate.run(given).counts == {"ok": 160}


def test_a_second_run_does_nothing(raw):
    class Counts:
        parts = 0

        def step_started(self, start):
            """Nothing to do."""

        def part_done(self, name, report):
            self.parts += 1

        def step_done(self, report):
            """Nothing to do."""

    heard = [Counts(), Counts()]
    for counts in heard:
        curate.run({**raw, "stages": ["embed"]}, progress=counts)
    assert [counts.parts for counts in heard] == [16, 0]


def test_a_trial_and_fits_of_another_run(finished, raw):
    trial = curate.run({**raw, "stages": ["embed"]}, limit=20, workers=1)
    assert trial.url.endswith("run-limit-20")
    assert len(trial) == 20
    scored = curate.run(raw, fits_from=finished.output)
    assert scored.to_arrow().equals(curate.open(finished.output).to_arrow())


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({"stages": ["embed", {"noise": {"fold": 3}}]}, {}, "pipeline: stages.noise.fold: unknown key; did you mean"),
        ({"stages": "embed"}, {}, "pipeline: stages: must be a list"),
        ({"outptu": "x"}, {}, "pipeline: outptu: unknown key"),
        ({"input": {"path": "nowhere/*.tar"}}, {}, "matches no file"),
        ({}, {"runner": "rya"}, "runner rya: there are local and ray"),
        ({}, {"limit": 0}, "limit is 0"),
        ({}, {"workers": 0}, "workers is 0"),
        ({}, {"fits_from": "nowhere"}, "--fits-from nowhere: no finished noise fit there"),
    ],
)
def test_mistakes_are_input_errors(raw, change, options, told):
    with pytest.raises(InputError) as caught:
        curate.run({**raw, **change}, **options)
    assert told in str(caught.value)


def test_a_directory_that_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="no annotations here"):
        curate.open(tmp_path)


def test_warnings_of_the_user_stay_as_they_were(raw):
    before = list(warnings.filters)
    curate.run({**raw, "stages": ["embed"]}, limit=20)
    assert warnings.filters == before


def test_importing_curate_is_light():
    heavy = "torch", "ray", "open_clip", "pandas", "pyarrow", "numpy", "pydantic", "PIL"
    code = (
        f"import sys, curate; print([name for name in {heavy} if name in sys.modules]); curate.Stage; curate.open;"
        "print([name for name in ('torch', 'ray', 'open_clip', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_all_names_are_there():
    assert all(getattr(curate, name) is not None for name in curate.__all__)
    assert set(curate.__all__) <= set(dir(curate))
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        _ = curate.rnu


def test_a_picture_is_decoded_upright_and_within_a_limit():
    data, _ = make_pairs(1)[0]
    assert np.asarray(curate.decode_picture(data)).shape == (48, 48, 3)
    with pytest.raises(CurateError, match="48 x 48 = 2304 pixels, more than 1000"):
        curate.decode_picture(data, max_pixels=1000)
    with pytest.raises(CurateError, match="cannot be decoded"):
        curate.decode_picture(data[:100])
