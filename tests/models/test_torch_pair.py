"""A torch and a torchvision that do not fit are named, with what to type, and without a traceback."""

import os
import subprocess
import sys

import pytest

BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')"


@pytest.fixture
def broken_pair(tmp_path):
    """The environment of a process whose torchvision fails as it does beside a torch of another build."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def test_a_run_says_what_to_type(broken_pair, pipeline):
    command = [sys.executable, "-m", "curate", "run", str(pipeline.file())]
    result = subprocess.run(command, env=broken_pair, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "operator torchvision::nms does not exist" in result.stderr
    assert "pip install --force-reinstall 'torch===" in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_names_the_problem(broken_pair):
    command = [sys.executable, "-m", "curate", "doctor"]
    result = subprocess.run(command, env=broken_pair, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "problem" in result.stdout
    assert "torch===" in result.stdout
