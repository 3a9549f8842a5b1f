"""Short failures: what a file system or a store refuses at the moment and gives a little later.

They say nothing about the data: nothing is deleted, redone or given up because of them. One table says which errors
they are; whoever tries again takes the pauses from here.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from blockwise.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)
"""Seconds between tries at what has failed for a short time; their number is the budget of tries."""

_NAMES = (
    "EAGAIN", "EBUSY", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ESTALE",
    "ECOMM", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET",
    "ENETUNREACH", "ENOLINK", "ENONET", "ENOTCONN", "EREMOTEIO", "ESHUTDOWN", "ETIMEDOUT",
)  # fmt: skip
ERRNOS = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Error numbers of the system that pass: network file systems, exhausted tables, interrupted calls."""

STATUSES = frozenset({408, 425, 429, *range(500, 600)})
"""Answers of web servers and object stores that pass."""

_TYPES = (TimeoutError, ConnectionAbortedError, ConnectionRefusedError, InterruptedError)
# Libraries in C++ keep the system's text, HDF5 its number, and neither hands it on as Python would.
_TEXT = re.compile("|".join(re.escape(os.strerror(number)) for number in sorted(ERRNOS)))
_NUMBER = re.compile(r"\berrno = (\d+)")


class ShortFailureError(UserError):
    """The file system or the store had trouble; later the same may work."""

    transient = True


def is_transient(error: BaseException) -> bool:
    """Whether the same may work a little later; what an error was raised from counts too."""
    return any(_passes(one) for one in _chain(error))


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, or of what it was raised from; None where the system has refused nothing."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno is not None:
            return one.errno
        if isinstance(one, OSError | RuntimeError) and (found := _NUMBER.search(str(one))):
            return int(found[1])
    return None


def refuse_transient(error: BaseException, where: str = "") -> None:
    """Raise a short failure as what it is.

    Args:
        error: whatever was caught.
        where: what could not be reached, for the message; empty where the error says so.

    Raises:
        ShortFailureError: the error passes; nothing is known about the data.
    """
    if not is_transient(error):
        return
    if isinstance(error, UserError) and error.transient:
        raise error
    raise ShortFailureError(
        f"{where and where + ': '}cannot be reached at the moment: {error}. The file system or the network has "
        "trouble, the data may be sound: run again when it is over, finished blocks are kept"
    ) from error


def patiently(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that may be called again, once more after each of ``PAUSES_S`` while short failures go on.

    Stores have been asked several times when they give up, so their errors are raised at once.

    Raises:
        ShortFailureError: all pauses are over.
    """
    return insistently(PAUSES_S, function, *args, **kwargs)


def insistently(pauses: Sequence[float], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``patiently``, with other pauses, in seconds."""
    for pause in pauses:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            is_of_store = isinstance(error, UserError) and error.transient
            if (is_of_store and not isinstance(error, ShortFailureError)) or not is_transient(error):
                raise
        time.sleep(pause)
    try:
        return function(*args, **kwargs)
    except Exception as error:
        refuse_transient(error)
        raise


def _passes(error: BaseException) -> bool:
    if isinstance(error, UserError):
        return error.transient
    if isinstance(error, _TYPES):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in ERRNOS
    if not isinstance(error, OSError | RuntimeError):
        return False
    number = _NUMBER.search(str(error))
    return int(number[1]) in ERRNOS if number else bool(_TEXT.search(str(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
