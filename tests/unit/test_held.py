"""Which of a browser's requests give way, and what becomes of their work."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from pipeline.viewing import held as held_module
from pipeline.viewing.held import MOST_HELD, Held
from pipeline.viewing.refusals import RefusedError


def given(work: asyncio.Future[Any]) -> asyncio.Future[Any]:
    return work


def test_the_one_that_has_waited_longest_gives_way_and_its_work_goes_on() -> None:
    async def run() -> None:
        held, work = Held(), [asyncio.get_running_loop().create_future() for _ in range(MOST_HELD + 2)]
        waiting = [asyncio.create_task(held.wait("browser", partial(given, one))) for one in work[:MOST_HELD]]
        other = asyncio.create_task(held.wait("another browser", partial(given, work[-1])))
        await asyncio.sleep(0)
        assert not any(one.done() for one in (*waiting, other))
        newest = asyncio.create_task(held.wait("browser", partial(given, work[MOST_HELD])))
        with pytest.raises(RefusedError) as refused:
            await waiting[0]
        assert refused.value.status == 503
        assert not work[0].done()
        for number, one in enumerate(work):
            one.set_result(number)
        assert await asyncio.gather(*waiting[1:], newest, other) == [*range(1, MOST_HELD + 2)]

    asyncio.run(run())


def test_work_that_nobody_has_come_again_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(held_module, "KEPT_S", 0.0)
        held, work = Held(), [asyncio.get_running_loop().create_future() for _ in range(MOST_HELD + 1)]
        waiting = [asyncio.create_task(held.wait("browser", partial(given, one))) for one in work]
        with pytest.raises(RefusedError):
            await waiting[0]
        with pytest.raises(asyncio.CancelledError):
            await work[0]
        waiting[1].cancel()  # who has gone wants nothing
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        assert work[1].cancelled()
        work[2].set_exception(RefusedError(404, "as it is told"))
        with pytest.raises(RefusedError, match="as it is told"):
            await waiting[2]
        for one in waiting[3:]:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


def test_work_that_is_given_up_before_its_turn_is_not_begun() -> None:
    """A chunk whose reading was made but never begun would be told of, as a warning, at any time later."""
    begun: list[str] = []

    async def work() -> None:
        begun.append("work")

    async def run() -> None:
        waiting = asyncio.create_task(Held().wait("browser", work))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert begun == []
