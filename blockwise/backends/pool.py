"""Worker processes of this machine: blocks handed out, lost ones replaced, sent to rest between two steps."""

from __future__ import annotations

import itertools
import os
import selectors
from collections import deque

from blockwise.advice import Advice
from blockwise.backends.worker_link import POLL_S, Ended
from blockwise.backends.worker_process import HERE, Home, WorkerProcess, open_log
from blockwise.faults import Faults
from blockwise.job import Order
from blockwise.step import BlockStep


class Pool:
    """Worker processes; one that dies or hangs is replaced.

    Attributes:
        size: most processes at a time; may be made smaller at any time.
        resting: processes that have served former steps; they come first.
        home: where processes are at home, and how their logs are called.
        first: number of the first process.
    """

    def __init__(
        self,
        step: BlockStep,
        size: int,
        timeout_s: float | None,
        faults: Faults,
        resting: list[WorkerProcess],
        advice: Advice,
        home: Home = HERE,
        first: int = 0,
    ) -> None:
        self.home = home
        self.first = first
        self.faults = faults
        self.advice = advice
        self.resting = resting
        self.step = step
        self.size = size
        self.timeout_s = timeout_s
        self.selector = selectors.DefaultSelector()
        self.processes: dict[int, WorkerProcess] = {}

    @property
    def ready(self) -> bool:
        """Whether any process has prepared."""
        return any(process.ready for process in self.processes.values())

    @property
    def busy(self) -> bool:
        """Whether any process has a block."""
        return any(process.order for process in self.processes.values())

    def hand_out(self, waiting: deque[Order]) -> None:
        """Give each process that has none an order; start processes as long as there are orders.

        One that is to be alone waits until all others have ended, and others wait for it.
        """
        while waiting and not any(process.order and process.order.alone for process in self.processes.values()):
            alone = waiting[0].alone
            if alone and self.busy:
                return
            process = self._idle(1 if alone else self.size)
            if process is None:
                return
            process.give(waiting.popleft())

    def _idle(self, size: int) -> WorkerProcess | None:
        """A process without an order, of so many at most; None where all are at work."""
        idle = [process for process in self.processes.values() if process.order is None]
        while len(self.processes) > size and idle:
            self._remove(idle.pop())
        if idle or len(self.processes) >= size:
            return idle[0] if idle else None
        number = next(number for number in itertools.count(self.first) if number not in self.processes)
        process = self.processes[number] = self._process(number)
        self.selector.register(process.stdout, selectors.EVENT_READ, process)
        return process

    def results(self) -> list[Ended]:
        """What has come in; waits a moment for it."""
        found: list[Ended] = []
        for key, _ in self.selector.select(POLL_S):
            process: WorkerProcess = key.data
            answers = process.answers()
            if answers is None:
                found += self._lost(process)
                continue
            found += filter(None, map(process.take, answers))
        for process in list(self.processes.values()):
            if process.overdue(self.timeout_s):
                found += self._lost(process, process.overdue_text())
        return found

    def rest(self) -> None:
        """Let processes rest that have nothing to do, and end the others."""
        for process in list(self.processes.values()):
            if process.ready and process.order is None:
                self._forget(process)
                process.rest()
                self.resting.append(process)
        self.close()

    def close(self) -> None:
        """End all processes."""
        for process in list(self.processes.values()):
            self._remove(process)
        self.selector.close()

    def _process(self, number: int) -> WorkerProcess:
        """One that rests, or a new one."""
        open_log(self.home.log(self.step, number)).close()  # where nothing can be written is for this process to tell
        while self.resting:
            process = self.resting.pop()
            if process.may_go_on:
                process.begin(self.step, number)
                return process
            process.kill()
        return WorkerProcess(self.step, number, self.faults, self.advice, self.home)

    def _lost(self, process: WorkerProcess, why: str = "") -> list[Ended]:
        self._forget(process)
        ended = process.lost(why)
        return [] if ended is None else [ended]

    def _remove(self, process: WorkerProcess) -> None:
        self._forget(process)
        process.kill()

    def _forget(self, process: WorkerProcess) -> None:
        self.selector.unregister(process.stdout)
        del self.processes[process.number]


def end_resting(resting: list[WorkerProcess], pid: int) -> None:
    """End processes that rest; only the process ``pid``, which has started them, does that, and no fork of it."""
    while resting:
        process = resting.pop()
        if pid == os.getpid():
            process.kill()
