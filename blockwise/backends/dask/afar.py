"""Calls of ``slices`` on Dask workers, by one connection.

They go as bytes, so that the scheduler needs nothing of ours, and a Dask worker without our packages says so.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockwise.backends.dask.brief import Place
from blockwise.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long a network file system may take to show on one machine what another has written."""
ANSWER_S = 10.0
"""How long Dask workers may take to answer a question; one whose machine is gone never does."""
FIRST_ANSWER_S = 120.0
"""The same for the first question, for which they load our packages, all at once from one file server."""
MODULE = "blockwise.backends.dask.slices"


def afar(name: str) -> Callable[[bytes], Any]:
    """A function of ``slices``, for a Dask worker; its arguments are a pickled tuple."""

    def call(arguments: bytes) -> Any:  # a function within a function goes by its code, not by its module's name
        import importlib
        import pickle

        return getattr(importlib.import_module(module), name)(*pickle.loads(arguments))  # noqa: S301 (the driver's)

    module = MODULE
    return call


def packed(*arguments: object) -> bytes:
    """Arguments as they go to a Dask worker."""
    return pickle.dumps(arguments)


def asked(client: Client, name: str, place: Place, limit_s: float = ANSWER_S) -> dict[str, Any]:
    """What a function of ``slices`` says of a step, by the addresses of the Dask workers; errors are answers too.

    Those that leave at this moment are left out. Where one does not answer in time, as its machine is gone, none has.
    """
    try:
        found = client.run(afar(name), packed(place), on_error="return", callback_timeout=limit_s)
    except (OSError, TimeoutError) as error:
        logger.warning("Dask workers do not answer: %s", error or f"not within {limit_s:.0f} s")
        return {}
    return {address: answer for address, answer in found.items() if not isinstance(answer, OSError)}


def check_workers(client: Client, place: Place, what: str) -> None:
    """Look whether all present Dask workers run the same code and find the work folder; later ones look themselves.

    Args:
        client: the connection.
        place: of the step's brief.
        what: the step, for the message.

    Raises:
        UserError: naming a Dask worker that does not, and why.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        found = asked(client, "look", place, FIRST_ANSWER_S)
        wrong = {address: _reason(answer) for address, answer in found.items() if answer != ("", True)}
        if not wrong:
            return
        if time.monotonic() > end or not all(may_pass for _, may_pass in wrong.values()):
            break
        time.sleep(0.5)
    address, (why, _) = min(wrong.items(), key=lambda pair: pair[1][1])
    raise UserError(f"{what}: Dask worker {address} ({len(wrong)} of {len(found)}) cannot compute: {why}")


def _reason(answer: object) -> tuple[str, bool]:
    if isinstance(answer, tuple):
        return answer
    return cannot_load(answer), False


def cannot_load(error: object) -> str:
    """What is wrong with a Dask worker that does not know our packages, or not what they need."""
    return (
        f"{type(error).__name__}: {error}; where Dask workers run, this program must be installed, the same version "
        "as here, or PYTHONPATH lead to it"
    )
