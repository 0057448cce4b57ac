"""Errors meant for the person at the terminal."""


class CurateError(Exception):
    """Something failed while working (exit code 1). The message says what, where and what to do."""


class InputError(CurateError):
    """The user's config or input is wrong (exit code 2). The message says what, where and what to do."""
