"""Single blocks computed by worker processes of this machine, which stay."""

from __future__ import annotations

import contextlib
import threading

from blockwise.advice import Advice, Names
from blockwise.backends.worker_process import Home, WorkerProcess
from blockwise.errors import UserError
from blockwise.faults import Faults
from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.worker import Result


class LocalExecutor:
    """See ``Executor``. A worker goes on with the step that it has prepared for, where there is one to choose.

    Attributes:
        size: number of processes.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
        advice: for blocks that fail for want of memory or time.
    """

    def __init__(
        self, size: int, timeout_s: float | None, faults: Faults | None = None, names: Names | None = None
    ) -> None:
        self.size = size
        self.timeout_s = timeout_s
        self.faults = faults or Faults()
        self.advice = local_advice(names or Names())
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._busy: dict[int, WorkerProcess] = {}
        self._closed = False

    def compute(self, step: BlockStep, order: Order) -> Result:
        """See ``Executor``."""
        process = self._take(step)
        ended = None
        try:
            if process.step != step:
                process.begin(step, process.number)
            process.give(order)
            ended = process.finish(self.timeout_s)
        finally:
            with self._lock:
                del self._busy[process.number]
                if ended is not None and process.order is None and not self._closed:
                    self._idle.append(process)
                elif ended is None or process.order is None:  # one that is lost has ended already
                    process.kill()
        return ended.result

    def close(self) -> None:
        """See ``Executor``."""
        with self._lock:
            self._closed = True
            for process in self._idle:
                process.kill()
            self._idle.clear()
            for process in self._busy.values():
                with contextlib.suppress(ProcessLookupError):
                    process.process.kill()  # whoever waits for its answers finds it ended

    def _take(self, step: BlockStep) -> WorkerProcess:
        """A process that is prepared for a step, or prepares for it, or is new; it is busy from now on."""
        with self._lock:
            if self._closed:
                raise UserError("the workers have been ended")
            for dead in [process for process in self._idle if process.process.poll() is not None]:
                self._idle.remove(dead)
                dead.kill()
            same = [process for process in self._idle if process.step == step]
            if self._idle:
                process = (same or self._idle)[0]
                self._idle.remove(process)
            else:
                number = next(n for n in range(self.size) if n not in self._busy)
                process = WorkerProcess(step, number, self.faults, self.advice, Home("on-demand"))
            self._busy[process.number] = process
        return process


def local_advice(names: Names) -> Advice:
    """What to do where workers of this machine have not enough of something."""
    return names.advice(f"lower {names.workers}")
