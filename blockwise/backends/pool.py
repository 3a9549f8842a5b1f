"""Worker processes of this machine: started, given blocks, watched, sent to rest between two steps."""

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from blockwise.advice import Advice
from blockwise.backends.base import THREAD_VARIABLES, python_path
from blockwise.errors import UserError
from blockwise.faults import VARIABLE, Faults
from blockwise.grid import box_size
from blockwise.job import Order
from blockwise.logs import put_aside
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.worker import REST_LIMIT_S, START_LIMIT_S, Result, memory_advice

END_LIMIT_S = 5.0
POLL_S = 0.25


@dataclass(frozen=True)
class Ended:
    """An attempt at a block that has ended.

    Attributes:
        order: the block.
        result: what became of it.
        killed: its worker was killed from outside, most likely because memory was short.
    """

    order: Order
    result: Result
    killed: bool = False


class WorkerProcess:
    """One worker process and the order that it works on.

    Attributes:
        step: whose blocks it computes.
        number: among those of the step.
        log: its log of the step.
        order: what it works on; None where it waits.
        ready: it has prepared for the step.
        since: monotonic time at which it began with its order, or with the step.
    """

    step: BlockStep
    number: int
    log: Path

    def __init__(
        self, step: BlockStep, number: int, faults: Faults, advice: Advice, log_name: str = "worker"
    ) -> None:
        self._advice = advice
        self._log_name = log_name
        with _open_log(_log_path(step, number, log_name)) as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "blockwise.worker"],  # -P: the user's own tasks.py is not ours
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(faults),
                start_new_session=True,  # Ctrl-C in a terminal goes to the driver alone, which ends its workers
            )
        self._stdin, self.stdout = _pipes(self.process)
        self._partial = b""
        self.begin(step, number)

    def begin(self, step: BlockStep, number: int) -> None:
        """Have it prepare for a step."""
        self.step = step
        self.number = number
        self.log = _log_path(step, number, self._log_name)
        self.order: Order | None = None
        self.ready = False
        self.since = time.monotonic()
        self.send({"step": step.to_json(), "log": str(self.log), "advice": asdict(self._advice)})

    def rest(self) -> None:
        """Have it let go of the step."""
        self.since = time.monotonic()
        self.send({"rest": True})

    @property
    def may_go_on(self) -> bool:
        """Whether a resting process is there for certain when it gets its next step, and has given back its memory.

        Steps project what they need on top of what a new process has. The tables' libraries alone are more.
        """
        if self.process.poll() is not None or time.monotonic() - self.since > REST_LIMIT_S / 2:
            return False
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.process.pid).memory_info().rss) <= BASE_MEMORY
        return False

    def send(self, message: object) -> None:
        """Send it a line of JSON."""
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

    def give(self, order: Order) -> None:
        """Have it compute a block."""
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
        """Whether it takes too long, for its block or to prepare for it."""
        limit = timeout_s if self.ready else START_LIMIT_S
        return self.order is not None and limit is not None and time.monotonic() - self.since > limit

    def overdue_text(self) -> str:
        """Why one that is overdue is given up."""
        seconds = time.monotonic() - self.since
        if not self.ready:
            return f"not ready to compute after {seconds:.0f} s"
        return f"no result after {seconds:.0f} s; {self._advice.time}"

    def lost(self, why: str = "") -> Ended | None:
        """End it, as its answers have ended or for some other reason; what became of its order, if it had one."""
        if not why:
            try:
                self.process.wait(END_LIMIT_S)  # its answers have ended; let it end by itself, to learn how
            except subprocess.TimeoutExpired:
                why = f"gave no more answers, and did not end within {END_LIMIT_S:.0f} s"
        code = None if why else self.process.returncode
        self.kill()
        why = why or _describe_end(self.process.returncode, self.step, self._advice)
        if self.order is None:
            return None
        item = self.order.item
        voxels = box_size(self.step.grid.block(item.block).write_box)
        seconds = time.monotonic() - self.since
        message = f"worker process {self.process.pid}: {why}; see {self.log}"
        result = Result(item.block, "failed", voxels, seconds, "WorkerLost", message)
        return Ended(self.order, result, killed=code == -signal.SIGKILL)

    def kill(self) -> None:
        """End it, and wait for its end."""
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()


class Pool:
    """Worker processes; one that dies or hangs is replaced.

    Attributes:
        size: most processes at a time; may be made smaller at any time.
        resting: processes that have served former steps; they come first.
    """

    def __init__(
        self,
        step: BlockStep,
        size: int,
        timeout_s: float | None,
        faults: Faults,
        resting: list[WorkerProcess],
        advice: Advice,
    ) -> None:
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
        number = next(number for number in range(size) if number not in self.processes)
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
            for answer in answers:
                if "ready" in answer:
                    process.ready, process.since = True, time.monotonic()
                elif "turn" in answer:  # it had to wait for another process that has computed the block
                    process.since = time.monotonic()
                elif process.order:
                    found.append(Ended(process.order, Result(**answer)))
                    process.order = None
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
        _open_log(_log_path(self.step, number)).close()  # where nothing can be written is for this process to tell
        while self.resting:
            process = self.resting.pop()
            if process.may_go_on:
                process.begin(self.step, number)
                return process
            process.kill()
        return WorkerProcess(self.step, number, self.faults, self.advice)

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


def _log_path(step: BlockStep, number: int, name: str = "worker") -> Path:
    return step.logs / f"{name}-{number}.log"


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a worker process was started without pipes")
    return process.stdin, process.stdout


def _open_log(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_aside(path)
        return path.open("ab")
    except OSError as error:
        raise UserError(f"{path}: the log of a worker cannot be written: {error.strerror}") from error


def _describe_end(code: int, step: BlockStep, advice: Advice) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = f" (out of memory? {memory_advice(step, advice)})" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _environment(faults: Faults) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    environment[VARIABLE] = faults.model_dump_json()
    environment["PYTHONPATH"] = python_path()
    return environment
