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

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(printable(str(message)), *more)


def printable(text: str) -> str:
    """Text for a terminal: names and contents of files may hold signs that would command it, or hide what follows."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DiskFullError(UserError):
    """A write failed because the file system is full; trying again does not help."""
