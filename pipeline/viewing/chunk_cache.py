"""Chunks as they were sent, so that several viewers, or a page that is opened again, decode nothing twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

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
        self._making: dict[tuple[str, ...], asyncio.Task[Content]] = {}

    async def made(self, name: tuple[str, ...], tag: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> Content:
        """A chunk as it is with this tag, made where it is not kept: once, however many wait for it.

        Args:
            name: of the chunk.
            tag: see ``Content``.
            make: makes its bytes; goes on where those who wait go away.

        Raises:
            Exception: whatever ``make`` has raised.
        """
        found = self.get(name, tag)
        if found is not None:
            return found
        key = (*name, tag)
        if key not in self._making:
            self._making[key] = asyncio.create_task(self._make(name, tag, make))
            self._making[key].add_done_callback(lambda task: self._end(key, task))
        return await asyncio.shield(self._making[key])

    async def _make(self, name: tuple[str, ...], tag: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> Content:
        content = Content(await make(), tag)
        self.keep(name, content)
        return content

    def _end(self, key: tuple[str, ...], task: asyncio.Task[Content]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # of which nobody may have wanted to know in the end

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
