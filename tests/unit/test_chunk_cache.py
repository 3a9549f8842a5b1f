"""Chunks that several wait for: made once, and not at all where nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.viewing.chunk_cache import ChunkCache, Content

NAME = ("layer", "fingerprint", "0/0/0/0")


class Making:
    """Bytes that are there when somebody says so.

    Attributes:
        begun: how often it was begun.
        given_up: how often it was cancelled.
    """

    def __init__(self) -> None:
        self.begun = self.given_up = 0
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> bytes:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.error:
            raise self.error
        return b"voxels"


def run(test: Callable[[ChunkCache, Making], Awaitable[None]]) -> None:
    async def begin() -> None:
        await test(ChunkCache(), Making())

    asyncio.run(begin())


async def begin(cache: ChunkCache, making: Making, tag: str = "tag") -> asyncio.Task[Content]:
    task = asyncio.create_task(cache.made(NAME, tag, making))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_it_is_made_once_for_all_who_wait_and_kept() -> None:
    async def test(cache: ChunkCache, making: Making) -> None:
        waiting = [await begin(cache, making) for _ in range(3)]
        making.go_on.set()
        assert await asyncio.gather(*waiting) == [Content(b"voxels", "tag")] * 3
        assert await cache.made(NAME, "tag", making) == Content(b"voxels", "tag")
        assert making.begun == 1
        await cache.made(NAME, "another tag", making)
        assert making.begun == 2

    run(test)


def test_it_is_given_up_when_the_last_who_waits_goes_away() -> None:
    async def test(cache: ChunkCache, making: Making) -> None:
        first, second = [await begin(cache, making) for _ in range(2)]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert making.given_up == 0
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert (making.begun, making.given_up) == (1, 1)
        third = await begin(cache, making)
        making.go_on.set()
        assert await third == Content(b"voxels", "tag")
        assert making.begun == 2

    run(test)


def test_an_error_is_everybody_s_and_is_not_kept() -> None:
    async def test(cache: ChunkCache, making: Making) -> None:
        making.error = OSError("damaged")
        waiting = [await begin(cache, making) for _ in range(2)]
        making.go_on.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert found == [making.error] * 2
        making.error = None
        assert await cache.made(NAME, "tag", making) == Content(b"voxels", "tag")

    run(test)
