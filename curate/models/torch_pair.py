"""torch and torchvision must come from the same place; open_clip and timm need both."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from curate.errors import CurateError

MISSING = "(missing)"


def require_torch_pair() -> None:
    """Import both, or say what is wrong with them.

    Raises:
        CurateError: one is missing, or they were built for different devices.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        # Beside a torch of another build torchvision fails on its first missing operator, with a RuntimeError.
        raise CurateError(f"torch and torchvision do not work together: {error}. {torch_pair_remedy()}") from error


def torch_pair_remedy() -> str:
    """What to type when the pair is broken."""
    plain = installed("torch").split("+")[0]
    return (
        f"torch {installed('torch')} and torchvision {installed('torchvision')} were built for different devices. "
        f"Take both from one place: pip install --force-reinstall 'torch==={plain}' torchvision -c constraints.txt "
        f"(three equal signs leave out builds such as {plain}+cpu), or both from PyTorch's own CPU index."
    )


def installed(package: str) -> str:
    """Version of an installed package, or MISSING."""
    try:
        return version(package)
    except PackageNotFoundError:
        return MISSING
