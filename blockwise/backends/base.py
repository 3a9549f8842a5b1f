"""What every backend shares: the settings, the interface, and the decisions about blocks that failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.worker import Result

FAILURES_BEFORE_STOP = 4
"""A step in which this many blocks were given up, and none succeeded, is stopped: it would fail everywhere."""


@dataclass
class Outcome:
    """How a run over blocks stands, and in the end how it went.

    Attributes:
        total: blocks to do.
        computed: blocks that were computed.
        unchanged: blocks whose data was checked and is good.
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
    failed: dict[int, Result] = field(default_factory=dict)
    voxels: int = 0
    upstream: str = ""
    stopped: str = ""
    note: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Number of blocks that are finished."""
        return self.computed + self.unchanged

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

    def __init__(self, outcome: Outcome, max_attempts: int) -> None:
        self.outcome = outcome
        self.max_attempts = max_attempts

    def judge(self, result: Result, attempt: int) -> bool:
        """Take a result in; True where the block should be tried again."""
        if result.state != "failed":
            self.outcome.voxels += result.voxels
            if result.state == "computed":
                self.outcome.computed += 1
            else:
                self.outcome.unchanged += 1
            return False
        if not result.final and attempt < self.max_attempts:
            return True
        self._give_up(result)
        return False

    def _give_up(self, result: Result) -> None:
        outcome = self.outcome
        outcome.failed[result.block] = result
        if result.upstream:
            outcome.upstream = result.upstream
            outcome.stopped = f"{result.message}; {result.upstream} computes these blocks again"
        elif result.error == "DiskFullError":
            outcome.stopped = result.message
        elif not outcome.done and len(outcome.failed) >= FAILURES_BEFORE_STOP:
            outcome.stopped = f"the first {len(outcome.failed)} blocks all failed"


class Backend(Protocol):
    """A place where blocks are computed."""

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items, hand each result to the referee, and report now and then.

        Returns when nothing is left or the referee's outcome says ``stopped``. Whatever ends it, an exception
        included, no worker is left behind.
        """
