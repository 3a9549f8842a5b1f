"""How blocks are dealt to Dask workers: in slices of a few seconds, few of which the scheduler knows at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from blockwise.backends.pausing import Pausing
from blockwise.job import Order

SLICE_S = 2.0
"""How long a slice should last: far more than the milliseconds that Dask takes for it, and soon enough to be told."""
AHEAD = 2
"""Slices in the scheduler for each thread of a Dask worker: one at work, one waiting. A million blocks stay here."""
MOST = 500
"""Most blocks of a slice, however short they are."""
SAMPLE = 64

SOLITARY = 3
"""A block that has lost so many Dask workers is computed while nothing else is: it may be what ends them."""
MOST_LOSSES = 5
"""And after so many more than one would think, it is given up."""


class Dealing:
    """What waits, and how it is cut into slices.

    Attributes:
        waiting: blocks to be dealt, in this order.
        pausing: blocks that wait for their time.
    """

    def __init__(self, orders: Iterable[Order]) -> None:
        self.waiting = deque(orders)
        self.pausing = Pausing[Order]()
        self._seconds: deque[float] = deque(maxlen=SAMPLE)

    @property
    def left(self) -> int:
        """Number of blocks that are not dealt."""
        return len(self.waiting) + len(self.pausing)

    def took(self, seconds: float) -> None:
        """Learn how long a block has taken."""
        self._seconds.append(seconds)

    def next_slice(self, threads: int, slices: list[list[Order]]) -> list[Order]:
        """Blocks for one more slice; none where there are enough.

        Args:
            threads: of all Dask workers.
            slices: those in the scheduler.
        """
        self.waiting.extend(self.pausing.due())
        if not self.waiting or len(slices) >= AHEAD * threads:
            return []
        if slices and (is_solitary(slices[0]) or is_solitary([self.waiting[0]])):
            return []
        found = [self.waiting.popleft()]
        size = self._size(threads)
        while self.waiting and len(found) < size and not any(map(_is_alone, (found[0], self.waiting[0]))):
            found.append(self.waiting.popleft())
        return found

    def _size(self, threads: int) -> int:
        """Blocks of a slice; one as long as nobody knows how long a block takes, and all get some at the end."""
        if not self._seconds:
            return 1
        mean = sum(self._seconds) / len(self._seconds)
        share = math.ceil(len(self.waiting) / (AHEAD * threads))
        return max(1, min(MOST, share, int(SLICE_S / max(mean, 1e-6))))


def is_solitary(orders: list[Order]) -> bool:
    """Whether nothing else is to be computed beside these."""
    return any(order.moves >= SOLITARY for order in orders)


def moved(order: Order, losses: int) -> Order | None:
    """An order that has lost so many Dask workers; None where these are too many."""
    moves = order.moves + losses
    return replace(order, moves=moves) if moves <= MOST_LOSSES else None


def _is_alone(order: Order) -> bool:
    return order.alone or order.moves >= SOLITARY
