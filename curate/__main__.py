"""`python -m curate`."""

from curate.cli import entry

entry()
