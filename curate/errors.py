"""Errors meant for the person at the terminal."""


class CurateError(Exception):
    """Something failed while working (exit code 1). The message says what, where and what to do."""


class InputError(CurateError):
    """The user's config or input is wrong (exit code 2). The message says what, where and what to do."""


LEARNED = "ok"
"""The verdict of a fit that found enough to learn from."""


class NothingToLearnError(InputError):
    """The pairs are fine, but too few or too much alike for what should learn from them. The message is a verdict."""
