"""Errors meant for people: one line that says what was wrong, where, and what to do."""


class MagiError(RuntimeError):
    """Something a user can act on, found while working: missing weights, a full disk, too little memory."""

    exit_code = 1


class MagiUsageError(MagiError, ValueError):
    """A wrong setting or argument."""

    exit_code = 2
