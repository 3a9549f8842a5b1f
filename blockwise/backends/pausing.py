"""What waits for its time before it is tried again."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Pausing(Generic[T]):
    """Things that are to wait, each for a time of its own."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, thing: T, pause_s: float) -> None:
        """Let a thing wait for some seconds."""
        self._waiting.append((time.monotonic() + pause_s, thing))

    def due(self) -> list[T]:
        """Take out what has waited long enough, in the order in which it came."""
        now = time.monotonic()
        found = [thing for end, thing in self._waiting if end <= now]
        self._waiting = [pair for pair in self._waiting if pair[0] > now]
        return found
