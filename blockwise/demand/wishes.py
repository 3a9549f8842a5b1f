"""Blocks computed because somebody waits for them: the newest wish first, each block once, what it needs before it.

All of it belongs to one event loop. Whoever wants a block awaits it; who is cancelled wants it no more, and a block
that nobody wants leaves the queue, with what only it would have needed. One that is being computed is finished and
kept. Between processes claims see to it that each block is computed once, and markers say what is done.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from blockwise.backends import Outcome, Referee
from blockwise.backends.executor import Executor
from blockwise.demand.beginning import begin_in_free_place
from blockwise.demand.presence import Presence, needed_blocks
from blockwise.demand.slots import Slots
from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.transient import PAUSES_S
from blockwise.worker import Result

P = ParamSpec("P")
T = TypeVar("T")

MOST_WISHES = 1000
"""Blocks that may be waited for at a time; who wants one more is told to come again."""
REMEMBERED_S = 30.0
"""A block that has failed is not tried again before."""
ROUNDS = 3
"""How often a block is begun with anew, because what it reads was damaged or has changed."""
LOOKERS = 4

logger = logging.getLogger(__name__)


class BusyError(Exception):
    """Too many blocks are waited for."""


class BlockFailedError(Exception):
    """A block cannot be computed.

    Attributes:
        step: whose block.
        block: its id.
        result: of the last attempt.
        log: of the worker.
    """

    def __init__(self, step: BlockStep, block: int, result: Result, log: str) -> None:
        super().__init__(f"{step.label}: {step.title(block)}: {result.error}: {result.message}")
        self.step = step
        self.block = block
        self.result = result
        self.log = log


@dataclass
class _Wish:
    """A block that somebody waits for.

    Attributes:
        urgency: of the newest who does.
        waiters: how many do.
        running: a worker computes it.
        needs: blocks that it needs first.
    """

    step: BlockStep
    block: int
    urgency: int
    waiters: int = 0
    running: bool = False
    needs: list[tuple[BlockStep, int]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Demand:
    """Blocks of steps that stand alone, computed as they are asked for.

    Attributes:
        presence: what is known of blocks that are there.
        executor: what computes.
        max_attempts: how often a block is tried.
        pauses_s: after each short failure, which then counts for nothing.
        computed: blocks that were computed here, by the step's label.
    """

    def __init__(
        self, presence: Presence, executor: Executor, max_attempts: int, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self.presence = presence
        self.executor = executor
        self.max_attempts = max_attempts
        self.pauses_s = pauses_s
        self.computed: Counter[str] = Counter()
        self._wishes: dict[tuple[str, str, int], _Wish] = {}
        self._failed: dict[tuple[str, str, int], tuple[float, BlockFailedError]] = {}
        self._begun: dict[tuple[str, str], asyncio.Lock] = {}
        self._ready: set[tuple[str, str]] = set()
        self._numbers = itertools.count()
        self._slots = Slots(executor.size)
        self._workers = ThreadPoolExecutor(executor.size, "computing")
        self._lookers = ThreadPoolExecutor(LOOKERS, "looking")

    def close(self) -> None:
        """End all work."""
        for wish in list(self._wishes.values()):
            if wish.task is not None:
                wish.task.cancel()
        self.executor.close()
        for pool in (self._workers, self._lookers):
            pool.shutdown(cancel_futures=True)

    def waiting(self, step: BlockStep) -> int:
        """How many blocks of a step are waited for, those that are being computed included."""
        place = _key(step, 0)[:2]
        return sum(key[:2] == place for key in self._wishes)

    async def need(self, step: BlockStep, blocks: Iterable[int]) -> None:
        """Wait until blocks of a step are done.

        Raises:
            BlockFailedError: one of them, or of what it needs, cannot be computed.
            BusyError: too many are waited for.
            UserError: they cannot be written there.
        """
        if len(self._wishes) >= MOST_WISHES:
            raise BusyError
        urgency = next(self._numbers)
        await _all(self._need(step, block, urgency) for block in blocks)

    async def _need(self, step: BlockStep, block: int, urgency: int) -> None:
        key = _key(step, block)
        wish = self._wishes.get(key)
        if wish is None:
            self._refuse_failed(key)
            wish = self._wishes[key] = _Wish(step, block, urgency)
            wish.task = asyncio.ensure_future(self._make(wish))
            wish.task.add_done_callback(lambda task: self._end(key, task))
        self._urge(wish, urgency)
        if wish.task is None:
            raise RuntimeError("a wish without a task")
        wish.waiters += 1
        try:
            await asyncio.shield(wish.task)
        finally:
            wish.waiters -= 1
            if not wish.waiters and not wish.running and not wish.task.done():
                wish.task.cancel()
                if self._wishes.get(key) is wish:  # who wants it from now on begins anew
                    del self._wishes[key]

    def _end(self, key: tuple[str, str, int], task: asyncio.Task[None]) -> None:
        wish = self._wishes.get(key)
        if wish is not None and wish.task is task:
            del self._wishes[key]
        error = None if task.cancelled() else task.exception()  # nobody may be left to ask for it
        if isinstance(error, BlockFailedError) and key == _key(error.step, error.block):
            self._failed[key] = time.monotonic(), error

    def _refuse_failed(self, key: tuple[str, str, int]) -> None:
        failed_at, error = self._failed.pop(key, (0.0, None))
        if error is not None and time.monotonic() - failed_at < REMEMBERED_S:
            self._failed[key] = failed_at, error
            raise error

    def _urge(self, wish: _Wish, urgency: int) -> None:
        """Somebody else wants it as well; so all that it needs is wanted as much."""
        if urgency <= wish.urgency:
            return
        wish.urgency = urgency
        for step, block in wish.needs:
            needed = self._wishes.get(_key(step, block))
            if needed is not None:
                self._urge(needed, urgency)

    async def _make(self, wish: _Wish) -> None:
        """See that a block is done."""
        step, block = wish.step, wish.block
        result = None
        for _ in range(ROUNDS):
            if await self._look(self.presence.is_done, step, block):
                return
            await self._begin(step)
            wish.needs = await self._look(self._missing, step, block)
            await _all(self._need(*needed, wish.urgency) for needed in wish.needs)
            result, log = await self._compute(wish)
            if result.state != "failed":
                self.presence.forget(step, block)
                self.computed[step.label] += result.state == "computed"
                if await self._look(self.presence.is_done, step, block):
                    return
            elif not result.upstream:
                raise BlockFailedError(step, block, result, log)
            else:  # what it reads was damaged, and is no longer vouched for
                self.presence.look_again()
        why = Result(block, "failed", 0, 0.0, "InputChangedError", "what it reads or writes keeps changing")
        raise BlockFailedError(step, block, result if result and result.upstream else why, "")

    def _missing(self, step: BlockStep, block: int) -> list[tuple[BlockStep, int]]:
        """What a block needs first: what of it is not done."""
        return [needed for needed in needed_blocks(step, block) if not self.presence.is_done(*needed)]

    async def _begin(self, step: BlockStep) -> None:
        """Make everything ready for blocks of a step; done again where another process has begun anew."""
        key = _key(step, 0)[:2]
        async with self._begun.setdefault(key, asyncio.Lock()):
            if key not in self._ready:
                await self._look(step.make_ready)
                self._ready.add(key)
            await self._look(begin_in_free_place, step)

    async def _compute(self, wish: _Wish) -> tuple[Result, str]:
        """Have a worker compute a block, several times if need be; what became of it, and the log that tells."""
        referee = Referee(Outcome(total=1), self.max_attempts, self.pauses_s)
        order: Order | None = Order(await self._look(self.presence.item, wish.step, wish.block))
        while order is not None:
            await asyncio.sleep(order.pause_s)
            async with self._slots.taken_by(wish):
                wish.running = True
                try:
                    result = await asyncio.get_running_loop().run_in_executor(
                        self._workers, self.executor.compute, wish.step, order
                    )
                finally:
                    wish.running = False
            order = referee.next_order(order, result)
        if result.state != "failed":
            return result, ""
        failure = await self._look(wish.step.markers.read_failure, wish.block)
        return result, failure.log if failure is not None else str(wish.step.logs)

    async def _look(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what waits for files, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._lookers, lambda: function(*args, **kwargs))


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _key(step: BlockStep, block: int) -> tuple[str, str, int]:
    return step.records.place(), step.fingerprint, block
