"""Chunks as they were sent, so that several viewers, or a page that is opened again, decode nothing twice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

CACHE_BYTES = 128_000_000


@dataclass(frozen=True)
class Content:
    """A chunk as it is sent.

    Attributes:
        data: its bytes.
        tag: changes when these may have changed.
    """

    data: bytes
    tag: str


class ChunkCache:
    """The chunks used last, by name."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._size = 0
        self._kept: OrderedDict[tuple[str, ...], Content] = OrderedDict()

    def get(self, name: tuple[str, ...], tag: str) -> Content | None:
        """A chunk as it is with this tag; None where it is not kept."""
        found = self._kept.get(name)
        if found is None or found.tag != tag:
            return None
        self._kept.move_to_end(name)
        return found

    def keep(self, name: tuple[str, ...], content: Content) -> None:
        """Keep a chunk, in place of the one that was kept under its name; those used longest ago may go."""
        self.drop(name)
        self._kept[name] = content
        self._size += len(content.data)
        while self._size > self.limit:
            self.drop(next(iter(self._kept)))

    def drop(self, name: tuple[str, ...]) -> None:
        """Keep a chunk no longer."""
        former = self._kept.pop(name, None)
        self._size -= len(former.data) if former else 0

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._size = 0
