"""What every backend shares: the settings, the interface, and the decisions about blocks that failed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blockwise.job import Order
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.transient import PAUSES_S
from blockwise.worker import Result

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Each worker computes with one thread: parallelism is over blocks, and results do not depend on it."""

FAILURES_BEFORE_STOP = 4
"""A step in which this many blocks were given up, or jobs were lost, and nothing succeeded, is stopped."""

logger = logging.getLogger(__name__)

RECENT = 50
RECENT_JOBS = 20
MOSTLY = 0.9
"""A step is stopped when this part of the most recent first attempts at blocks, or of jobs, was in vain."""


@dataclass
class Outcome:
    """How a run over blocks stands, and in the end how it went.

    Attributes:
        total: blocks to do.
        computed: blocks that were computed.
        unchanged: blocks whose data was checked and is good.
        found: blocks that another process has computed meanwhile.
        failed: the last result of each block that was given up.
        voxels: voxels of the finished blocks.
        upstream: step with damaged blocks that must be computed again before this one can go on.
        stopped: why the rest was not tried; empty if all was.
        note: what the backend does at the moment, for people.
        started: monotonic time of the start.
    """

    total: int
    computed: int = 0
    unchanged: int = 0
    found: int = 0
    failed: dict[int, Result] = field(default_factory=dict)
    voxels: int = 0
    upstream: str = ""
    stopped: str = ""
    note: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Number of blocks that are finished."""
        return self.computed + self.unchanged + self.found

    @property
    def voxels_per_second(self) -> float:
        """Rate since the start."""
        return self.voxels / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the rate so far; None before the first block."""
        if not self.done:
            return None
        elapsed = time.monotonic() - self.started
        return elapsed / self.done * (self.total - self.done - len(self.failed))


class Referee:
    """Counts results and decides whether a block is tried again and whether the step goes on."""

    def __init__(self, outcome: Outcome, max_attempts: int, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self.outcome = outcome
        self.max_attempts = max_attempts
        self.pauses_s = pauses_s
        self._blocks: deque[bool] = deque(maxlen=RECENT)
        self._jobs: deque[bool] = deque(maxlen=RECENT_JOBS)

    def next_order(self, order: Order, result: Result) -> Order | None:
        """Take in the result of an order; the next attempt at its block, or None where there is to be none.

        A short failure is no attempt, as long as the block has pauses left; what it says of the step is nothing.
        """
        if result.transient and not result.final and order.short_failures < len(self.pauses_s):
            pause = self.pauses_s[order.short_failures]
            logger.warning("block %d: %s; next try in %g s", result.block, result.message, pause)
            return order.again(pause)
        return order.again() if self.judge(result, order.counted) else None

    def judge(self, result: Result, attempt: int) -> bool:
        """Take a result in; True where the block should be tried again."""
        if attempt == 1:
            self._blocks.append(result.state == "failed")
        if result.state != "failed":
            self.outcome.voxels += result.voxels
            if result.state == "computed":
                self.outcome.computed += 1
            elif result.state == "found":
                self.outcome.found += 1
            else:
                self.outcome.unchanged += 1
            return False
        if _mostly(self._blocks):
            self.outcome.stopped = (
                f"{sum(self._blocks)} of the last {RECENT} blocks failed, the last one with {result.error}: "
                f"{result.message}"
            )
        if not result.final and attempt < self.max_attempts:
            return True
        self._give_up(result)
        return False

    def judge_job(self, fruitless: bool, why: str) -> None:
        """Take in how a scheduler's job has ended: when nearly all do nothing, more of them only burn the queue.

        Args:
            fruitless: it has finished no block, and none of its blocks is known to be at fault.
            why: what happened, for the message.
        """
        self._jobs.append(fruitless)
        lost = sum(self._jobs)
        if fruitless and (_mostly(self._jobs) or (not self.outcome.done and lost >= FAILURES_BEFORE_STOP)):
            self.outcome.stopped = f"{lost} of the last {len(self._jobs)} jobs ended without finishing a block; {why}"

    def _give_up(self, result: Result) -> None:
        outcome = self.outcome
        outcome.failed[result.block] = result
        if result.upstream:
            outcome.upstream = result.upstream
            outcome.stopped = f"{result.message}; {result.upstream} computes these blocks again"
        elif result.error in ("DiskFullError", "OutputReplacedError"):
            outcome.stopped = result.message
        elif not outcome.done and len(outcome.failed) >= FAILURES_BEFORE_STOP:
            outcome.stopped = f"the first {len(outcome.failed)} blocks all failed"


class Backend(Protocol):
    """A place where blocks are computed."""

    def take_over(self, step: BlockStep) -> None:
        """Called before a step is planned: end what an earlier run has left at work, and this one cannot go on with.

        Raises:
            UserError: it cannot be ended; nothing was changed.
        """

    def clear(self, step: BlockStep) -> None:
        """End whatever still works on a step whose output is about to be made anew.

        Only a backend whose work outlives the process that has started it has something to end.
        """

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items, hand each result to the referee, and report now and then.

        Returns when nothing is left or the referee's outcome says ``stopped``. Whatever ends it, an exception
        included, nobody works on the step any more; workers without anything to do may wait for the next step.
        """


class AfterOthers:
    """What every backend does before it begins: earlier runs may have left something at work by other kinds.

    Attributes:
        others: backends whose work outlives a run, so that an earlier run may have left some of it.
    """

    def __init__(self, others: Sequence[Backend]) -> None:
        self.others = tuple(others)

    def take_over(self, step: BlockStep) -> None:
        """End what other backends still have at work: two must not write the same blocks; see ``Backend``."""
        for other in self.others:
            other.clear(step)

    def clear(self, step: BlockStep) -> None:
        """Nothing to do: work ends with the process that has asked for it."""


def queue_again(waiting: deque[Order], order: Order, outcome: Outcome) -> None:
    """Try a block again at the end, when whatever disturbed it may be over.

    As long as no block has succeeded it is tried next: where all fail, this must show before all have been tried.
    """
    if outcome.done:
        waiting.append(order)
    else:
        waiting.appendleft(order)


def python_path() -> str:
    """``PYTHONPATH`` with which workers find the packages where this process has found them, installed or not."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def check_parent() -> None:
    """End with Luigi's main process where a task runs in a process of its own: nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt("the process that started this task is gone")


def _mostly(flags: deque[bool]) -> bool:
    return len(flags) == flags.maxlen and sum(flags) >= MOSTLY * len(flags)
