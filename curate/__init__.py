"""curate: offline curation of noisy web image-text corpora."""

from importlib.metadata import version

__version__ = version("curate")
