"""Errors that a user can mend; everything else is a programming error and keeps its traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong: a path, a setting, a file's content.

    Attributes:
        transient: trying again later may help, as with a store that cannot be reached.

    The message names what was found and where, what was expected, and what to do next. It is shown
    without a traceback.
    """

    transient = False


class DiskFullError(UserError):
    """A write failed because the file system is full; trying again does not help."""
