"""Promises about the code itself that a reader relies on."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "curate"
MODULES = sorted(PACKAGE.rglob("*.py"))
RUNS_RAY = {"execution.py"}
PRINTS = {"cli"}
# Made of torch through and through: nothing of curate imports them before it trains or writes.
MADE_OF_TORCH = {
    "bench/draws.py",
    "bench/speed/caption.py",
    "bench/heads.py",
    "bench/paper/adapter.py",
    "bench/towers.py",
    "completion/coca.py",
    "models/captioner.py",
    "models/captioner_networks.py",
    "models/clip_tokenizer.py",
    "models/endings.py",
    "models/finetune.py",
    "models/lora.py",
    "models/losses.py",
    "noise/virtual_update.py",
}
HEAVY = {"torch", "ray", "open_clip", "timm", "transformers", "sklearn", "faiss"}


def imported(node):
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.split(".")[0]}
    return set()


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_runner_imports_ray(path):
    found = set().union(*(imported(node) for node in ast.walk(ast.parse(path.read_text()))))
    assert "ray" not in found or name_of(path) in RUNS_RAY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_heavy_is_imported_before_it_is_needed(path):
    at_import = set().union(*(imported(node) for node in ast.parse(path.read_text()).body))
    assert not at_import & HEAVY or name_of(path) in MADE_OF_TORCH


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_commands_print(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)
    draws = "rich" in set().union(*(imported(node) for node in ast.walk(ast.parse(path.read_text()))))
    assert not (prints or draws) or path.relative_to(PACKAGE).parts[0] in PRINTS


def test_every_package_folder_is_mirrored_by_tests():
    folders = {
        path.parent.relative_to(PACKAGE) for path in MODULES if path.parent != PACKAGE and path.name != "__init__.py"
    }
    assert all((PACKAGE.parent / "tests" / folder).is_dir() for folder in folders)


def test_no_file_holds_an_index_address(pytestconfig):
    root = pytestconfig.rootpath
    files = [root / name for name in ("pyproject.toml", "constraints.txt", "Makefile", "README.md", ".ci/run")]
    pattern = re.compile(r"index[-]url|find[-]links|https?://\S*[/]simple\b")
    assert not [file.name for file in files if pattern.search(file.read_text())]
