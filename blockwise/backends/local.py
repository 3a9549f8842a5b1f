"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from blockwise.backends.base import THREAD_VARIABLES, Backend, Outcome, Referee, check_parent, python_path
from blockwise.errors import UserError
from blockwise.faults import VARIABLE, Faults
from blockwise.grid import box_size
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.worker import START_LIMIT_S, Result, memory_advice

END_LIMIT_S = 5.0

STARTING = "starting workers; the first time they compile for half a minute"

POLL_S = 0.25


class LocalBackend:
    """A pool of processes.

    Attributes:
        workers: number of processes.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
        others: backends whose work outlives a run, so that an earlier run may have left some of it.
    """

    def __init__(
        self, workers: int, timeout_s: float | None, faults: Faults | None = None, others: Sequence[Backend] = ()
    ) -> None:
        self.workers = workers
        self.timeout_s = timeout_s
        self.faults = faults or Faults()
        self.others = tuple(others)

    def take_over(self, step: BlockStep) -> None:
        """End what other backends still have at work: two must not write the same blocks; see ``Backend``."""
        for other in self.others:
            other.clear(step)

    def clear(self, step: BlockStep) -> None:
        """Nothing to do: workers end with the process that has started them."""

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items; see ``Backend.run``."""
        waiting = deque(_Order(item, 1) for item in items)
        pool = _Pool(step, min(self.workers, len(items)), self.timeout_s, self.faults)
        try:
            while (waiting or pool.busy) and not referee.outcome.stopped:
                pool.hand_out(waiting)
                for order, result in pool.results():
                    if referee.judge(result, order.attempt):
                        _queue_again(waiting, _Order(order.item, order.attempt + 1), referee.outcome)
                referee.outcome.note = "" if pool.ready else STARTING
                report(referee.outcome)
                check_parent()
        finally:
            pool.close()


@dataclass(frozen=True)
class _Order:
    item: Item
    attempt: int


def _queue_again(waiting: deque[_Order], order: _Order, outcome: Outcome) -> None:
    """Try a block again at the end, when whatever disturbed it may be over.

    As long as no block has succeeded it is tried next: where all fail, this must show before all have been tried.
    """
    if outcome.done:
        waiting.append(order)
    else:
        waiting.appendleft(order)


class _Process:
    """One worker process and the order that it works on."""

    def __init__(self, step: BlockStep, number: int, faults: Faults) -> None:
        self.log = step.logs / f"worker-{number}.log"
        self.number = number
        self.order: _Order | None = None
        self.ready = False
        self.since = time.monotonic()
        with _open_log(self.log) as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "blockwise.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(faults),
                start_new_session=True,  # Ctrl-C in a terminal goes to the driver alone, which ends its workers
            )
        self._stdin, self.stdout = _pipes(self.process)
        self._partial = b""
        self.send({"step": step.to_json(), "log": str(self.log)})

    def send(self, message: object) -> None:
        # A worker that has died is noticed by the end of its answers.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def answers(self) -> list[dict[str, Any]] | None:
        """Answers that have come in; None when the process has ended."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def give(self, order: _Order) -> None:
        self.order = order
        self.since = time.monotonic()
        self.send(
            {
                "block": order.item.block,
                "stamps": dict(order.item.stamps),
                "check": order.item.check,
                "attempt": order.attempt,
            }
        )

    def overdue(self, timeout_s: float | None) -> bool:
        limit = timeout_s if self.ready else START_LIMIT_S
        return self.order is not None and limit is not None and time.monotonic() - self.since > limit

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()


class _Pool:
    """Worker processes; one that dies or hangs is replaced."""

    def __init__(self, step: BlockStep, size: int, timeout_s: float | None, faults: Faults) -> None:
        self.faults = faults
        self.step = step
        self.size = size
        self.timeout_s = timeout_s
        self.selector = selectors.DefaultSelector()
        self.processes: dict[int, _Process] = {}

    @property
    def ready(self) -> bool:
        return any(process.ready for process in self.processes.values())

    @property
    def busy(self) -> bool:
        return any(process.order for process in self.processes.values())

    def hand_out(self, waiting: deque[_Order]) -> None:
        for number in range(self.size):
            if not waiting:
                return
            if number not in self.processes:
                process = _Process(self.step, number, self.faults)
                self.processes[number] = process
                self.selector.register(process.stdout, selectors.EVENT_READ, process)
            if self.processes[number].order is None:
                self.processes[number].give(waiting.popleft())

    def results(self) -> list[tuple[_Order, Result]]:
        """What has come in; waits a moment for it."""
        found = []
        for key, _ in self.selector.select(POLL_S):
            process: _Process = key.data
            answers = process.answers()
            if answers is None:
                found += self._lost(process)
                continue
            for answer in answers:
                if "ready" in answer:
                    process.ready, process.since = True, time.monotonic()
                elif process.order:
                    found.append((process.order, Result(**answer)))
                    process.order = None
        for process in list(self.processes.values()):
            if process.overdue(self.timeout_s):
                found += self._lost(process, f"no result after {time.monotonic() - process.since:.0f} s (timeout_s)")
        return found

    def close(self) -> None:
        for process in list(self.processes.values()):
            self._remove(process)
        self.selector.close()

    def _lost(self, process: _Process, why: str = "") -> list[tuple[_Order, Result]]:
        if not why:
            try:
                process.process.wait(END_LIMIT_S)  # its answers have ended; let it end by itself, to learn how
            except subprocess.TimeoutExpired:
                why = f"gave no more answers, and did not end within {END_LIMIT_S:.0f} s"
        self._remove(process)
        why = why or _describe_end(process.process.returncode, self.step)
        if process.order is None:
            return []
        item = process.order.item
        voxels = box_size(self.step.grid.block(item.block).write_box)
        seconds = time.monotonic() - process.since
        message = f"worker process {process.process.pid}: {why}; see {process.log}"
        return [(process.order, Result(item.block, "failed", voxels, seconds, "WorkerLost", message))]

    def _remove(self, process: _Process) -> None:
        self.selector.unregister(process.stdout)
        del self.processes[process.number]
        process.kill()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a worker process was started without pipes")
    return process.stdin, process.stdout


def _open_log(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise UserError(f"{path}: the log of a worker cannot be written: {error.strerror}") from error


def _describe_end(code: int, step: BlockStep) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = f" (out of memory? {memory_advice(step)})" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _environment(faults: Faults) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    environment[VARIABLE] = faults.model_dump_json()
    environment["PYTHONPATH"] = python_path()
    return environment
