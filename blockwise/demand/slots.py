"""Places at workers: fewer than there are who want one, and who is most urgent comes first."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol


class Urgent(Protocol):
    """Who waits for a place.

    Attributes:
        urgency: the highest comes first; it may change while it waits.
    """

    urgency: int


class Slots:
    """Places, given to the most urgent of those who wait.

    Attributes:
        free: places that nobody has.
        queue: who waits, and what tells him that it is his turn.
    """

    def __init__(self, number: int) -> None:
        self.free = number
        self.queue: list[tuple[Urgent, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def taken_by(self, whom: Urgent) -> Any:
        """A place while the body runs; waits for one."""
        if self.free:
            self.free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.queue.append((whom, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was given a place at this very moment
                    self._release()
                else:
                    self.queue = [entry for entry in self.queue if entry[1] is not turn]
                raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        self.queue = [entry for entry in self.queue if not entry[1].done()]  # some may have just been given up
        if not self.queue:
            self.free += 1
            return
        # Of equally urgent ones the first.
        chosen = max(range(len(self.queue)), key=lambda i: (self.queue[i][0].urgency, -i))
        self.queue.pop(chosen)[1].set_result(None)
