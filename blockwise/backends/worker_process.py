"""One worker process of this machine: started, given blocks, watched, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
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
        with open_log(log_path(step, number, log_name)) as log:
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
        self.log = log_path(step, number, self._log_name)
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
            process = psutil.Process(self.process.pid)
            family = (process, *process.children(recursive=True))  # engines may have a process of their own
            return sum(int(member.memory_info().rss) for member in family) <= BASE_MEMORY
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


def log_path(step: BlockStep, number: int, name: str = "worker") -> Path:
    """Log of a worker of a step."""
    return step.logs / f"{name}-{number}.log"


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a worker process was started without pipes")
    return process.stdin, process.stdout


def open_log(path: Path) -> IO[bytes]:
    """Open a log to be written on; a large one is put aside first.

    Raises:
        UserError: it cannot be written.
    """
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
