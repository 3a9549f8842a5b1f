"""Connections on which browsers wait for blocks. A browser has six to a server, which all of its tabs share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from pipeline.viewing.refusals import busy

T = TypeVar("T")

MOST_HELD = 4
"""Of a browser's connections: as many as one tab uses for chunks (``DOWNLOADS``), so that a single one is never told
to come again. What is left is for pages, panels, and chunks that are there."""

KEPT_S = 15.0
"""How long what somebody was told to come again for goes on without him; viewers come after 10 s at most."""


class Held:
    """Requests of browsers that wait. Of too many the one that has waited longest is told to come again."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Hashable] = {}

    async def wait(self, browser: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for work.

        Args:
            browser: whose connection waits.
            work: is begun unless its request has been given up by then; goes on for a while where its request has
                had to give way; whoever asks again finds it.

        Raises:
            RefusedError: 503: come again.
        """
        future: asyncio.Future[T] = asyncio.ensure_future(work())
        gives_way = asyncio.get_running_loop().create_future()
        self._waiting[gives_way] = browser
        self._have_one_give_way(browser)
        try:
            await asyncio.wait({future, gives_way}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            self._waiting.pop(gives_way, None)
        if not future.done():
            future.add_done_callback(_heard)
            asyncio.get_running_loop().call_later(KEPT_S, future.cancel)
            raise busy()
        return future.result()

    def _have_one_give_way(self, browser: Hashable) -> None:
        of_browser = [one for one, whose in self._waiting.items() if whose == browser]
        for oldest in of_browser[:-MOST_HELD]:
            oldest.set_result(None)
            del self._waiting[oldest]


def browser_of(address: str, program: str) -> Hashable | None:
    """What tells browsers from each other; None of other programs, which open as many connections as they like.

    Args:
        address: of whoever asks.
        program: as ``User-Agent`` has it.

    >>> browser_of("127.0.0.1", "python-requests/2.0") is None
    True
    """
    return (address, program) if program.startswith("Mozilla/") else None


def _heard(future: asyncio.Future[T]) -> None:
    """Whoever asks again is told what has gone wrong."""
    if not future.cancelled():
        future.exception()
