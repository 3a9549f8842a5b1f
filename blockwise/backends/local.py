"""Worker processes on this machine."""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from blockwise.advice import Names
from blockwise.backends.base import AfterOthers, Backend, Outcome, Referee, check_parent, queue_again
from blockwise.backends.kind import Kind, NoOptions, Setup
from blockwise.backends.local_executor import LocalExecutor, local_advice
from blockwise.backends.memory import available_memory
from blockwise.backends.pausing import Pausing
from blockwise.backends.pool import Pool, end_resting
from blockwise.backends.worker_link import Ended
from blockwise.backends.worker_process import WorkerProcess
from blockwise.faults import Faults
from blockwise.job import Order
from blockwise.plan import Item
from blockwise.step import BlockStep

logger = logging.getLogger(__name__)

STARTING = "starting workers; the first time they compile for half a minute"


class LocalBackend(AfterOthers):
    """A pool of processes, which serve one step after the other; between two they rest.

    Attributes:
        workers: number of processes.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
        advice: for blocks that fail for want of memory or time.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float | None,
        faults: Faults | None = None,
        others: Sequence[Backend] = (),
        names: Names | None = None,
    ) -> None:
        super().__init__(others)
        names = names or Names()
        self.workers = workers
        self.timeout_s = timeout_s
        self.faults = faults or Faults()
        self.advice = local_advice(names)
        self._pid = os.getpid()
        self._resting: list[WorkerProcess] = []
        weakref.finalize(self, end_resting, self._resting, self._pid)

    def close(self) -> None:
        """End the workers that rest."""
        end_resting(self._own(), self._pid)

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items; see ``Backend.run``."""
        waiting = deque(Order(item) for item in items)
        several = min(self.workers, len(items)) > 1
        pausing = Pausing[Order]()
        pool = Pool(step, min(self.workers, len(items)), self.timeout_s, self.faults, self._own(), self.advice)
        try:
            while (waiting or pausing or pool.busy) and not referee.outcome.stopped:
                waiting.extend(pausing.due())
                pool.hand_out(waiting)
                for ended in pool.results():
                    order = ended.order
                    if ended.killed and several and not order.alone:
                        _make_room(pool, step, ended)
                        waiting.append(replace(order, alone=True))
                        continue
                    again = referee.next_order(order, ended.result)
                    if again is not None and again.pause_s:
                        pausing.add(again, again.pause_s)
                    elif again is not None:
                        queue_again(waiting, again, referee.outcome)
                referee.outcome.note = _note(pool, len(pausing))
                report(referee.outcome)
                check_parent()
        except BaseException:
            pool.close()
            self.close()
            raise
        pool.rest()

    def _own(self) -> list[WorkerProcess]:
        """Workers that rest; in a fork, as Luigi makes one for each of several tasks, not those of its parent."""
        if self._pid != os.getpid():
            self._pid, self._resting = os.getpid(), []
        return self._resting


def _make_room(pool: Pool, step: BlockStep, ended: Ended) -> None:
    """Go on with fewer workers, down to one: there is most likely not memory enough for so many, as one was killed.

    That says nothing of its block, which does not count as tried, nor of those of others that were killed with it.
    """
    if pool.size == 1:
        return
    pool.size -= 1
    logger.warning(
        "%s: %s; going on with %d of the workers, and with this block alone at the end",
        step.label, ended.result.message, pool.size,
    )  # fmt: skip


def _note(pool: Pool, pausing: int) -> str:
    if not pool.ready:
        return STARTING
    return f"{pausing} blocks wait until trouble of the file system or a store is over" if pausing else ""


class LocalKind(Kind[NoOptions]):
    """Worker processes on this machine."""

    title: ClassVar[str] = "local"
    options = NoOptions

    def make(self, setup: Setup[NoOptions], others: Sequence[Backend]) -> LocalBackend:
        """Make a backend; see ``Kind``."""
        return LocalBackend(setup.workers, setup.timeout_s, setup.faults, others, setup.names)

    def make_executor(self, setup: Setup[NoOptions]) -> LocalExecutor:
        """Make an executor; see ``Kind``."""
        return LocalExecutor(setup.workers, setup.timeout_s, setup.faults, setup.names)

    def memory_limit(self, setup: Setup[NoOptions]) -> tuple[float, str]:
        """An equal share of the memory that there is."""
        memory = available_memory()
        limit = memory.size / setup.workers
        return limit, f"{memory.owner} has {limit / 1e9:.2f} GB for each of {setup.workers} workers"

    def at_once(self, setup: Setup[NoOptions]) -> tuple[int, str]:
        """A block for each worker."""
        return setup.workers, f"{setup.workers} worker{'s' * (setup.workers != 1)}"
