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


@dataclass
class _Making:
    """A chunk that is being made.

    Attributes:
        data: its bytes.
        waiters: how many wait for them.
    """

    data: asyncio.Future[bytes]
    waiters: int = 0


class ChunkCache:
    """The chunks used last, by name."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._size = 0
        self._kept: OrderedDict[tuple[str, ...], Content] = OrderedDict()
        self._making: dict[tuple[str, ...], _Making] = {}

    async def made(self, name: tuple[str, ...], tag: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> Content:
        """A chunk as it is with this tag, made where it is not kept: once, however many wait for it.

        Args:
            name: of the chunk.
            tag: see ``Content``.
            make: makes its bytes; is cancelled when all who wait for it have gone away.

        Raises:
            Exception: whatever ``make`` has raised.
        """
        found = self.get(name, tag)
        if found is not None:
            return found
        key = (*name, tag)
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = _Making(asyncio.ensure_future(make()))
        making.waiters += 1
        try:
            data = await asyncio.shield(making.data)
            if (content := self.get(name, tag)) is None:
                content = Content(data, tag)
                self.keep(name, content)
            return content
        finally:
            making.waiters -= 1
            if not making.waiters:  # who wants it from now on begins anew
                making.data.cancel()
                self._making.pop(key, None)

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
